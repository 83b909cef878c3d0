//go:build linux

package backendtest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/internal/netns"
	"github.com/skeg-dev/skeg/internal/testkit"
)

// Lab is a node between a client and Pods, each a network namespace of its
// own, joined by veth links:
//
//	client 10.77.0.2, .3 ── 10.77.0.1 node 10.78.0.1 ─┬─ 10.78.0.11, one Pod
//	       fd77::2           fd77::1       fd78::1    ├─ 10.78.0.12, one Pod
//	                                                  ├─ 10.78.0.13, one Pod
//	                                                  └─ 10.78.1.1 … .40, one Pod
//
// In every Pod, servers on port 8080 (TCP, UDP) tell who they are and whom they
// see. All of it goes with the test.
type Lab struct {
	// Node is the path of the node's namespace.
	Node    string
	sources map[netip.Addr]string // namespace by address
	dir     string
}

// NewLab builds a Lab. It needs root.
func NewLab(t testing.TB) *Lab {
	t.Helper()
	testkit.RequireRoot(t)
	l := &Lab{dir: t.TempDir(), sources: map[netip.Addr]string{}}
	l.Node = l.namespace(t, "node", NodeAddr, NodeAddr6)
	l.in(t, l.Node, func() error {
		// Redirects and ICMP errors share one budget in the kernel, so that a
		// hairpin, which sends a redirect, would silence a reject.
		return errors.Join(setting("ipv4/ip_forward", "1"), setting("ipv6/conf/all/forwarding", "1"),
			setting("ipv4/conf/all/send_redirects", "0"), setting("ipv4/conf/default/send_redirects", "0"))
	})
	client := l.namespace(t, "client", Client, OtherClient, Client6)
	l.join(t, "client", client, []netip.Addr{NodeAddr, NodeAddr6}, []netip.Addr{Client, OtherClient, Client6})
	for n := 1; n <= 3; n++ {
		four, six := Endpoint(n).Addr(), Endpoint6(n).Addr()
		name := fmt.Sprintf("pod%d", n)
		l.join(t, name, l.namespace(t, name, four, six), []netip.Addr{gateway, gateway6}, []netip.Addr{four, six})
		l.serve(t, four, six)
	}
	var many []netip.Addr
	for n := 1; n <= crowd; n++ {
		many = append(many, crowded(n).Addr())
	}
	l.join(t, "crowd", l.namespace(t, "crowd", many...), []netip.Addr{gateway, gateway6}, many)
	l.serve(t, many...)
	// The node sends everything else to the client, as it would to a router.
	l.in(t, l.Node, func() error {
		return errors.Join(route("client", netip.Prefix{}, Client), route("client", netip.Prefix{}, Client6))
	})
	return l
}

// Namespace makes an empty network namespace and returns its path.
func Namespace(t testing.TB) string {
	t.Helper()
	testkit.RequireRoot(t)
	return (&Lab{dir: t.TempDir(), sources: map[netip.Addr]string{}}).namespace(t, "empty")
}

func (l *Lab) namespace(t testing.TB, name string, addrs ...netip.Addr) string {
	t.Helper()
	path := filepath.Join(l.dir, name)
	if err := netns.Create(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Remove(path); err != nil {
			t.Error(err)
		}
	})
	l.in(t, path, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return errors.Join(setting("ipv6/conf/all/disable_ipv6", "0"), setting("ipv6/conf/default/accept_dad", "0"), netlink.LinkSetUp(lo))
	})
	for _, a := range addrs {
		l.sources[a] = path
	}
	return path
}

func (l *Lab) in(t testing.TB, namespace string, fn func() error) {
	t.Helper()
	if err := netns.Do(namespace, fn); err != nil {
		t.Fatal(err)
	}
}

func setting(name, value string) error {
	return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644)
}

// join links the node (on the link's name) and another namespace (on eth0),
// each with its addresses, and makes the node the other's router.
func (l *Lab) join(t testing.TB, name, peer string, node, other []netip.Addr) {
	t.Helper()
	target, err := vnetns.GetFromPath(peer)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	l.in(t, l.Node, func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(target)}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("add link %s: %w", name, err)
		}
		return configure(name, node, other)
	})
	l.in(t, peer, func() error {
		if err := configure("eth0", other, node); err != nil {
			return err
		}
		return errors.Join(route("eth0", netip.Prefix{}, node[0]), route("eth0", netip.Prefix{}, node[1]))
	})
}

// configure gives a link single addresses, and routes to those across it.
func configure(name string, own, across []netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	for _, a := range own {
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
		if a.Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("add %s to %s: %w", a, name, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	for _, a := range across {
		if err := route(name, netip.PrefixFrom(a, a.BitLen()), netip.Addr{}); err != nil {
			return err
		}
	}
	return nil
}

// route adds one: to everything when the prefix is zero, direct when via is.
func route(name string, to netip.Prefix, via netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK}
	if to.IsValid() {
		r.Dst = &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), to.Addr().BitLen())}
	}
	if via.IsValid() {
		r.Gw, r.Scope = via.AsSlice(), netlink.SCOPE_UNIVERSE
		r.SetFlag(netlink.FLAG_ONLINK)
		if via.Is6() {
			r.Dst = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		}
	}
	if err := netlink.RouteAdd(r); err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("add route %v via %v on %s: %w", to, via, name, err)
	}
	return nil
}

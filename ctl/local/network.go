package local

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	bridgeName = "br0"
	netnsDir   = "/run/netns"
)

func (s Spec) switchNamespace() string          { return s.Name + "-switch" }
func (s Spec) nodeNamespace(node string) string { return s.Name + "-" + node }
func (s Spec) hostLink() string                 { return s.Name + "-host" }
func (s Spec) cgroup() string                   { return s.Name }
func (s Spec) hostTable() string                { return s.Name + "-up" }

// checkRanges refuses a node, pod or service range that this machine already
// routes somewhere else.
func checkRanges(s Spec) error {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	var errs []error
	for flag, want := range map[string]netip.Prefix{"--node-cidr": s.NodeCIDR, "--pod-cidr": s.PodCIDR, "--service-cidr": s.ServiceCIDR} {
		for _, r := range routes {
			if r.Dst == nil || r.Dst.IP.IsUnspecified() {
				continue
			}
			ones, _ := r.Dst.Mask.Size()
			addr, _ := netip.AddrFromSlice(r.Dst.IP.To4())
			taken := netip.PrefixFrom(addr, ones)
			if taken.Overlaps(want) && !s.owns(r) {
				errs = append(errs, fmt.Errorf("%s: %s is in use on this machine (route to %s); choose another range", flag, want, taken))
			}
		}
	}
	return errors.Join(errs...)
}

func (s Spec) owns(r netlink.Route) bool {
	link, err := netlink.LinkByIndex(r.LinkIndex)
	return err == nil && link.Attrs().Name == s.hostLink()
}

// ensureSwitch makes the bridge in its namespace and the host's port on it.
func ensureSwitch(s Spec) error {
	ns, err := ensureNamespace(s.switchNamespace())
	if err != nil {
		return err
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("open %s: %w", s.switchNamespace(), err)
	}
	defer h.Close()
	if _, err := h.LinkByName(bridgeName); err != nil {
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}); err != nil {
			return fmt.Errorf("add bridge: %w", err)
		}
	}
	bridge, err := h.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	if err := h.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("set bridge up: %w", err)
	}
	host, err := netns.Get()
	if err != nil {
		return fmt.Errorf("open the host's namespace: %w", err)
	}
	defer host.Close()
	if err := ensurePort(h, ns, host, s.hostLink(), "host"); err != nil {
		return err
	}
	return configure(nil, s.hostLink(), netip.PrefixFrom(s.HostIP(), s.NodeCIDR.Bits()), netip.Addr{})
}

// ensureNode makes a node's namespace and connects it to the bridge.
func ensureNode(s Spec, i int) error {
	name := NodeName(i)
	ns, err := ensureNamespace(s.nodeNamespace(name))
	if err != nil {
		return err
	}
	defer ns.Close()
	sw, err := netns.GetFromName(s.switchNamespace())
	if err != nil {
		return fmt.Errorf("open %s: %w", s.switchNamespace(), err)
	}
	defer sw.Close()
	h, err := netlink.NewHandleAt(sw)
	if err != nil {
		return fmt.Errorf("open %s: %w", s.switchNamespace(), err)
	}
	defer h.Close()
	if err := ensurePort(h, sw, ns, "eth0", name); err != nil {
		return err
	}
	return configure(&ns, "eth0", netip.PrefixFrom(s.NodeIP(i), s.NodeCIDR.Bits()), s.HostIP())
}

// ensurePort makes a veth pair: port on the bridge in sw, link in namespace to.
func ensurePort(h *netlink.Handle, sw, to netns.NsHandle, link, port string) error {
	if _, err := h.LinkByName(port); err == nil {
		return nil
	}
	pair := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: port},
		PeerName:      link,
		PeerNamespace: netlink.NsFd(int(to)),
	}
	if err := h.LinkAdd(pair); err != nil {
		return fmt.Errorf("add link %s: %w", link, err)
	}
	bridge, err := h.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	made, err := h.LinkByName(port)
	if err != nil {
		return fmt.Errorf("find port %s: %w", port, err)
	}
	if err := h.LinkSetMaster(made, bridge); err != nil {
		return fmt.Errorf("join port %s to the bridge: %w", port, err)
	}
	if err := h.LinkSetUp(made); err != nil {
		return fmt.Errorf("set port %s up: %w", port, err)
	}
	return nil
}

// configure gives a link its address, sets it and lo up and adds the default
// route; in the host's namespace when ns is nil.
func configure(ns *netns.NsHandle, name string, addr netip.Prefix, gateway netip.Addr) error {
	h := &netlink.Handle{}
	if ns != nil {
		var err error
		if h, err = netlink.NewHandleAt(*ns); err != nil {
			return fmt.Errorf("open namespace: %w", err)
		}
		defer h.Close()
		lo, err := h.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find lo: %w", err)
		}
		if err := h.LinkSetUp(lo); err != nil {
			return fmt.Errorf("set lo up: %w", err)
		}
	}
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := h.AddrReplace(link, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return fmt.Errorf("set address %s: %w", addr, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	if !gateway.IsValid() {
		return nil
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice()}
	if err := h.RouteReplace(route); err != nil {
		return fmt.Errorf("set default route: %w", err)
	}
	return nil
}

// routeVia sends dst through a node.
func (s Spec) routeVia(dst netip.Prefix, node netip.Addr) error {
	link, err := netlink.LinkByName(s.hostLink())
	if err != nil {
		return fmt.Errorf("find link %s: %w", s.hostLink(), err)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(dst), Gw: node.AsSlice()}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("route %s via %s: %w", dst, node, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// ensureNamespace opens a named network namespace, making it when missing.
func ensureNamespace(name string) (netns.NsHandle, error) {
	if ns, err := netns.GetFromName(name); err == nil {
		return ns, nil
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	host, err := netns.Get()
	if err != nil {
		return 0, fmt.Errorf("open the host's namespace: %w", err)
	}
	defer host.Close()
	ns, err := netns.NewNamed(name) // switches this thread to it
	if err != nil {
		return 0, fmt.Errorf("make namespace %s: %w", name, err)
	}
	if err := netns.Set(host); err != nil {
		return 0, fmt.Errorf("return to the host's namespace: %w", err)
	}
	return ns, nil
}

// inNamespace runs do with this goroutine's thread in the namespace; processes
// started by do are in it too. An empty name is the host's.
func inNamespace(name string, do func() error) error {
	if name == "" {
		return do()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	host, err := netns.Get()
	if err != nil {
		return fmt.Errorf("open the host's namespace: %w", err)
	}
	defer host.Close()
	ns, err := netns.GetFromName(name)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", name, err)
	}
	defer ns.Close()
	if err := netns.Set(ns); err != nil {
		return fmt.Errorf("enter namespace %s: %w", name, err)
	}
	err = do()
	if back := netns.Set(host); back != nil {
		return errors.Join(err, fmt.Errorf("return to the host's namespace: %w", back))
	}
	return err
}

// removeNetwork removes the namespaces (and with them all links in them) and
// the host's link. What is gone already is no error.
func removeNetwork(s Spec) error {
	var errs []error
	if link, err := netlink.LinkByName(s.hostLink()); err == nil {
		if err := netlink.LinkDel(link); err != nil {
			errs = append(errs, fmt.Errorf("remove link %s: %w", s.hostLink(), err))
		}
	}
	entries, err := os.ReadDir(netnsDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, e := range entries {
		if e.Name() == s.switchNamespace() || strings.HasPrefix(e.Name(), s.nodeNamespace("node-")) {
			errs = append(errs, removeNamespace(filepath.Join(netnsDir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

func removeNamespace(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

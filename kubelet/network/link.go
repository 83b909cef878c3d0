//go:build linux

package network

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/internal/netns"
)

// podLink is the name of a Pod's link inside its namespace, as CNI has it.
const podLink = "eth0"

// defaultMTU is Ethernet's, when the node has no default route to take it from.
const defaultMTU = 1500

// hostLinkName is the host end of a Pod's veth pair: names are at most 15
// bytes, so a digest of the UID stands for it.
func hostLinkName(uid types.UID) string {
	sum := sha256.Sum256([]byte(uid))
	return "veth" + hex.EncodeToString(sum[:4])
}

// hardwareAddr derives a locally administered address from an IP, so that an
// address used again by another Pod keeps its neighbour entries valid.
func hardwareAddr(ip netip.Addr) net.HardwareAddr {
	b := ip.AsSlice()
	return append(net.HardwareAddr{0x0a, 0x58}, b[len(b)-4:]...)
}

// ensureBridge brings up the bridge with the gateway addresses of the ranges
// and no others, and the settings the Pod network needs.
func (n *Network) ensureBridge(ranges []netip.Prefix) error {
	mtu := n.mtu()
	link, err := n.links.LinkByName(n.config.Bridge)
	if isNotFound(err) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = n.config.Bridge
		attrs.MTU = mtu
		attrs.HardwareAddr = hardwareAddr(gateway(ranges[0]))
		if err := n.links.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add bridge %s: %w", n.config.Bridge, err)
		}
		link, err = n.links.LinkByName(n.config.Bridge)
	}
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", n.config.Bridge, err)
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("link %s exists and is a %s, not a bridge", n.config.Bridge, link.Type())
	}
	if link.Attrs().MTU != mtu {
		if err := n.links.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("set MTU of bridge: %w", err)
		}
	}
	if err := n.setGateways(link, ranges); err != nil {
		return err
	}
	if err := n.links.LinkSetUp(link); err != nil {
		return fmt.Errorf("set bridge up: %w", err)
	}
	return n.inHost(func() error { return hostSysctls(n.config.Bridge, ranges) })
}

func (n *Network) setGateways(link netlink.Link, ranges []netip.Prefix) error {
	want := map[netip.Prefix]bool{}
	for _, p := range ranges {
		addr := netip.PrefixFrom(gateway(p), p.Bits())
		want[addr] = true
		if err := n.links.AddrReplace(link, address(addr)); err != nil {
			return fmt.Errorf("add address %s to bridge: %w", addr, err)
		}
	}
	addrs, err := n.links.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses of bridge: %w", err)
	}
	for _, a := range addrs {
		p, ok := prefixOf(a.IPNet)
		if !ok || want[p] || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		if err := n.links.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove old address %s from bridge: %w", p, err)
		}
	}
	return nil
}

// mtu is the configured one, or that of the link with the default route.
func (n *Network) mtu() int {
	if n.config.MTU > 0 {
		return n.config.MTU
	}
	routes, err := n.links.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return defaultMTU
	}
	for _, r := range routes {
		if r.Dst != nil && r.Dst.IP != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if link, err := n.links.LinkByIndex(r.LinkIndex); err == nil {
			return link.Attrs().MTU
		}
	}
	return defaultMTU
}

// connect makes the veth pair of a Pod and configures both ends.
func (n *Network) connect(r *record, nsPath string) error {
	bridge, err := n.links.LinkByName(n.config.Bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", n.config.Bridge, err)
	}
	ns, err := os.Open(nsPath)
	if err != nil {
		return fmt.Errorf("open pod namespace: %w", err)
	}
	defer func() { _ = ns.Close() }() // read-only, nothing to lose
	inside, err := netlink.NewHandleAt(vns.NsHandle(ns.Fd()))
	if err != nil {
		return fmt.Errorf("open netlink in pod namespace: %w", err)
	}
	defer inside.Close()
	host := hostLinkName(r.UID)
	if err := n.ensurePair(inside, host, int(ns.Fd()), bridge.Attrs().MTU, hardwareAddr(r.IPs[0])); err != nil {
		return err
	}
	outer, err := n.links.LinkByName(host)
	if err != nil {
		return fmt.Errorf("find host link %s: %w", host, err)
	}
	if err := n.links.LinkSetMaster(outer, bridge); err != nil {
		return fmt.Errorf("put %s on bridge: %w", host, err)
	}
	// Where br_netfilter is on, a packet whose destination was translated to a
	// Pod of this node is bridged instead of routed, be it to its own sender.
	if err := n.links.LinkSetHairpin(outer, true); err != nil {
		return fmt.Errorf("set hairpin mode of %s: %w", host, err)
	}
	if err := n.links.LinkSetUp(outer); err != nil {
		return fmt.Errorf("set %s up: %w", host, err)
	}
	if err := netns.Do(nsPath, podSysctls); err != nil {
		return err
	}
	return n.configurePod(inside, r)
}

// ensurePair makes the pair unless both ends are there. Half a pair cannot
// be; a host end whose peer is elsewhere is a leftover and goes.
func (n *Network) ensurePair(inside *netlink.Handle, host string, nsFD, mtu int, mac net.HardwareAddr) error {
	_, errInside := inside.LinkByName(podLink)
	_, errHost := n.links.LinkByName(host)
	if errInside == nil && errHost == nil {
		return nil
	}
	for _, err := range []error{errInside, errHost} {
		if err != nil && !isNotFound(err) {
			return fmt.Errorf("look for pod links: %w", err)
		}
	}
	if err := n.removeLink(host); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = host
	attrs.MTU = mtu
	pair := &netlink.Veth{
		LinkAttrs: attrs, PeerName: podLink, PeerHardwareAddr: mac,
		PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(nsFD),
	}
	if err := n.links.LinkAdd(pair); err != nil {
		return fmt.Errorf("add veth pair %s: %w", host, err)
	}
	return nil
}

// configurePod sets links, addresses and routes inside the namespace.
func (n *Network) configurePod(inside *netlink.Handle, r *record) error {
	lo, err := inside.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	if err := inside.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set loopback up: %w", err)
	}
	link, err := inside.LinkByName(podLink)
	if err != nil {
		return fmt.Errorf("find %s: %w", podLink, err)
	}
	if err := inside.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", podLink, err)
	}
	for i, ip := range r.IPs {
		addr := address(netip.PrefixFrom(ip, ip.BitLen()))
		if ip.Is6() {
			addr.Flags = unix.IFA_F_NODAD // leases make it unique
		}
		if err := inside.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("add address %s: %w", ip, err)
		}
		if err := defaultRoute(inside, link, gateway(n.ranges[i])); err != nil {
			return err
		}
	}
	return nil
}

// defaultRoute goes through a gateway that no address makes a neighbour: a
// route of link scope to it comes first.
func defaultRoute(inside *netlink.Handle, link netlink.Link, via netip.Addr) error {
	index := link.Attrs().Index
	near := &netlink.Route{LinkIndex: index, Dst: ipNet(netip.PrefixFrom(via, via.BitLen())), Scope: netlink.SCOPE_LINK}
	if err := inside.RouteReplace(near); err != nil {
		return fmt.Errorf("add route to gateway %s: %w", via, err)
	}
	everything := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if via.Is6() {
		everything = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	far := &netlink.Route{LinkIndex: index, Dst: ipNet(everything), Gw: via.AsSlice()}
	if err := inside.RouteReplace(far); err != nil {
		return fmt.Errorf("add default route via %s: %w", via, err)
	}
	return nil
}

// removeLink deletes a link of the host; one that is not there is a success.
func (n *Network) removeLink(name string) error {
	link, err := n.links.LinkByName(name)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := n.links.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete link %s: %w", name, err)
	}
	return nil
}

func isNotFound(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound)
}

func address(p netip.Prefix) *netlink.Addr { return &netlink.Addr{IPNet: ipNet(p)} }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), ok
}

//go:build linux

package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LinkName is the link that holds the DNS addresses on a node.
const LinkName = "skeg-dns"

// EnsureAddresses gives the node the addresses, on a link of our own (a bridge
// without ports: every node has bridges, not every kernel has dummy links), so
// that Pods reach this node's server. Addresses of an earlier configuration
// are removed.
func EnsureAddresses(addrs []netip.Addr) error {
	err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: LinkName}})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add link %s: %w", LinkName, err)
	}
	link, err := netlink.LinkByName(LinkName)
	if err != nil {
		return fmt.Errorf("find link %s: %w", LinkName, err)
	}
	wanted := map[netip.Addr]bool{}
	for _, a := range addrs {
		wanted[a] = true
		full := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
		if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: full}); err != nil {
			return fmt.Errorf("add %s to %s: %w", a, LinkName, err)
		}
	}
	present, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", LinkName, err)
	}
	for i := range present {
		if a, ok := netip.AddrFromSlice(present[i].IP); ok && !wanted[a.Unmap()] && !a.IsLinkLocalUnicast() {
			if err := netlink.AddrDel(link, &present[i]); err != nil {
				return fmt.Errorf("remove %s from %s: %w", a, LinkName, err)
			}
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", LinkName, err)
	}
	return nil
}

// RemoveAddresses removes the link; none is a success.
func RemoveAddresses() error {
	link, err := netlink.LinkByName(LinkName)
	if err != nil {
		var none netlink.LinkNotFoundError
		if errors.As(err, &none) {
			return nil
		}
		return fmt.Errorf("find link %s: %w", LinkName, err)
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("remove link %s: %w", LinkName, err)
	}
	return nil
}

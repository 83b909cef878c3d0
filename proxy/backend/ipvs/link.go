//go:build linux

package ipvs

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LinkName is the link that makes the addresses of Services local; the name is
// upstream's, which other programs know to leave alone.
const LinkName = "kube-ipvs0"

// ensureLink makes the link: a dummy or, where the kernel has none, a bridge
// without ports.
func ensureLink() (netlink.Link, error) {
	attrs := netlink.LinkAttrs{Name: LinkName}
	err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs})
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("add link %s: %w", LinkName, err)
	}
	link, err := netlink.LinkByName(LinkName)
	if err != nil {
		return nil, fmt.Errorf("find link %s: %w", LinkName, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set %s up: %w", LinkName, err)
	}
	return link, nil
}

// setAddresses gives the link these addresses and no others.
func setAddresses(want []netip.Addr) error {
	link, err := ensureLink()
	if err != nil {
		return err
	}
	have, err := addresses(link)
	if err != nil {
		return err
	}
	wanted := map[netip.Addr]bool{}
	for _, a := range want {
		wanted[a] = true
		if !have[a] {
			if err := netlink.AddrReplace(link, hostAddr(a)); err != nil {
				return fmt.Errorf("add %s to %s: %w", a, LinkName, err)
			}
		}
	}
	for a := range have {
		if !wanted[a] {
			if err := netlink.AddrDel(link, hostAddr(a)); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return fmt.Errorf("remove %s from %s: %w", a, LinkName, err)
			}
		}
	}
	return nil
}

func hostAddr(a netip.Addr) *netlink.Addr {
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
	if a.Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return addr
}

func addresses(link netlink.Link) (map[netip.Addr]bool, error) {
	list, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	all := map[netip.Addr]bool{}
	for _, entry := range list {
		if a, ok := netip.AddrFromSlice(entry.IP); ok && !a.Unmap().IsLinkLocalUnicast() {
			all[a.Unmap()] = true
		}
	}
	return all, nil
}

// onLink returns the addresses of the link, none when there is no link.
func onLink() (map[netip.Addr]bool, error) {
	link, err := netlink.LinkByName(LinkName)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find link %s: %w", LinkName, err)
	}
	return addresses(link)
}

// removeLink removes the link; none is a success.
func removeLink() error {
	link, err := netlink.LinkByName(LinkName)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find link %s: %w", LinkName, err)
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("remove link %s: %w", LinkName, err)
	}
	return nil
}

// nodeAddresses are the node's own: those of all links but ours.
func nodeAddresses() ([]netip.Addr, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var all []netip.Addr
	for _, link := range links {
		if link.Attrs().Name == LinkName {
			continue
		}
		have, err := addresses(link)
		if err != nil {
			return nil, err
		}
		for a := range have {
			all = append(all, a)
		}
	}
	return all, nil
}

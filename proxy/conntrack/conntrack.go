//go:build linux

// Package conntrack removes connection tracking entries that would keep UDP
// clients with an endpoint that is gone, or in the dark after the first
// endpoint came: UDP has no end of a connection by which the kernel would
// notice. Called by app after each sync. It starts no goroutines.
package conntrack

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// target is where a flow was sent to; the zero Addr is any address of the node.
type target struct {
	addr netip.Addr
	port uint16
}

// Reconcile deletes the entries of UDP flows to a frontend of rules whose
// other end is not one of its endpoints, and returns how many. Flows that are
// right are not touched. It reads the table only when rules have UDP.
func Reconcile(rules *ruleset.Ruleset) (deleted uint, err error) {
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		want := targets(rules, family == unix.AF_INET6)
		if len(want) == 0 {
			continue
		}
		n, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, &stale{want})
		if err != nil {
			return deleted, fmt.Errorf("delete stale UDP flows: %w", err)
		}
		deleted += n
	}
	return deleted, nil
}

func targets(rules *ruleset.Ruleset, six bool) map[target]map[netip.AddrPort]bool {
	want := map[target]map[netip.AddrPort]bool{}
	for i := range rules.Frontends {
		f := &rules.Frontends[i]
		if f.Protocol != ruleset.UDP || f.Six != six {
			continue
		}
		endpoints := map[netip.AddrPort]bool{}
		for _, list := range [][]netip.AddrPort{f.Endpoints, f.Insiders} {
			for _, e := range list {
				endpoints[e] = true
			}
		}
		want[target{f.Address, f.Port}] = endpoints
	}
	return want
}

// stale is a netlink.CustomConntrackFilter.
type stale struct {
	want map[target]map[netip.AddrPort]bool
}

// MatchConntrackFlow reports whether the flow is to be deleted.
func (s *stale) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	sentTo, answers := addr(flow.Forward.DstIP), addr(flow.Reverse.SrcIP)
	endpoints, known := s.want[target{sentTo, flow.Forward.DstPort}]
	if !known {
		// A node port: only flows that were redirected are surely its.
		endpoints, known = s.want[target{netip.Addr{}, flow.Forward.DstPort}]
		known = known && answers != sentTo
	}
	return known && !endpoints[netip.AddrPortFrom(answers, flow.Reverse.SrcPort)]
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip) // invalid stays the zero Addr
	return a.Unmap()
}

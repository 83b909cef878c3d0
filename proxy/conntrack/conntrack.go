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
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// target is where a flow was sent to; the zero Addr is any address of the node.
type target struct {
	addr netip.Addr
	port uint16
}

// Reconcile deletes the entries of UDP flows to frontends that went or came
// (a changed one did both) whose other end is none of its endpoints now, and
// returns how many. Flows that are right are not touched. It reads the table
// only when some of the frontends are UDP.
func Reconcile(gone, added []ruleset.Frontend) (deleted uint, err error) {
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		want := targets(gone, added, family == unix.AF_INET6)
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

// targets lists the endpoints of each target that changed: none of those that
// went.
func targets(gone, added []ruleset.Frontend, six bool) map[target]map[netip.AddrPort]bool {
	want := map[target]map[netip.AddrPort]bool{}
	for i := range gone {
		if f := &gone[i]; f.Protocol == ruleset.UDP && f.Six == six {
			want[target{f.Address, f.Port}] = map[netip.AddrPort]bool{}
		}
	}
	for i := range added {
		f := &added[i]
		if f.Protocol != ruleset.UDP || f.Six != six {
			continue
		}
		endpoints := map[netip.AddrPort]bool{}
		for _, e := range slices.Concat(f.Endpoints, f.Insiders) {
			endpoints[e] = true
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

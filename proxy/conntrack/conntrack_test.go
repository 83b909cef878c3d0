//go:build linux

package conntrack

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/internal/netns"
	"github.com/skeg-dev/skeg/proxy/backend/backendtest"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// flow makes an entry of a flow to one address that another answers.
func flow(protocol uint8, port uint16, to, answers string) *netlink.ConntrackFlow {
	sent, from := netip.MustParseAddrPort(to), netip.MustParseAddrPort(answers)
	client := net.IP{10, 0, 0, 9}
	family := unix.AF_INET
	if sent.Addr().Is6() {
		client, family = net.ParseIP("fd00::9"), unix.AF_INET6
	}
	return &netlink.ConntrackFlow{
		FamilyType: uint8(family), TimeOut: 100,
		Forward:   netlink.IPTuple{SrcIP: client, DstIP: sent.Addr().AsSlice(), SrcPort: port, DstPort: sent.Port(), Protocol: protocol},
		Reverse:   netlink.IPTuple{SrcIP: from.Addr().AsSlice(), DstIP: client, SrcPort: from.Port(), DstPort: port, Protocol: protocol},
		ProtoInfo: protoInfo(protocol),
	}
}

func protoInfo(protocol uint8) netlink.ProtoInfo {
	if protocol == unix.IPPROTO_TCP {
		return &netlink.ProtoInfoTCP{State: 3}
	}
	return nil
}

func TestReconcile(t *testing.T) {
	udp := func(at string, to ...string) ruleset.Frontend {
		place := netip.MustParseAddrPort(at)
		f := ruleset.Frontend{Service: "a/b:", Address: place.Addr(), Six: place.Addr().Is6(), Port: place.Port(), Protocol: ruleset.UDP}
		for _, text := range to {
			f.Endpoints = append(f.Endpoints, netip.MustParseAddrPort(text))
		}
		return f
	}
	nodePort := udp("0.0.0.0:30053", "10.1.0.1:53")
	nodePort.Address, nodePort.NodePort = netip.Addr{}, true
	tcp := udp("10.96.0.10:53", "10.1.0.9:53")
	tcp.Protocol = ruleset.TCP
	// Entries, by their client's port.
	entries := map[uint16]*netlink.ConntrackFlow{
		1001: flow(unix.IPPROTO_UDP, 1001, "10.96.0.10:53", "10.1.0.1:53"),     // the endpoint it has
		1002: flow(unix.IPPROTO_UDP, 1002, "10.96.0.10:53", "10.1.0.2:53"),     // an endpoint that went
		1003: flow(unix.IPPROTO_UDP, 1003, "10.96.0.10:53", "10.96.0.10:53"),   // from before there was one
		1004: flow(unix.IPPROTO_UDP, 1004, "10.96.0.10:54", "10.1.0.2:53"),     // another port
		1005: flow(unix.IPPROTO_UDP, 1005, "10.96.0.11:53", "10.1.0.2:53"),     // another Service
		1006: flow(unix.IPPROTO_TCP, 1006, "10.96.0.10:53", "10.1.0.2:53"),     // TCP
		1007: flow(unix.IPPROTO_UDP, 1007, "192.168.0.1:30053", "10.1.0.1:53"), // node port, right
		1008: flow(unix.IPPROTO_UDP, 1008, "192.168.0.1:30053", "10.1.0.2:53"), // node port, stale
		1009: flow(unix.IPPROTO_UDP, 1009, "8.8.8.8:30053", "8.8.8.8:30053"),   // not ours, on a node port's number
		1010: flow(unix.IPPROTO_UDP, 1010, "10.96.0.12:53", "10.1.0.1:53"),     // a Service that went
		1011: flow(unix.IPPROTO_UDP, 1011, "[fd96::a]:53", "[fd01::2]:53"),     // IPv6, stale
		1012: flow(unix.IPPROTO_UDP, 1012, "[fd96::a]:53", "[fd01::1]:53"),     // IPv6, right
	}
	var left []uint16
	err := netns.Do(backendtest.Namespace(t), func() error {
		for port, e := range entries {
			if err := netlink.ConntrackCreate(netlink.ConntrackTable, netlink.InetFamily(e.FamilyType), e); err != nil {
				t.Fatalf("make entry %d: %v", port, err)
			}
		}
		gone := []ruleset.Frontend{udp("10.96.0.10:53", "10.1.0.2:53"), udp("10.96.0.12:53", "10.1.0.1:53"), udp("[fd96::a]:53")}
		added := []ruleset.Frontend{udp("10.96.0.10:53", "10.1.0.1:53"), nodePort, tcp, udp("[fd96::a]:53", "[fd01::1]:53")}
		n, err := Reconcile(gone, added)
		if err != nil {
			return err
		}
		if n != 5 {
			t.Errorf("deleted %d", n)
		}
		for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
			flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
			if err != nil {
				return err
			}
			for _, f := range flows {
				left = append(left, f.Forward.SrcPort)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(left)
	if want := []uint16{1001, 1004, 1005, 1006, 1007, 1009, 1012}; !slices.Equal(left, want) {
		t.Errorf("left %v, want %v", left, want)
	}
}

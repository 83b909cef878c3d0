//go:build linux

package backendtest

import (
	"net/netip"
	"time"

	"github.com/skeg-dev/skeg/proxy/ruleset"
)

func tcp(from netip.Addr, to string, want Want) Probe {
	return Probe{Packet{from, netip.MustParseAddrPort(to), ruleset.TCP}, want}
}

func udp(from netip.Addr, to string, want Want) Probe {
	return Probe{Packet{from, netip.MustParseAddrPort(to), ruleset.UDP}, want}
}

// to is a packet that arrives with the client's address, via one with the node's.
func to(all []netip.AddrPort) Want  { return Want{Endpoints: all} }
func via(all []netip.AddrPort) Want { return Want{Endpoints: all, Masqueraded: true} }

var (
	refused = Want{Verdict: Rejected}
	dropped = Want{Verdict: Dropped}
)

// Cases are the table of the suite.
func Cases() []Case {
	return append(clusterIPCases(), externalCases()...)
}

func clusterIPCases() []Case {
	pod1, pod2 := Endpoint(1).Addr(), Endpoint(2).Addr()
	var many []netip.AddrPort
	for n := 1; n <= crowd; n++ {
		many = append(many, crowded(n))
	}
	udpOf := func(f ruleset.Frontend) ruleset.Frontend {
		return with(f, func(f *ruleset.Frontend) { f.Protocol = ruleset.UDP })
	}
	return []Case{
		{"nothing", Rules(), []Probe{tcp(Client, "10.77.0.1:80", refused), tcp(Client, "10.79.9.9:80", refused)}},
		{"cluster IP", Rules(ClusterIP("10.79.0.1", endpoints(1, 2)...)), []Probe{
			tcp(Client, "10.79.0.1:80", via(endpoints(1, 2))),
			tcp(NodeAddr, "10.79.0.1:80", via(endpoints(1, 2))),
			tcp(Endpoint(3).Addr(), "10.79.0.1:80", to(endpoints(1, 2))),
			tcp(Client, "10.79.0.1:81", refused),
		}},
		{"cluster IP, port and protocol count", Rules(
			ClusterIP("10.79.0.1", Endpoint(1)),
			with(ClusterIP("10.79.0.1", Endpoint(2)), func(f *ruleset.Frontend) { f.Port = 81 }),
			udpOf(ClusterIP("10.79.0.1", Endpoint(3))),
		), []Probe{
			tcp(pod2, "10.79.0.1:80", to(endpoints(1))),
			tcp(pod1, "10.79.0.1:81", to(endpoints(2))),
			udp(pod1, "10.79.0.1:80", to(endpoints(3))),
		}},
		{"SCTP", Rules(with(ClusterIP("10.79.0.1", Endpoint(1)), func(f *ruleset.Frontend) { f.Protocol = ruleset.SCTP })), []Probe{
			{Packet{pod2, netip.MustParseAddrPort("10.79.0.1:80"), ruleset.SCTP}, to(endpoints(1))},
			tcp(pod2, "10.79.0.1:80", refused),
		}},
		{"hairpin", Rules(ClusterIP("10.79.0.1", Endpoint(1)), udpOf(ClusterIP("10.79.0.2", Endpoint(1)))), []Probe{
			tcp(pod1, "10.79.0.1:80", via(endpoints(1))),
			udp(pod1, "10.79.0.2:80", via(endpoints(1))),
			tcp(pod2, "10.79.0.1:80", to(endpoints(1))),
		}},
		{"no endpoints", Rules(ClusterIP("10.79.0.1"), udpOf(ClusterIP("10.79.0.2")),
			with(ClusterIP("10.79.0.3"), func(f *ruleset.Frontend) { f.Empty = ruleset.Drop })), []Probe{
			tcp(Client, "10.79.0.1:80", refused), tcp(pod1, "10.79.0.1:80", refused), tcp(NodeAddr, "10.79.0.1:80", refused),
			udp(pod1, "10.79.0.2:80", refused), udp(NodeAddr, "10.79.0.2:80", refused),
			tcp(pod1, "10.79.0.3:80", dropped), tcp(NodeAddr, "10.79.0.3:80", dropped),
		}},
		{"UDP", Rules(udpOf(ClusterIP("10.79.0.1", endpoints(1, 2)...))), []Probe{
			udp(Client, "10.79.0.1:80", via(endpoints(1, 2))),
			udp(Endpoint(3).Addr(), "10.79.0.1:80", to(endpoints(1, 2))),
			udp(NodeAddr, "10.79.0.1:80", via(endpoints(1, 2))),
		}},
		{"affinity", Rules(
			with(ClusterIP("10.79.0.1", endpoints(1, 2, 3)...), func(f *ruleset.Frontend) { f.Affinity = time.Hour }),
			with(ClusterIP("10.79.0.2", endpoints(1, 2)...), func(f *ruleset.Frontend) { f.Affinity = time.Hour }),
			with(NodePort(30080, endpoints(1, 2, 3)...), func(f *ruleset.Frontend) { f.Affinity = time.Hour }),
		), []Probe{
			tcp(Client, "10.79.0.1:80", Want{Endpoints: endpoints(1, 2, 3), Masqueraded: true, Sticky: true}),
			tcp(OtherClient, "10.79.0.1:80", Want{Endpoints: endpoints(1, 2, 3), Masqueraded: true, Sticky: true}),
			tcp(Client, "10.79.0.2:80", Want{Endpoints: endpoints(1, 2), Masqueraded: true, Sticky: true}),
			tcp(Client, "10.77.0.1:30080", Want{Endpoints: endpoints(1, 2, 3), Masqueraded: true, Sticky: true}),
		}},
		{"affinity without endpoints", Rules(
			with(ClusterIP("10.79.0.1"), func(f *ruleset.Frontend) { f.Affinity = time.Hour }),
			with(NodePort(30080), func(f *ruleset.Frontend) { f.Affinity = time.Hour }),
		), []Probe{tcp(Client, "10.79.0.1:80", refused), tcp(Client, "10.77.0.1:30080", refused)}},
		{"many endpoints", Rules(ClusterIP("10.79.0.1", many...)), []Probe{tcp(Client, "10.79.0.1:80", via(many))}},
		{"IPv6", Rules(
			ClusterIP("fd79::1", endpoints6(1, 2)...), ClusterIP("fd79::2"), ClusterIP("fd79::4", Endpoint6(1)), ClusterIP("10.79.0.1", Endpoint(1)),
			with(ClusterIP("fd79::3", endpoints6(1, 2, 3)...), func(f *ruleset.Frontend) { f.Affinity = time.Hour }),
			with(NodePort(30080, endpoints6(1)...), func(f *ruleset.Frontend) { f.Six = true }),
		), []Probe{
			tcp(Client6, "[fd79::1]:80", via(endpoints6(1, 2))),
			tcp(Endpoint6(3).Addr(), "[fd79::1]:80", to(endpoints6(1, 2))),
			tcp(Client6, "[fd79::2]:80", refused),
			tcp(Endpoint6(1).Addr(), "[fd79::4]:80", via(endpoints6(1))),
			tcp(Client6, "[fd79::3]:80", Want{Endpoints: endpoints6(1, 2, 3), Masqueraded: true, Sticky: true}),
			tcp(Client6, "[fd77::1]:30080", via(endpoints6(1))),
			tcp(Client, "10.79.0.1:80", via(endpoints(1))),
			tcp(Client, "10.77.0.1:30080", refused),
		}},
	}
}

func externalCases() []Case {
	pod1, pod3 := Endpoint(1).Addr(), Endpoint(3).Addr()
	local := func(f ruleset.Frontend, empty ruleset.Empty, insiders ...netip.AddrPort) ruleset.Frontend {
		f.Masquerade, f.Empty, f.Insiders = ruleset.MasqueradeNone, empty, append([]netip.AddrPort{}, insiders...)
		return f
	}
	ranges := func(f ruleset.Frontend, texts ...string) ruleset.Frontend {
		for _, text := range texts {
			f.Sources = append(f.Sources, netip.MustParsePrefix(text))
		}
		return f
	}
	limited := Rules(NodePort(30080, Endpoint(1)))
	limited.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}
	return []Case{
		{"node port", Rules(NodePort(30080, endpoints(1, 2)...), NodePort(30081)), []Probe{
			tcp(Client, "10.77.0.1:30080", via(endpoints(1, 2))),
			tcp(Client, "10.78.0.1:30080", via(endpoints(1, 2))),
			tcp(NodeAddr, "10.77.0.1:30080", via(endpoints(1, 2))),
			tcp(pod3, "10.77.0.1:30080", via(endpoints(1, 2))),
			tcp(Client, "10.77.0.1:30081", refused),
			udp(Client, "10.77.0.1:30080", refused),
		}},
		{"node port on some addresses", limited, []Probe{
			tcp(Client, "10.77.0.1:30080", via(endpoints(1))),
			tcp(Client, "10.78.0.1:30080", refused),
		}},
		{"node port is not a port of Pods", Rules(NodePort(endpointPort, Endpoint(1))), []Probe{
			tcp(Client, "10.78.0.12:8080", to(endpoints(2))),
		}},
		{"external IP", Rules(External("10.80.0.1", Endpoint(1)), External("10.80.0.2")), []Probe{
			tcp(Client, "10.80.0.1:80", via(endpoints(1))),
			tcp(pod3, "10.80.0.1:80", via(endpoints(1))),
			tcp(NodeAddr, "10.80.0.1:80", via(endpoints(1))),
			tcp(Client, "10.80.0.2:80", refused),
		}},
		{"external policy local", Rules(
			local(External("10.80.0.1", Endpoint(1)), ruleset.Drop, endpoints(1, 2)...),
			local(NodePort(30080, Endpoint(1)), ruleset.Drop, endpoints(1, 2)...),
		), []Probe{
			tcp(Client, "10.80.0.1:80", to(endpoints(1))),
			tcp(Client, "10.77.0.1:30080", to(endpoints(1))),
			tcp(pod3, "10.80.0.1:80", via(endpoints(1, 2))),
			tcp(NodeAddr, "10.80.0.1:80", via(endpoints(1, 2))),
			tcp(NodeAddr, "10.77.0.1:30080", via(endpoints(1, 2))),
		}},
		{"external policy local, endpoints elsewhere", Rules(
			local(External("10.80.0.1"), ruleset.Drop, Endpoint(2)),
			local(NodePort(30080), ruleset.Drop, Endpoint(2)),
			local(External("10.80.0.2"), ruleset.Reject),
		), []Probe{
			tcp(Client, "10.80.0.1:80", dropped),
			tcp(Client, "10.77.0.1:30080", dropped),
			tcp(pod1, "10.80.0.1:80", via(endpoints(2))),
			tcp(NodeAddr, "10.77.0.1:30080", via(endpoints(2))),
			tcp(Client, "10.80.0.2:80", refused),
		}},
		{"load balancer source ranges", Rules(
			ranges(External("10.80.0.1", Endpoint(1)), "10.77.0.2/32", "192.168.0.0/16"),
			ranges(External("10.80.0.2", Endpoint(1)), "10.77.0.0/24"),
			ranges(External("10.80.0.3", Endpoint(1)), "192.168.0.0/16"),
		), []Probe{
			tcp(Client, "10.80.0.1:80", via(endpoints(1))),
			tcp(OtherClient, "10.80.0.1:80", dropped),
			tcp(pod3, "10.80.0.1:80", dropped),
			tcp(OtherClient, "10.80.0.2:80", via(endpoints(1))),
			tcp(NodeAddr, "10.80.0.2:80", via(endpoints(1))),
			tcp(NodeAddr, "10.80.0.3:80", dropped),
		}},
		{"two frontends at one place: the first is it", Rules(
			with(External("10.80.0.1", Endpoint(1)), func(f *ruleset.Frontend) { f.Service = "a/first:" }),
			with(External("10.80.0.1", Endpoint(2)), func(f *ruleset.Frontend) { f.Service = "b/second:" }),
		), []Probe{tcp(Client, "10.80.0.1:80", via(endpoints(1)))}},
	}
}

//go:build linux

package backendtest

import (
	"net/netip"

	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// Addresses in the Lab: clients outside, the node, endpoints in Pods on it.
var (
	Client       = netip.MustParseAddr("10.77.0.2")
	OtherClient  = netip.MustParseAddr("10.77.0.3")
	Client6      = netip.MustParseAddr("fd77::2")
	NodeAddr     = netip.MustParseAddr("10.77.0.1")
	NodeAddr6    = netip.MustParseAddr("fd77::1")
	gateway      = netip.MustParseAddr("10.78.0.1")
	gateway6     = netip.MustParseAddr("fd78::1")
	podNetwork   = netip.MustParsePrefix("10.78.0.0/16")
	podNetwork6  = netip.MustParsePrefix("fd78::/64")
	serviceRange = netip.MustParsePrefix("10.79.0.0/16")
)

const endpointPort = 8080

// crowd is how many endpoints share one namespace, to have many.
const crowd = 40

// NodeAddrs are all addresses of the node.
func NodeAddrs() []netip.Addr { return []netip.Addr{NodeAddr, gateway, NodeAddr6, gateway6} }

// Endpoint is an endpoint in a Pod of its own: n is 1, 2 or 3.
func Endpoint(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 78, 0, byte(10 + n)}), endpointPort)
}

// Endpoint6 is the IPv6 address of the same.
func Endpoint6(n int) netip.AddrPort {
	a := podNetwork6.Addr().As16()
	a[15] = byte(0x10 + n)
	return netip.AddrPortFrom(netip.AddrFrom16(a), endpointPort)
}

func crowded(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 78, 1, byte(n)}), endpointPort)
}

func endpoints(ns ...int) []netip.AddrPort {
	var all []netip.AddrPort
	for _, n := range ns {
		all = append(all, Endpoint(n))
	}
	return all
}

func endpoints6(ns ...int) []netip.AddrPort {
	var all []netip.AddrPort
	for _, n := range ns {
		all = append(all, Endpoint6(n))
	}
	return all
}

// Rules makes a Ruleset of the Lab's networks and the frontends.
func Rules(frontends ...ruleset.Frontend) *ruleset.Ruleset {
	return &ruleset.Ruleset{
		Frontends:       ruleset.Sorted(frontends),
		PodNetworks:     []netip.Prefix{podNetwork, podNetwork6},
		ServiceNetworks: []netip.Prefix{serviceRange},
	}
}

// ClusterIP makes a frontend as a cluster IP has it.
func ClusterIP(addr string, to ...netip.AddrPort) ruleset.Frontend {
	a := netip.MustParseAddr(addr)
	return ruleset.Frontend{Service: "ns/cluster-" + addr + ":", Address: a, Six: a.Is6(), Protocol: ruleset.TCP, Port: 80, Endpoints: to}
}

// External makes a frontend as an external IP or a load balancer's has it.
func External(addr string, to ...netip.AddrPort) ruleset.Frontend {
	f := ClusterIP(addr, to...)
	f.Service, f.Masquerade = "ns/external-"+addr+":", ruleset.MasqueradeAll
	return f
}

// NodePort makes a frontend as a node port has it.
func NodePort(port uint16, to ...netip.AddrPort) ruleset.Frontend {
	return ruleset.Frontend{
		Service: "ns/node-port:", NodePort: true, Protocol: ruleset.TCP, Port: port,
		Endpoints: to, Masquerade: ruleset.MasqueradeAll,
	}
}

func with(f ruleset.Frontend, change func(*ruleset.Frontend)) ruleset.Frontend {
	change(&f)
	return f
}

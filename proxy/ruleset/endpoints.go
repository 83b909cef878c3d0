package ruleset

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// endpoint is one address of one slice, for one port.
type endpoint struct {
	addr        netip.AddrPort
	node        string
	ready       bool
	serving     bool
	terminating bool
	zones       []string // hints: which zones should use it
	nodes       []string // hints: which nodes should use it
}

// collect lists the endpoints of a port in a family, without duplicates.
func collect(endpointSlices []*discoveryv1.EndpointSlice, port *corev1.ServicePort, six bool) []endpoint {
	family := discoveryv1.AddressTypeIPv4
	if six {
		family = discoveryv1.AddressTypeIPv6
	}
	byAddr := map[netip.AddrPort]endpoint{}
	for _, slice := range endpointSlices {
		if slice.AddressType != family {
			continue
		}
		number, ok := portNumber(slice, port)
		if !ok {
			continue
		}
		for i := range slice.Endpoints {
			if e, ok := newEndpoint(&slice.Endpoints[i], number); ok {
				// While an endpoint moves between slices it is in two of them.
				if old, dup := byAddr[e.addr]; !dup || !old.ready && e.ready {
					byAddr[e.addr] = e
				}
			}
		}
	}
	all := make([]endpoint, 0, len(byAddr))
	for _, e := range byAddr {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b endpoint) int { return a.addr.Compare(b.addr) })
	return all
}

func portNumber(slice *discoveryv1.EndpointSlice, port *corev1.ServicePort) (uint16, bool) {
	for _, p := range slice.Ports {
		name, proto := "", corev1.ProtocolTCP
		if p.Name != nil {
			name = *p.Name
		}
		if p.Protocol != nil {
			proto = *p.Protocol
		}
		want := port.Protocol
		if want == "" {
			want = corev1.ProtocolTCP
		}
		if name == port.Name && proto == want && p.Port != nil && *p.Port > 0 && *p.Port <= 65535 {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

// newEndpoint takes the first address only: the API documents the others as
// equivalent and consumers as using the first.
func newEndpoint(e *discoveryv1.Endpoint, port uint16) (endpoint, bool) {
	if len(e.Addresses) == 0 {
		return endpoint{}, false
	}
	addr, err := netip.ParseAddr(e.Addresses[0])
	if err != nil {
		return endpoint{}, false
	}
	out := endpoint{
		addr:        netip.AddrPortFrom(addr.Unmap(), port),
		ready:       e.Conditions.Ready == nil || *e.Conditions.Ready,
		terminating: e.Conditions.Terminating != nil && *e.Conditions.Terminating,
	}
	out.serving = out.ready
	if e.Conditions.Serving != nil {
		out.serving = *e.Conditions.Serving
	}
	if e.NodeName != nil {
		out.node = *e.NodeName
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			out.zones = append(out.zones, z.Name)
		}
		for _, n := range e.Hints.ForNodes {
			out.nodes = append(out.nodes, n.Name)
		}
	}
	return out, true
}

// choice is which endpoints serve which clients.
type choice struct {
	internal []netip.AddrPort // the cluster IP
	external []netip.AddrPort // from outside
	cluster  []netip.AddrPort // of the whole cluster, whatever the policy
	any      bool             // somewhere in the cluster there is one
}

func choose(svc *corev1.Service, all []endpoint, node Node) choice {
	local := func(e endpoint) bool { return e.node == node.Name }
	cluster := usable(hinted(all, node))
	c := choice{cluster: addrs(cluster), any: len(usable(all)) > 0}
	c.internal, c.external = c.cluster, c.cluster
	if p := svc.Spec.InternalTrafficPolicy; p != nil && *p == corev1.ServiceInternalTrafficPolicyLocal {
		c.internal = addrs(usable(filter(all, local)))
	}
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		c.external = addrs(usable(filter(all, local)))
	}
	return c
}

// usable are the ready endpoints or, when there are none, those that are
// terminating but still serve (KEP-1669).
func usable(all []endpoint) []endpoint {
	if ready := filter(all, func(e endpoint) bool { return e.ready }); len(ready) > 0 {
		return ready
	}
	return filter(all, func(e endpoint) bool { return e.serving && e.terminating })
}

// hinted follows topology hints: endpoints meant for this node, else for its
// zone. Hints count only when every ready endpoint has some, and one is for us
// (KEP-2433, KEP-3015).
func hinted(all []endpoint, node Node) []endpoint {
	ready := filter(all, func(e endpoint) bool { return e.ready })
	if len(ready) == 0 {
		return all
	}
	if !slices.ContainsFunc(ready, func(e endpoint) bool { return len(e.nodes) == 0 }) {
		if mine := filter(ready, func(e endpoint) bool { return slices.Contains(e.nodes, node.Name) }); len(mine) > 0 {
			return mine
		}
	}
	if node.Zone != "" && !slices.ContainsFunc(ready, func(e endpoint) bool { return len(e.zones) == 0 }) {
		if mine := filter(ready, func(e endpoint) bool { return slices.Contains(e.zones, node.Zone) }); len(mine) > 0 {
			return mine
		}
	}
	return all
}

func countLocal(endpointSlices []*discoveryv1.EndpointSlice, node Node) int {
	seen := map[string]bool{}
	for _, slice := range endpointSlices {
		for i := range slice.Endpoints {
			if e, ok := newEndpoint(&slice.Endpoints[i], 0); ok && e.ready && e.node == node.Name {
				seen[e.addr.Addr().String()] = true
			}
		}
	}
	return len(seen)
}

func filter(all []endpoint, keep func(endpoint) bool) []endpoint {
	var kept []endpoint
	for _, e := range all {
		if keep(e) {
			kept = append(kept, e)
		}
	}
	return kept
}

func addrs(all []endpoint) []netip.AddrPort {
	var out []netip.AddrPort
	for _, e := range all {
		out = append(out, e.addr)
	}
	return out
}

//go:build linux

package network

import (
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/internal/netmark"
	"github.com/skeg-dev/skeg/internal/nft"
)

// plan is everything the rules of one node depend on.
type plan struct {
	bridge  string
	ranges  []netip.Prefix // the node's own
	cluster []netip.Prefix // where Pods keep their source address
	records []*record
}

// syncRules brings both families' tables up to date. Called with mu held.
func (n *Network) syncRules() error {
	p := plan{bridge: n.config.Bridge, ranges: n.ranges, cluster: n.clusterRanges()}
	for _, r := range n.records {
		p.records = append(p.records, r)
	}
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6} {
		table := p.table(family)
		if table == nil {
			continue
		}
		if _, err := n.rules.Sync(table); err != nil {
			return err
		}
	}
	return nil
}

func (n *Network) clusterRanges() []netip.Prefix {
	out := slices.Clone(n.ranges)
	out = append(out, n.config.ClusterCIDRs...)
	for _, peer := range n.peers {
		out = append(out, peer.ranges...)
	}
	return disjoint(out)
}

// disjoint drops ranges that lie in another one: sets refuse overlaps.
func disjoint(in []netip.Prefix) []netip.Prefix {
	for i := range in {
		in[i] = in[i].Masked()
	}
	slices.SortFunc(in, func(a, b netip.Prefix) int {
		if a.Bits() != b.Bits() {
			return a.Bits() - b.Bits()
		}
		return a.Addr().Compare(b.Addr())
	})
	var out []netip.Prefix
	for _, p := range in {
		if !slices.ContainsFunc(out, func(q netip.Prefix) bool { return q.Overlaps(p) }) {
			out = append(out, p)
		}
	}
	return out
}

// table is the family's table; nil if the node has no range of the family.
//
//	guard   (raw)    nothing from outside reaches loopback addresses
//	ingress (dstnat) packets to the node's addresses → host ports
//	local   (dstnat) the same for the node's own processes
//	egress  (srcnat) masquerade what leaves the cluster, comes back to the
//	                 Pod that sent it, or comes from loopback
func (p *plan) table(family nft.Family) *nft.Table {
	own := p.family(p.ranges, family)
	if len(own) == 0 {
		return nil
	}
	exact, every := p.hostPorts(family)
	hairpin := nft.Set{Name: "hairpin", Key: []nft.Type{nft.AddrType(family), nft.AddrType(family)}, Elements: p.hairpin(family)}
	addr := nft.AddrType(family)
	value := []nft.Type{addr, nft.TypePort}
	dest := []nft.Rule{
		nft.R(nft.DestIsLocal(), nft.DNATFrom(family, "hostports-exact", nft.DestAddr(family), nft.L4Proto, nft.DestPort)),
		nft.R(nft.DestIsLocal(), nft.DNATFrom(family, "hostports", nft.L4Proto, nft.DestPort)),
	}
	table := &nft.Table{
		Family: family, Name: netmark.PodsTable,
		Sets: []nft.Set{
			{Name: "cluster", Key: []nft.Type{addr}, Interval: true, Elements: prefixes(p.family(p.cluster, family))},
			{Name: "local-pods", Key: []nft.Type{addr}, Interval: true, Elements: prefixes(own)},
			{Name: "hostports-exact", Key: []nft.Type{addr, nft.TypeProto, nft.TypePort}, Value: value, Elements: exact},
			{Name: "hostports", Key: []nft.Type{nft.TypeProto, nft.TypePort}, Value: value, Elements: every},
			hairpin,
		},
		Chains: []nft.Chain{
			{Name: "ingress", Hook: &nft.Hook{Type: "nat", Name: "prerouting", Priority: nft.PriorityDNAT}, Rules: dest},
			{Name: "local", Hook: &nft.Hook{Type: "nat", Name: "output", Priority: nft.PriorityDNAT}, Rules: dest},
			{Name: "egress", Hook: &nft.Hook{Type: "nat", Name: "postrouting", Priority: nft.PrioritySNAT}, Rules: p.egress(family)},
		},
	}
	if family == nft.IPv4 {
		loopback := nft.Prefix(netip.MustParsePrefix("127.0.0.0/8"))
		table.Chains = append(table.Chains, nft.Chain{
			Name: "guard", Hook: &nft.Hook{Type: "filter", Name: "prerouting", Priority: nft.PriorityRaw},
			Rules: []nft.Rule{
				nft.R(nft.InLink.Is(nft.Ifname(p.bridge)), nft.IPDest.Is(loopback), nft.Drop()),
				nft.R(nft.InLink.Is(nft.Ifname(p.bridge)), nft.IPSource.Is(loopback), nft.Drop()),
			},
		})
	}
	return table
}

func (p *plan) egress(family nft.Family) []nft.Rule {
	source, dest := nft.SourceAddr(family), nft.DestAddr(family)
	rules := []nft.Rule{{
		Exprs:   []nft.Expr{nft.In("local-pods", source), nft.NotIn("cluster", dest), nft.OutLink.Not(nft.Ifname(p.bridge)), nft.Masquerade()},
		Comment: "pods to the outside",
	}}
	if family == nft.IPv4 {
		rules = append(rules, nft.Rule{
			Exprs: []nft.Expr{nft.OutLink.Is(nft.Ifname(p.bridge)),
				nft.IPSource.Is(nft.Prefix(netip.MustParsePrefix("127.0.0.0/8"))), nft.Masquerade()},
			Comment: "host ports on loopback",
		})
	}
	return append(rules, nft.Rule{
		Exprs: []nft.Expr{nft.In("hairpin", source, dest), nft.IsDNATed(), nft.Masquerade()}, Comment: "a pod to its own host port",
	})
}

// hostPorts are the elements for ports on one address and on every address.
func (p *plan) hostPorts(family nft.Family) (exact, every []nft.Element) {
	slices.SortFunc(p.records, func(a, b *record) int { return compareUID(a.UID, b.UID) })
	for _, r := range p.records {
		for _, ip := range r.IPs {
			if ip.Is6() != (family == nft.IPv6) {
				continue
			}
			for _, port := range r.HostPorts {
				to := nft.Tuple(nft.Addr(ip), nft.Port(port.Port))
				key := []nft.Datum{nft.Proto(port.Protocol), nft.Port(port.HostPort)}
				switch {
				case !port.HostIP.IsValid():
					every = append(every, nft.Element{Key: nft.Tuple(key...), Value: to})
				case port.HostIP.Is6() == ip.Is6():
					key = append([]nft.Datum{nft.Addr(port.HostIP)}, key...)
					exact = append(exact, nft.Element{Key: nft.Tuple(key...), Value: to})
				}
			}
		}
	}
	return exact, every
}

// hairpin pairs every address that has host ports with itself.
func (p *plan) hairpin(family nft.Family) []nft.Element {
	var out []nft.Element
	for _, r := range p.records {
		for _, ip := range r.IPs {
			if len(r.HostPorts) > 0 && ip.Is6() == (family == nft.IPv6) {
				out = append(out, nft.Element{Key: nft.Tuple(nft.Addr(ip), nft.Addr(ip))})
			}
		}
	}
	return out
}

func compareUID(a, b types.UID) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

func (p *plan) family(in []netip.Prefix, family nft.Family) []netip.Prefix {
	var out []netip.Prefix
	for _, prefix := range in {
		if prefix.Addr().Is6() == (family == nft.IPv6) {
			out = append(out, prefix)
		}
	}
	return out
}

func prefixes(in []netip.Prefix) []nft.Element {
	out := make([]nft.Element, len(in))
	for i, p := range in {
		out[i] = nft.Element{Key: nft.Prefix(p)}
	}
	return out
}

//go:build linux

package nftables

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/internal/netmark"
	"github.com/skeg-dev/skeg/internal/nft"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// Names in the table.
const (
	setPods       = "pod-networks"
	setHairpin    = "hairpin"
	setNodePortIP = "nodeport-addresses"
	mapFrontends  = "frontends"
	mapNodePorts  = "nodeports"
	mapInsideAddr = "inside-frontends"
	mapInsidePort = "inside-nodeports"
	mapRefused    = "refused"
	mapRefusedPrt = "refused-nodeports"
	mapGuarded    = "guarded"
	chainServices = "services"
	chainInside   = "inside"
	chainReject   = "reject"
	chainRefuse   = "refuse"
	chainStray    = "stray"
)

// Table is the whole table of a family for the given rules. It is a pure
// function: golden tests compare its String.
func Table(family nft.Family, rules *ruleset.Ruleset) *nft.Table {
	b := newBook(family, rules)
	b.change(nil, rules.Frontends)
	return b.table(rules)
}

// frame is the table without Services: what is the same at any number of them.
type frame struct {
	translator
	rules *ruleset.Ruleset
}

// sets are the fixed ones; the elements of all but the first two are those of
// the frontends.
func (f frame) sets() []nft.Set {
	addr := []nft.Type{nft.AddrType(f.family)}
	verdicts := func(name string, nodePort bool) nft.Set {
		return nft.Set{Name: name, Key: f.keyTypes(nodePort), Verdicts: true}
	}
	return []nft.Set{
		{Name: setPods, Key: addr, Interval: true, Elements: f.prefixes(f.rules.PodNetworks)},
		{Name: setNodePortIP, Key: addr, Interval: true, Elements: f.prefixes(f.rules.NodePortAddresses)},
		{Name: setHairpin, Key: append(addr, addr...)},
		verdicts(mapFrontends, false), verdicts(mapNodePorts, true),
		verdicts(mapInsideAddr, false), verdicts(mapInsidePort, true),
		verdicts(mapRefused, false), verdicts(mapRefusedPrt, true), verdicts(mapGuarded, false),
	}
}

func (f frame) prefixes(all []netip.Prefix) []nft.Element {
	var elements []nft.Element
	for _, p := range all {
		if p.Addr().Is6() == (f.family == nft.IPv6) {
			elements = append(elements, nft.Element{Key: nft.Prefix(p)})
		}
	}
	return elements
}

// byPlace looks a packet up by its address and, if it is sent to an address
// that node ports answer on, by its port.
func (f frame) byPlace(addrMap, portMap string) []nft.Rule {
	loopback := nft.Prefix(netip.MustParsePrefix("127.0.0.0/8"))
	if f.family == nft.IPv6 {
		loopback = nft.Prefix(netip.MustParsePrefix("::1/128"))
	}
	toNode := []nft.Expr{nft.DestIsLocal(), nft.DestAddr(f.family).Not(loopback)}
	if len(f.prefixes(f.rules.NodePortAddresses)) > 0 {
		toNode = append(toNode, nft.In(setNodePortIP, nft.DestAddr(f.family)))
	}
	return []nft.Rule{
		nft.R(nft.VerdictFrom(addrMap, f.fields(false)...)),
		nft.R(append(toNode, nft.VerdictFrom(portMap, f.fields(true)...))...),
	}
}

func (f frame) chains() []nft.Chain {
	nat := func(name string, priority int, rules ...nft.Rule) nft.Chain {
		return nft.Chain{Name: name, Hook: &nft.Hook{Type: "nat", Name: name, Priority: priority}, Rules: rules}
	}
	filter := func(name, hook string, priority int, rules ...nft.Rule) nft.Chain {
		return nft.Chain{Name: name, Hook: &nft.Hook{Type: "filter", Name: hook, Priority: priority}, Rules: rules}
	}
	guard := nft.R(nft.IsNewConnection(), nft.VerdictFrom(mapGuarded, f.fields(false)...))
	refuse := nft.R(nft.IsNewConnection(), nft.Jump(chainRefuse))
	refuseStray := []nft.Rule{refuse}
	if len(f.prefixes(f.rules.ServiceNetworks)) > 0 {
		refuseStray = append(refuseStray, nft.R(nft.IsNewConnection(), nft.Jump(chainStray)))
	}
	// What is for the node itself is none: its DNS has a Service address.
	stray := []nft.Rule{nft.R(nft.DestIsLocal(), nft.Return())}
	for _, n := range f.prefixes(f.rules.ServiceNetworks) {
		stray = append(stray, nft.R(nft.DestAddr(f.family).Is(n.Key), nft.Goto(chainReject)))
	}
	return []nft.Chain{
		{Name: chainReject, Rules: []nft.Rule{
			nft.R(nft.L4Proto.Is(nft.Proto(unix.IPPROTO_TCP)), nft.Reset()), nft.R(nft.Reject(f.family)),
		}},
		{Name: chainInside, Rules: f.byPlace(mapInsideAddr, mapInsidePort)},
		{Name: chainServices, Rules: f.byPlace(mapFrontends, mapNodePorts)},
		{Name: chainRefuse, Rules: f.byPlace(mapRefused, mapRefusedPrt)},
		{Name: chainStray, Rules: stray},
		filter("guard", "prerouting", nft.PriorityDNAT-10, guard),
		filter("guard-output", "output", nft.PriorityDNAT-10, guard),
		nat("prerouting", nft.PriorityDNAT,
			nft.R(nft.In(setPods, nft.SourceAddr(f.family)), nft.Jump(chainInside)), nft.R(nft.Jump(chainServices))),
		nat("output", nft.PriorityDNAT, nft.R(nft.Jump(chainInside)), nft.R(nft.Jump(chainServices))),
		nat("postrouting", nft.PrioritySNAT,
			nft.R(nft.Masked(netmark.Masquerade, netmark.Masquerade), nft.ClearMark(netmark.Masquerade), nft.Masquerade()),
			nft.R(nft.IsDNATed(), nft.In(setHairpin, nft.SourceAddr(f.family), nft.DestAddr(f.family)), nft.Masquerade())),
		filter("filter-input", "input", nft.PriorityFilter-10, refuse),
		filter("filter-forward", "forward", nft.PriorityFilter-10, slices.Clone(refuseStray)...),
		filter("filter-output", "output", nft.PriorityFilter-10, refuseStray...),
	}
}

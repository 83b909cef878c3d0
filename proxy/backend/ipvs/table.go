//go:build linux

package ipvs

import (
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/internal/netmark"
	"github.com/skeg-dev/skeg/internal/nft"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// Names in the table.
const (
	setPods       = "pod-networks"
	setHairpin    = "hairpin"
	setServiceIPs = "service-addresses"
	setServed     = "served"
	mapMarks      = "masquerade"
	mapInsiders   = "insiders"
	mapRefused    = "refused"
	mapGuarded    = "guarded"
	chainAll      = "mark-all"
	chainOutside  = "mark-outsiders"
	chainReject   = "reject"
	chainStray    = "stray"
)

// table collects the elements of one family.
type table struct {
	family   nft.Family
	rules    *ruleset.Ruleset
	elements map[string][]nft.Element
	guards   map[string]nft.Chain
	marks    map[string]nft.Chain
	hairpin  map[netip.Addr]bool
	// addresses are those that the link has.
	addresses map[netip.Addr]bool
	// node are the node's own addresses, of both families.
	node []netip.Addr
}

func newTable(family nft.Family, rules *ruleset.Ruleset, node []netip.Addr) *table {
	return &table{
		family: family, rules: rules, node: node, elements: map[string][]nft.Element{}, guards: map[string]nft.Chain{},
		marks: map[string]nft.Chain{}, hairpin: map[netip.Addr]bool{}, addresses: map[netip.Addr]bool{},
	}
}

func (t *table) verdict(set string, at Key, do, chain string) {
	key := nft.Tuple(nft.Addr(at.Address), nft.Proto(byte(at.Protocol)), nft.Port(at.Port))
	element := nft.Element{Key: key}
	if do != "" {
		element.Verdict = &nft.Verdict{Do: do, Chain: chain}
	}
	t.elements[set] = append(t.elements[set], element)
}

// frontend adds what a frontend needs at one of its places.
func (t *table) frontend(f *ruleset.Frontend, at Key) {
	if !f.NodePort {
		t.addresses[f.Address] = true
	}
	if len(f.Sources) > 0 && !f.NodePort {
		t.verdict(mapGuarded, at, "jump", t.guard(t.sources(f)))
	}
	if len(f.Endpoints) == 0 && len(f.Insiders) > 0 {
		t.verdict(setServed, at, "", "") // for some
	}
	switch {
	case len(f.Endpoints) > 0:
		t.verdict(setServed, at, "", "")
	case f.Empty == ruleset.Drop:
		t.verdict(mapRefused, at, "drop", "")
		return
	default:
		t.verdict(mapRefused, at, "goto", chainReject)
		return
	}
	switch f.Masquerade {
	case ruleset.MasqueradeAll:
		t.verdict(mapMarks, at, "jump", chainAll)
	case ruleset.MasqueradeOutsiders:
		t.verdict(mapMarks, at, "jump", chainOutside)
	}
}

// insiders sends clients on the node and in the pod network to the server of a
// mark.
func (t *table) insiders(at Key, mark uint32) {
	name := fmt.Sprintf("mark-%08x", mark)
	t.marks[name] = nft.Chain{Name: name, Rules: []nft.Rule{nft.R(nft.SetMark(mark)), nft.R(nft.Accept())}}
	t.verdict(mapInsiders, at, "goto", name)
}

// sources are the frontend's, and the frontend's own address if the node is one
// of them: that is what the node's packets to it come from, as its link has it.
func (t *table) sources(f *ruleset.Frontend) []netip.Prefix {
	for _, p := range f.Sources {
		if slices.ContainsFunc(t.node, p.Contains) {
			return append(slices.Clone(f.Sources), netip.PrefixFrom(f.Address, f.Address.BitLen()))
		}
	}
	return f.Sources
}

// guard lets only some clients through.
func (t *table) guard(sources []netip.Prefix) string {
	sum := fnv.New64a()
	var c nft.Chain
	for _, p := range sources {
		_, _ = fmt.Fprintln(sum, p) // a hash takes everything
		c.Rules = append(c.Rules, nft.R(nft.SourceAddr(t.family).Is(nft.Prefix(p)), nft.Return()))
	}
	c.Name = fmt.Sprintf("guard-%016x", sum.Sum64())
	c.Rules = append(c.Rules, nft.R(nft.Drop()))
	t.guards[c.Name] = c
	return c.Name
}

func (t *table) prefixes(all []netip.Prefix) []nft.Element {
	var elements []nft.Element
	for _, p := range all {
		if p.Addr().Is6() == (t.family == nft.IPv6) {
			elements = append(elements, nft.Element{Key: nft.Prefix(p)})
		}
	}
	return elements
}

func (t *table) place() []nft.Field {
	return []nft.Field{nft.DestAddr(t.family), nft.L4Proto, nft.DestPort}
}

func (t *table) build() *nft.Table {
	addr := []nft.Type{nft.AddrType(t.family)}
	place := []nft.Type{nft.AddrType(t.family), nft.TypeProto, nft.TypePort}
	sorted := func(m map[netip.Addr]bool) []netip.Addr { return slices.SortedFunc(maps.Keys(m), netip.Addr.Compare) }
	for _, a := range sorted(t.hairpin) {
		t.elements[setHairpin] = append(t.elements[setHairpin], nft.Element{Key: nft.Tuple(nft.Addr(a), nft.Addr(a))})
	}
	for _, a := range sorted(t.addresses) {
		t.elements[setServiceIPs] = append(t.elements[setServiceIPs], nft.Element{Key: nft.Addr(a)})
	}
	out := &nft.Table{Family: t.family, Name: netmark.IPVSTable, Sets: []nft.Set{
		{Name: setPods, Key: addr, Interval: true, Elements: t.prefixes(t.rules.PodNetworks)},
		{Name: setHairpin, Key: append(addr, addr...)},
		{Name: setServiceIPs, Key: addr},
		{Name: setServed, Key: place},
	}}
	for _, name := range []string{mapMarks, mapInsiders, mapRefused, mapGuarded} {
		out.Sets = append(out.Sets, nft.Set{Name: name, Key: place, Verdicts: true})
	}
	for i := range out.Sets {
		if s := &out.Sets[i]; !s.Interval {
			s.Elements = t.elements[s.Name]
			slices.SortFunc(s.Elements, func(a, b nft.Element) int {
				return strings.Compare(string(a.Key.Bytes()), string(b.Key.Bytes()))
			})
		}
	}
	out.Chains = t.chains()
	for _, more := range []map[string]nft.Chain{t.guards, t.marks} {
		for _, name := range slices.Sorted(maps.Keys(more)) {
			out.Chains = append(out.Chains, more[name])
		}
	}
	return out
}

func (t *table) chains() []nft.Chain {
	filter := func(name, hook string, priority int, rules ...nft.Rule) nft.Chain {
		return nft.Chain{Name: name, Hook: &nft.Hook{Type: "filter", Name: hook, Priority: priority}, Rules: rules}
	}
	source := nft.SourceAddr(t.family)
	guard := nft.R(nft.IsNewConnection(), nft.VerdictFrom(mapGuarded, t.place()...))
	mark := nft.R(nft.VerdictFrom(mapMarks, t.place()...))
	insider := nft.VerdictFrom(mapInsiders, t.place()...)
	// The virtual servers take their packets at input after these chains, and
	// at output before.
	refused := nft.R(nft.IsNewConnection(), nft.Masked(insiderMarks, 0), nft.VerdictFrom(mapRefused, t.place()...))
	unserved := nft.R(nft.IsNewConnection(), nft.In(setServiceIPs, nft.DestAddr(t.family)), nft.NotIn(setServed, t.place()...), nft.Goto(chainReject))
	stray := []nft.Rule{nft.R(nft.DestIsLocal(), nft.Return())}
	for _, n := range t.prefixes(t.rules.ServiceNetworks) {
		stray = append(stray, nft.R(nft.DestAddr(t.family).Is(n.Key), nft.Goto(chainReject)))
	}
	strays := nft.R(nft.IsNewConnection(), nft.Jump(chainStray))
	outsiders := []nft.Rule{}
	if len(t.prefixes(t.rules.PodNetworks)) > 0 {
		outsiders = append(outsiders, nft.R(nft.NotIn(setPods, source), nft.SetMark(netmark.Masquerade)))
	}
	return []nft.Chain{
		{Name: chainReject, Rules: []nft.Rule{
			nft.R(nft.L4Proto.Is(nft.Proto(unix.IPPROTO_TCP)), nft.Reset()), nft.R(nft.Reject(t.family)),
		}},
		{Name: chainStray, Rules: stray},
		{Name: chainAll, Rules: []nft.Rule{nft.R(nft.SetMark(netmark.Masquerade))}},
		{Name: chainOutside, Rules: outsiders},
		filter("guard", "prerouting", nft.PriorityMangle-10, guard),
		filter("guard-output", "output", nft.PriorityMangle-10, guard),
		filter("mark", "prerouting", nft.PriorityMangle, nft.R(nft.In(setPods, source), insider), mark),
		filter("mark-output", "output", nft.PriorityMangle, nft.R(insider), mark),
		filter("filter-input", "input", nft.PriorityFilter-10, refused, unserved),
		filter("filter-forward", "forward", nft.PriorityFilter-10, strays),
		filter("filter-output", "output", nft.PriorityFilter-10, refused, unserved, strays),
		{Name: "postrouting", Hook: &nft.Hook{Type: "nat", Name: "postrouting", Priority: nft.PrioritySNAT}, Rules: []nft.Rule{
			nft.R(nft.Masked(netmark.Masquerade, netmark.Masquerade), nft.Masquerade()),
			nft.R(nft.In(setHairpin, source, nft.DestAddr(t.family)), nft.Masquerade()),
		}},
	}
}

// insiderMarks are the bits that tell insiders' servers apart.
const insiderMarks = 0xffff0000

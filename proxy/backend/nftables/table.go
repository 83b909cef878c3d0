//go:build linux

package nftables

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

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
)

// table collects the elements while frontends are added.
type table struct {
	family nft.Family
	rules  *ruleset.Ruleset
	// elements of the named sets and maps.
	elements map[string][]nft.Element
	// picks are the chains that choose an endpoint, by name.
	picks map[string]nft.Chain
	// slotMaps are the maps of endpoints, by name; true for node ports.
	slotMaps map[string]bool
	// memories are the dynamic maps of session affinity, by life.
	memories map[time.Duration]bool
	guards   []nft.Chain
	hairpin  map[netip.Addr]bool
}

func newTable(family nft.Family, rules *ruleset.Ruleset) *table {
	return &table{
		family: family, rules: rules,
		elements: map[string][]nft.Element{}, picks: map[string]nft.Chain{},
		slotMaps: map[string]bool{}, memories: map[time.Duration]bool{}, hairpin: map[netip.Addr]bool{},
	}
}

// add adds the elements of one frontend.
func (t *table) add(f *ruleset.Frontend) {
	outside, inside, refused := mapFrontends, mapInsideAddr, mapRefused
	if f.NodePort {
		outside, inside, refused = mapNodePorts, mapInsidePort, mapRefusedPrt
	}
	if len(f.Sources) > 0 {
		t.guard(f)
	}
	if len(f.Endpoints) > 0 {
		t.element(outside, f, &nft.Verdict{Do: "goto", Chain: t.pick(f, f.Endpoints, f.Masquerade, "")})
	} else if f.Empty == ruleset.Drop {
		t.element(refused, f, &nft.Verdict{Do: "drop"})
	} else {
		t.element(refused, f, &nft.Verdict{Do: "goto", Chain: chainReject})
	}
	if len(f.Insiders) > 0 {
		t.element(inside, f, &nft.Verdict{Do: "goto", Chain: t.pick(f, f.Insiders, ruleset.MasqueradeAll, "inside-")})
	}
}

func (t *table) element(set string, f *ruleset.Frontend, v *nft.Verdict) {
	t.elements[set] = append(t.elements[set], nft.Element{Key: nft.Tuple(frontendKey(f)...), Verdict: v})
}

// pick puts the endpoints into a map and returns the chain that chooses from it.
func (t *table) pick(f *ruleset.Frontend, endpoints []netip.AddrPort, masquerade ruleset.Masquerade, lane string) string {
	slots := slotCount(len(endpoints))
	kind := "addr"
	if f.NodePort {
		kind = "port"
	}
	slotMap := fmt.Sprintf("endpoints-%s%s-%d", lane, kind, slots)
	t.slotMaps[slotMap] = f.NodePort
	for slot := range slots {
		e := endpoints[slot%len(endpoints)]
		t.elements[slotMap] = append(t.elements[slotMap], nft.Element{
			Key:   nft.Tuple(append(frontendKey(f), nft.Mark(uint32(slot)))...),
			Value: nft.Tuple(nft.Addr(e.Addr()), nft.Port(e.Port())),
		})
	}
	for _, e := range endpoints {
		t.hairpin[e.Addr()] = true
	}
	chain := fmt.Sprintf("pick-%s%s-%d-%s", lane, kind, slots, masqueradeName(masquerade))
	if f.Affinity > 0 {
		chain += fmt.Sprintf("-%ds", int(f.Affinity.Seconds()))
		t.memories[f.Affinity] = true
	}
	if _, known := t.picks[chain]; !known {
		t.picks[chain] = t.pickChain(chain, slotMap, uint32(slots), f, masquerade)
	}
	return chain
}

func masqueradeName(m ruleset.Masquerade) string {
	switch m {
	case ruleset.MasqueradeAll:
		return "all"
	case ruleset.MasqueradeNone:
		return "none"
	}
	return "outsiders"
}

func (t *table) pickChain(name, slotMap string, slots uint32, f *ruleset.Frontend, m ruleset.Masquerade) nft.Chain {
	c := nft.Chain{Name: name}
	switch m {
	case ruleset.MasqueradeAll:
		c.Rules = append(c.Rules, nft.R(nft.SetMark(netmark.Masquerade)))
	case ruleset.MasqueradeOutsiders:
		if len(t.podNetworks()) > 0 {
			c.Rules = append(c.Rules, nft.R(nft.NotIn(setPods, nft.SourceAddr(t.family)), nft.SetMark(netmark.Masquerade)))
		}
	}
	fields := append(t.fields(f.NodePort), nft.RandomSlot(slots))
	if f.Affinity == 0 {
		c.Rules = append(c.Rules, nft.R(nft.DNATFrom(t.family, slotMap, fields...)))
		return c
	}
	memory := memoryName(f.Affinity)
	client := append([]nft.Field{nft.SourceAddr(t.family)}, t.fields(false)...)
	c.Rules = append(c.Rules,
		nft.R(nft.DNATSticky(t.family, memory, client, memory, client, f.Affinity)),
		nft.R(nft.DNATSticky(t.family, slotMap, fields, memory, client, f.Affinity)))
	return c
}

func memoryName(life time.Duration) string { return fmt.Sprintf("affinity-%ds", int(life.Seconds())) }

// fields are the key of a frontend, as fields of a packet.
func (t *table) fields(nodePort bool) []nft.Field {
	if nodePort {
		return []nft.Field{nft.L4Proto, nft.DestPort}
	}
	return []nft.Field{nft.DestAddr(t.family), nft.L4Proto, nft.DestPort}
}

func (t *table) keyTypes(nodePort bool) []nft.Type {
	if nodePort {
		return []nft.Type{nft.TypeProto, nft.TypePort}
	}
	return []nft.Type{nft.AddrType(t.family), nft.TypeProto, nft.TypePort}
}

// guard lets only some clients to a frontend: a chain of its own, as source
// ranges are rare.
func (t *table) guard(f *ruleset.Frontend) {
	c := nft.Chain{Name: fmt.Sprintf("guard-%d", len(t.guards))}
	for _, p := range f.Sources {
		c.Rules = append(c.Rules, nft.R(nft.SourceAddr(t.family).Is(nft.Prefix(p)), nft.Return()))
	}
	c.Rules = append(c.Rules, nft.Rule{Exprs: []nft.Expr{nft.Drop()}, Comment: comment("source ranges of %s", f.Service)})
	t.guards = append(t.guards, c)
	t.element(mapGuarded, f, &nft.Verdict{Do: "jump", Chain: c.Name})
}

func (t *table) podNetworks() []nft.Element { return t.prefixes(t.rules.PodNetworks) }

func (t *table) prefixes(all []netip.Prefix) []nft.Element {
	var elements []nft.Element
	for _, p := range all {
		if p.Addr().Is6() == (t.family == nft.IPv6) {
			elements = append(elements, nft.Element{Key: nft.Prefix(p)})
		}
	}
	return elements
}

// build makes the table from what was added.
func (t *table) build() *nft.Table {
	addr := []nft.Type{nft.AddrType(t.family)}
	verdicts := func(name string, nodePort bool) nft.Set {
		return nft.Set{Name: name, Key: t.keyTypes(nodePort), Verdicts: true, Elements: t.elements[name]}
	}
	out := &nft.Table{Family: t.family, Name: netmark.ProxyTable, Sets: []nft.Set{
		{Name: setPods, Key: addr, Interval: true, Elements: t.podNetworks()},
		{Name: setNodePortIP, Key: addr, Interval: true, Elements: t.prefixes(t.rules.NodePortAddresses)},
		{Name: setHairpin, Key: append(addr, addr...), Elements: t.hairpins()},
		verdicts(mapFrontends, false), verdicts(mapNodePorts, true),
		verdicts(mapInsideAddr, false), verdicts(mapInsidePort, true),
		verdicts(mapRefused, false), verdicts(mapRefusedPrt, true), verdicts(mapGuarded, false),
	}}
	value := []nft.Type{nft.AddrType(t.family), nft.TypePort}
	for _, name := range sortedKeys(t.slotMaps) {
		out.Sets = append(out.Sets, nft.Set{Name: name, Key: append(t.keyTypes(t.slotMaps[name]), nft.TypeMark), Value: value, Elements: t.elements[name]})
	}
	for life := range t.memories {
		out.Sets = append(out.Sets, nft.Set{
			Name: memoryName(life), Key: append([]nft.Type{nft.AddrType(t.family)}, t.keyTypes(false)...), Value: value,
			Timeout: life, Dynamic: true, Size: maxMemory,
		})
	}
	slices.SortFunc(out.Sets[10:], func(a, b nft.Set) int { return compareNames(a.Name, b.Name) })
	out.Chains = t.chains()
	return out
}

// maxMemory bounds the clients remembered per life.
const maxMemory = 65536

func (t *table) hairpins() []nft.Element {
	addrs := make([]netip.Addr, 0, len(t.hairpin))
	for a := range t.hairpin {
		addrs = append(addrs, a)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	elements := make([]nft.Element, len(addrs))
	for i, a := range addrs {
		elements[i].Key = nft.Tuple(nft.Addr(a), nft.Addr(a))
	}
	return elements
}

func (t *table) chains() []nft.Chain {
	nat := func(name string, priority int) *nft.Hook {
		return &nft.Hook{Type: "nat", Name: name, Priority: priority}
	}
	filter := func(name string, priority int) *nft.Hook {
		return &nft.Hook{Type: "filter", Name: name, Priority: priority}
	}
	loopback := nft.Prefix(netip.MustParsePrefix("127.0.0.0/8"))
	if t.family == nft.IPv6 {
		loopback = nft.Prefix(netip.MustParsePrefix("::1/128"))
	}
	// toNodePort matches what is sent to an address that node ports answer on.
	toNodePort := []nft.Expr{nft.DestIsLocal(), nft.DestAddr(t.family).Not(loopback)}
	if len(t.prefixes(t.rules.NodePortAddresses)) > 0 {
		toNodePort = append(toNodePort, nft.In(setNodePortIP, nft.DestAddr(t.family)))
	}
	vmap := func(addrMap, portMap string) []nft.Rule {
		return []nft.Rule{
			nft.R(nft.VerdictFrom(addrMap, t.fields(false)...)),
			nft.R(append(slices.Clone(toNodePort), nft.VerdictFrom(portMap, t.fields(true)...))...),
		}
	}
	fromPods := []nft.Rule{nft.R(nft.In(setPods, nft.SourceAddr(t.family)), nft.Jump(chainInside)), nft.R(nft.Jump(chainServices))}
	masquerade := []nft.Rule{
		nft.R(nft.Masked(netmark.Masquerade, netmark.Masquerade), nft.ClearMark(netmark.Masquerade), nft.Masquerade()),
		nft.R(nft.IsDNATed(), nft.In(setHairpin, nft.SourceAddr(t.family), nft.DestAddr(t.family)), nft.Masquerade()),
	}
	guard := []nft.Rule{nft.R(nft.IsNewConnection(), nft.VerdictFrom(mapGuarded, t.fields(false)...))}
	refuse := []nft.Rule{nft.R(nft.IsNewConnection(), nft.Jump(chainRefuse))}
	chains := []nft.Chain{
		{Name: chainReject, Rules: []nft.Rule{
			nft.R(nft.L4Proto.Is(nft.Proto(unix.IPPROTO_TCP)), nft.Reset()), nft.R(nft.Reject(t.family)),
		}},
		{Name: chainInside, Rules: vmap(mapInsideAddr, mapInsidePort)},
		{Name: chainServices, Rules: vmap(mapFrontends, mapNodePorts)},
		{Name: chainRefuse, Rules: vmap(mapRefused, mapRefusedPrt)},
		{Name: "guard", Hook: filter("prerouting", nft.PriorityDNAT-10), Rules: guard},
		{Name: "guard-output", Hook: filter("output", nft.PriorityDNAT-10), Rules: guard},
		{Name: "prerouting", Hook: nat("prerouting", nft.PriorityDNAT), Rules: fromPods},
		{Name: "output", Hook: nat("output", nft.PriorityDNAT), Rules: []nft.Rule{nft.R(nft.Jump(chainInside)), nft.R(nft.Jump(chainServices))}},
		{Name: "postrouting", Hook: nat("postrouting", nft.PrioritySNAT), Rules: masquerade},
	}
	for _, hook := range []string{"input", "forward", "output"} {
		chains = append(chains, nft.Chain{Name: "filter-" + hook, Hook: filter(hook, nft.PriorityFilter-10), Rules: refuse})
	}
	if networks := t.prefixes(t.rules.ServiceNetworks); len(networks) > 0 {
		forward := &chains[len(chains)-2]
		for _, n := range networks {
			forward.Rules = append(slices.Clone(forward.Rules), nft.R(nft.IsNewConnection(), nft.DestAddr(t.family).Is(n.Key), nft.Goto(chainReject)))
		}
	}
	chains = append(chains, t.guards...)
	for _, name := range sortedKeys(t.picks) {
		chains = append(chains, t.picks[name])
	}
	return chains
}

//go:build linux

package nftables

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"time"

	"github.com/skeg-dev/skeg/internal/netmark"
	"github.com/skeg-dev/skeg/internal/nft"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// part is what one frontend needs in a table. Chains and sets are shared by
// frontends of the same kind: equal names mean equal contents.
type part struct {
	elements []setElement
	chains   []nft.Chain
	sets     []nft.Set
	hairpin  []netip.Addr
}

type setElement struct {
	set     string
	element nft.Element
}

// translator makes parts for one table. Pure.
type translator struct {
	family nft.Family
	// outsiders says that there are pod networks to be outside of.
	outsiders bool
}

// part translates one frontend.
func (t translator) part(f *ruleset.Frontend) part {
	var p part
	outside, inside, refused := mapFrontends, mapInsideAddr, mapRefused
	if f.NodePort {
		outside, inside, refused = mapNodePorts, mapInsidePort, mapRefusedPrt
	}
	verdict := func(set, do, chain string) {
		p.elements = append(p.elements, setElement{set, nft.Element{Key: nft.Tuple(frontendKey(f)...), Verdict: &nft.Verdict{Do: do, Chain: chain}}})
	}
	if len(f.Sources) > 0 && !f.NodePort {
		guard := t.guard(f.Sources)
		p.chains = append(p.chains, guard)
		verdict(mapGuarded, "jump", guard.Name)
	}
	switch {
	case len(f.Endpoints) > 0:
		verdict(outside, "goto", t.pick(&p, f, f.Endpoints, f.Masquerade, ""))
	case f.Empty == ruleset.Drop:
		verdict(refused, "drop", "")
	default:
		verdict(refused, "goto", chainReject)
	}
	if len(f.Insiders) > 0 {
		verdict(inside, "goto", t.pick(&p, f, f.Insiders, ruleset.MasqueradeAll, "inside-"))
	}
	return p
}

// pick puts the endpoints into a map and returns the chain that chooses from it.
func (t translator) pick(p *part, f *ruleset.Frontend, endpoints []netip.AddrPort, m ruleset.Masquerade, lane string) string {
	slots := slotCount(len(endpoints))
	kind := "addr"
	if f.NodePort {
		kind = "port"
	}
	slotMap := fmt.Sprintf("endpoints-%s%s-%d", lane, kind, slots)
	p.sets = append(p.sets, nft.Set{Name: slotMap, Key: append(t.keyTypes(f.NodePort), nft.TypeMark), Value: t.endpointTypes()})
	for slot := range slots {
		e := endpoints[slot%len(endpoints)]
		p.elements = append(p.elements, setElement{slotMap, nft.Element{
			Key:   nft.Tuple(append(frontendKey(f), nft.Mark(uint32(slot)))...),
			Value: nft.Tuple(nft.Addr(e.Addr()), nft.Port(e.Port())),
		}})
	}
	for _, e := range endpoints {
		p.hairpin = append(p.hairpin, e.Addr())
	}
	name := fmt.Sprintf("pick-%s%s-%d-%s", lane, kind, slots, masqueradeName(m))
	if f.Affinity > 0 {
		name += fmt.Sprintf("-%ds", int(f.Affinity.Seconds()))
		p.sets = append(p.sets, t.memory(f.Affinity))
	}
	p.chains = append(p.chains, t.pickChain(name, slotMap, uint32(slots), f, m))
	return name
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

func (t translator) pickChain(name, slotMap string, slots uint32, f *ruleset.Frontend, m ruleset.Masquerade) nft.Chain {
	c := nft.Chain{Name: name}
	switch {
	case m == ruleset.MasqueradeAll:
		c.Rules = append(c.Rules, nft.R(nft.SetMark(netmark.Masquerade)))
	case m == ruleset.MasqueradeOutsiders && t.outsiders:
		c.Rules = append(c.Rules, nft.R(nft.NotIn(setPods, nft.SourceAddr(t.family)), nft.SetMark(netmark.Masquerade)))
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

// maxMemory bounds the clients remembered per life.
const maxMemory = 65536

func memoryName(life time.Duration) string { return fmt.Sprintf("affinity-%ds", int(life.Seconds())) }

// memory is the dynamic map that keeps clients with their endpoints.
func (t translator) memory(life time.Duration) nft.Set {
	return nft.Set{
		Name: memoryName(life), Key: append([]nft.Type{nft.AddrType(t.family)}, t.keyTypes(false)...), Value: t.endpointTypes(),
		Timeout: life, Dynamic: true, Size: maxMemory,
	}
}

// guard lets only some clients through: a chain per set of ranges, which are
// few.
func (t translator) guard(sources []netip.Prefix) nft.Chain {
	name := fnv.New64a()
	var c nft.Chain
	for _, p := range sources {
		_, _ = fmt.Fprintln(name, p) // a hash takes everything
		c.Rules = append(c.Rules, nft.R(nft.SourceAddr(t.family).Is(nft.Prefix(p)), nft.Return()))
	}
	c.Name = fmt.Sprintf("guard-%016x", name.Sum64())
	c.Rules = append(c.Rules, nft.R(nft.Drop()))
	return c
}

// fields are the key of a frontend, as fields of a packet.
func (t translator) fields(nodePort bool) []nft.Field {
	if nodePort {
		return []nft.Field{nft.L4Proto, nft.DestPort}
	}
	return []nft.Field{nft.DestAddr(t.family), nft.L4Proto, nft.DestPort}
}

func (t translator) keyTypes(nodePort bool) []nft.Type {
	if nodePort {
		return []nft.Type{nft.TypeProto, nft.TypePort}
	}
	return []nft.Type{nft.AddrType(t.family), nft.TypeProto, nft.TypePort}
}

func (t translator) endpointTypes() []nft.Type {
	return []nft.Type{nft.AddrType(t.family), nft.TypePort}
}

func frontendKey(f *ruleset.Frontend) []nft.Datum {
	key := []nft.Datum{nft.Proto(byte(f.Protocol)), nft.Port(f.Port)}
	if f.NodePort {
		return key
	}
	return append([]nft.Datum{nft.Addr(f.Address)}, key...)
}

// exactSlots is up to how many endpoints each has exactly one slot. Beyond, a
// power of two of at least slotsPerEndpoint each keeps the shares within an
// eighth of each other, with few different maps.
const (
	exactSlots       = 32
	slotsPerEndpoint = 8
	maxSlots         = 4096
)

func slotCount(endpoints int) int {
	if endpoints <= exactSlots {
		return endpoints
	}
	slots := 2 * exactSlots
	for slots < endpoints*slotsPerEndpoint && slots < maxSlots {
		slots *= 2
	}
	return max(slots, endpoints)
}

//go:build linux

package nftables

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/skeg-dev/skeg/internal/netmark"
	"github.com/skeg-dev/skeg/internal/nft"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// book keeps account of what the frontends need in a table, so that a changed
// frontend costs as much as it needs itself, at any number of others.
type book struct {
	translator
	// claims are the frontends at each place, sorted; the first is served.
	claims map[place][]ruleset.Frontend
	// chains, sets and hairpin count who needs what.
	chains  map[string]*counted[nft.Chain]
	sets    map[string]*counted[nft.Set]
	hairpin map[netip.Addr]int
	// fixed are the sets of the frame, by name.
	fixed map[string]nft.Set
}

type counted[T any] struct {
	count int
	value T
}

// place is where clients send to.
type place struct {
	address  netip.Addr // the zero Addr is any of the node
	protocol ruleset.Protocol
	port     uint16
}

func placeOf(f *ruleset.Frontend) place {
	return place{f.Address, f.Protocol, f.Port}
}

// newBook makes one without frontends for a family and the networks of rules.
func newBook(family nft.Family, rules *ruleset.Ruleset) *book {
	b := &book{
		translator: translator{family: family}, claims: map[place][]ruleset.Frontend{},
		chains: map[string]*counted[nft.Chain]{}, sets: map[string]*counted[nft.Set]{},
		hairpin: map[netip.Addr]int{}, fixed: map[string]nft.Set{},
	}
	f := frame{b.translator, rules}
	b.outsiders = len(f.prefixes(rules.PodNetworks)) > 0
	for _, s := range f.sets() {
		s.Elements = nil
		b.fixed[s.Name] = s
	}
	return b
}

// delta is a change while it is being made up.
type delta struct {
	// elements by set and key: what was and what is.
	elements map[string]map[string]*turn
	// chains, sets and hairpin are how often each was needed before.
	chains, sets map[string]int
	hairpin      map[netip.Addr]int
}

type turn struct{ was, is *nft.Element }

// change takes frontends out of the book and puts others in, and returns what
// that changes in the table. Frontends of the other family are left out.
func (b *book) change(gone, added []ruleset.Frontend) *nft.Change {
	served := map[place]*ruleset.Frontend{} // before, at the places touched
	touch := func(f *ruleset.Frontend) (place, bool) {
		at := placeOf(f)
		if _, known := served[at]; !known && f.Six == (b.family == nft.IPv6) {
			served[at] = first(b.claims[at])
		}
		return at, f.Six == (b.family == nft.IPv6)
	}
	for i := range gone {
		if at, ours := touch(&gone[i]); ours {
			b.claims[at] = without(b.claims[at], &gone[i])
		}
	}
	for i := range added {
		if at, ours := touch(&added[i]); ours {
			b.claims[at] = ruleset.Sorted(append(slices.Clone(b.claims[at]), added[i]))
		}
	}
	d := &delta{elements: map[string]map[string]*turn{}, chains: map[string]int{}, sets: map[string]int{}, hairpin: map[netip.Addr]int{}}
	for at, was := range served {
		is := first(b.claims[at])
		if is == nil {
			delete(b.claims, at)
		}
		if was != nil && is != nil && ruleset.Equal(was, is) {
			continue
		}
		if was != nil {
			b.count(d, b.part(was), -1)
		}
		if is != nil {
			b.count(d, b.part(is), 1)
		}
	}
	return b.finish(d)
}

// without returns claims without the one; claims is not changed.
func without(claims []ruleset.Frontend, gone *ruleset.Frontend) []ruleset.Frontend {
	i := slices.IndexFunc(claims, func(f ruleset.Frontend) bool { return ruleset.Equal(&f, gone) })
	if i < 0 {
		return claims
	}
	return slices.Delete(slices.Clone(claims), i, i+1)
}

func first(all []ruleset.Frontend) *ruleset.Frontend {
	if len(all) == 0 {
		return nil
	}
	return &all[0]
}

// count adds a part to the book (by 1) or takes it out (by -1).
func (b *book) count(d *delta, p part, by int) {
	for i := range p.elements {
		e := &p.elements[i]
		turns := d.elements[e.set]
		if turns == nil {
			turns = map[string]*turn{}
			d.elements[e.set] = turns
		}
		key := string(e.element.Key.Bytes())
		if turns[key] == nil {
			turns[key] = &turn{}
		}
		if by < 0 {
			turns[key].was = &e.element
		} else {
			turns[key].is = &e.element
		}
	}
	for _, c := range p.chains {
		countOne(b.chains, d.chains, c.Name, c, by)
	}
	for _, s := range p.sets {
		countOne(b.sets, d.sets, s.Name, s, by)
	}
	for _, a := range p.hairpin {
		if _, known := d.hairpin[a]; !known {
			d.hairpin[a] = b.hairpin[a]
		}
		b.hairpin[a] += by
	}
}

func countOne[T any](all map[string]*counted[T], before map[string]int, name string, value T, by int) {
	if all[name] == nil {
		all[name] = &counted[T]{value: value}
	}
	if _, known := before[name]; !known {
		before[name] = all[name].count
	}
	all[name].count += by
}

// finish makes the change from the delta and forgets what nobody needs.
func (b *book) finish(d *delta) *nft.Change {
	c := &nft.Change{Family: b.family, Name: netmark.ProxyTable}
	c.Chains, c.OldChains = settle(b.chains, d.chains)
	oldSets := map[string]bool{}
	declared := maps.Clone(b.fixed)
	for name := range d.elements {
		if s := b.sets[name]; s != nil {
			declared[name] = s.value
		}
	}
	c.Sets, c.OldSets = settle(b.sets, d.sets)
	for _, s := range c.OldSets {
		oldSets[s.Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(d.elements)) {
		if oldSets[name] {
			continue // goes with all its elements
		}
		change := nft.SetChange{Set: declared[name]}
		for _, key := range slices.Sorted(maps.Keys(d.elements[name])) {
			addTurn(&change, d.elements[name][key])
		}
		if len(change.Gone)+len(change.Added) > 0 {
			c.Elements = append(c.Elements, change)
		}
	}
	if h := b.hairpinChange(d); len(h.Gone)+len(h.Added) > 0 {
		c.Elements = append(c.Elements, h)
	}
	return c
}

// settle lists what is needed now and was not, and the reverse.
func settle[T any](all map[string]*counted[T], before map[string]int) (added, gone []T) {
	for _, name := range slices.Sorted(maps.Keys(before)) {
		switch now := all[name]; {
		case before[name] == 0 && now.count > 0:
			added = append(added, now.value)
		case before[name] > 0 && now.count == 0:
			gone = append(gone, now.value)
			delete(all, name)
		case now.count == 0:
			delete(all, name)
		}
	}
	return added, gone
}

func (b *book) hairpinChange(d *delta) nft.SetChange {
	change := nft.SetChange{Set: b.fixed[setHairpin]}
	addrs := slices.SortedFunc(maps.Keys(d.hairpin), netip.Addr.Compare)
	for _, a := range addrs {
		element := nft.Element{Key: nft.Tuple(nft.Addr(a), nft.Addr(a))}
		switch before, now := d.hairpin[a], b.hairpin[a]; {
		case before == 0 && now > 0:
			change.Added = append(change.Added, element)
		case before > 0 && now == 0:
			change.Gone = append(change.Gone, element)
		}
		if b.hairpin[a] == 0 {
			delete(b.hairpin, a)
		}
	}
	return change
}

// table is the whole table.
func (b *book) table(rules *ruleset.Ruleset) *nft.Table {
	f := frame{b.translator, rules}
	elements := map[string][]nft.Element{}
	for _, claims := range b.claims {
		for _, e := range b.part(&claims[0]).elements {
			elements[e.set] = append(elements[e.set], e.element)
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(b.hairpin), netip.Addr.Compare) {
		elements[setHairpin] = append(elements[setHairpin], nft.Element{Key: nft.Tuple(nft.Addr(a), nft.Addr(a))})
	}
	out := &nft.Table{Family: b.family, Name: netmark.ProxyTable, Sets: f.sets(), Chains: f.chains()}
	for _, name := range slices.Sorted(maps.Keys(b.sets)) {
		out.Sets = append(out.Sets, b.sets[name].value)
	}
	for i := range out.Sets {
		if s := &out.Sets[i]; len(elements[s.Name]) > 0 {
			s.Elements = elements[s.Name]
			slices.SortFunc(s.Elements, func(a, b nft.Element) int { return strings.Compare(string(a.Key.Bytes()), string(b.Key.Bytes())) })
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.chains)) {
		out.Chains = append(out.Chains, b.chains[name].value)
	}
	return out
}

func addTurn(c *nft.SetChange, t *turn) {
	if t.was != nil && t.is != nil && t.was.String() == t.is.String() {
		return
	}
	if t.was != nil {
		c.Gone = append(c.Gone, *t.was)
	}
	if t.is != nil {
		c.Added = append(c.Added, *t.is)
	}
}

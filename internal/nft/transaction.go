//go:build linux

package nft

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// elementsPerMessage keeps the list of elements of one message below the 64
// KiB that a netlink attribute can hold; an element with two IPv6 addresses
// and ports or a long chain name takes about 150 bytes.
const elementsPerMessage = 250

// batch collects the messages of one transaction.
type batch struct {
	conn  *nftables.Conn
	table *nftables.Table
	err   error
	stats Stats
	// carried are elements of the dynamic sets of a table that is replaced.
	carried []carried
}

// replace rebuilds the table, whatever it holds now; what dynamic sets have
// learned stays.
func (b *batch) replace(t *Table) {
	b.carryOver(t)
	b.conn.AddTable(b.table) // so that deleting it cannot fail
	b.conn.DelTable(b.table)
	b.conn.AddTable(b.table)
	b.change(&Table{Family: t.Family, Name: t.Name}, t)
	for _, c := range b.carried {
		for part := range slices.Chunk(c.elements, elementsPerMessage/2) {
			if err := b.conn.SetAddElements(c.set, part); err != nil {
				b.fail(fmt.Errorf("carry over elements of set %s: %w", c.set.Name, err))
			}
		}
	}
}

// change turns the table old into the table next. The order matters: chains
// exist before verdicts name them, sets before rules look into them, and both
// go only after nothing refers to them.
func (b *batch) change(old, next *Table) {
	oldChains, oldSets := byName(old.Chains, chainName), byName(old.Sets, setName)
	nextChains, nextSets := byName(next.Chains, chainName), byName(next.Sets, setName)
	for i := range next.Chains {
		if _, ok := oldChains[next.Chains[i].Name]; !ok {
			b.addChain(&next.Chains[i])
		}
	}
	for i := range next.Sets {
		s := &next.Sets[i]
		b.changeSet(oldSets[s.Name], s)
	}
	for i := range next.Chains {
		c := &next.Chains[i]
		was := oldChains[c.Name]
		if was == nil {
			b.addRules(c)
		} else if was.rulesText() != c.rulesText() {
			b.conn.FlushChain(b.chain(c))
			b.stats.Chains++
			b.addRules(c)
		}
	}
	b.drop(old, nextChains, nextSets)
}

// drop removes chains and sets that are no longer there: first what they
// refer to each other with, then themselves.
func (b *batch) drop(old *Table, chains map[string]*Chain, sets map[string]*Set) {
	for i := range old.Chains {
		if _, ok := chains[old.Chains[i].Name]; !ok {
			b.conn.FlushChain(b.chain(&old.Chains[i]))
		}
	}
	for i := range old.Sets {
		if _, ok := sets[old.Sets[i].Name]; !ok {
			b.conn.DelSet(b.set(&old.Sets[i]))
			b.stats.Sets++
		}
	}
	for i := range old.Chains {
		if _, ok := chains[old.Chains[i].Name]; !ok {
			b.conn.DelChain(b.chain(&old.Chains[i]))
			b.stats.Chains++
		}
	}
}

func (b *batch) addChain(c *Chain) {
	out := b.chain(c)
	if c.Hook != nil {
		hook, ok := hooks[c.Hook.Name]
		if !ok {
			b.fail(fmt.Errorf("chain %s: no hook %q", c.Name, c.Hook.Name))
			return
		}
		out.Type = nftables.ChainType(c.Hook.Type)
		out.Hooknum = hook
		out.Priority = nftables.ChainPriorityRef(nftables.ChainPriority(c.Hook.Priority))
		policy := nftables.ChainPolicyAccept
		if c.Hook.Drop {
			policy = nftables.ChainPolicyDrop
		}
		out.Policy = &policy
	}
	b.conn.AddChain(out)
	b.stats.Chains++
}

func (b *batch) addRules(c *Chain) {
	for _, r := range c.Rules {
		rule := &nftables.Rule{Table: b.table, Chain: b.chain(c)}
		for _, e := range r.Exprs {
			rule.Exprs = append(rule.Exprs, e.kernel...)
		}
		if r.Comment != "" {
			rule.UserData = userdata.AppendString(nil, userdata.TypeComment, r.Comment)
		}
		b.conn.AddRule(rule)
		b.stats.Rules++
	}
}

func (b *batch) changeSet(old, next *Set) {
	if old == nil {
		b.addSet(next)
		old = &Set{}
	}
	if next.Timeout > 0 {
		return
	}
	gone, added := elementDiff(old, next)
	b.changeElements(next, gone, added)
}

func (b *batch) addSet(s *Set) {
	if err := b.conn.AddSet(b.set(s), nil); err != nil {
		b.fail(fmt.Errorf("add set %s: %w", s.Name, err))
	}
	b.stats.Sets++
}

func (b *batch) changeElements(s *Set, gone, added []Element) {
	set := b.set(s)
	for part := range slices.Chunk(gone, elementsPerMessage/2) {
		if err := b.conn.SetDeleteElements(set, kernelElements(part)); err != nil {
			b.fail(fmt.Errorf("delete elements of set %s: %w", s.Name, err))
		}
	}
	for part := range slices.Chunk(added, elementsPerMessage/2) {
		if err := b.conn.SetAddElements(set, kernelElements(part)); err != nil {
			b.fail(fmt.Errorf("add elements to set %s: %w", s.Name, err))
		}
	}
	b.stats.Elements += len(gone) + len(added)
}

func (b *batch) chain(c *Chain) *nftables.Chain {
	return &nftables.Chain{Name: c.Name, Table: b.table}
}

func (b *batch) set(s *Set) *nftables.Set {
	out := &nftables.Set{
		Table: b.table, Name: s.Name, Interval: s.Interval, Concatenation: len(s.Key) > 1,
		IsMap: s.Verdicts || len(s.Value) > 0, Dynamic: s.Dynamic, Size: s.Size,
		HasTimeout: s.Timeout > 0, Timeout: s.Timeout,
	}
	var err error
	if out.KeyType, err = kernelType(s.Key); err != nil {
		b.fail(fmt.Errorf("key of set %s: %w", s.Name, err))
	}
	if s.Verdicts {
		out.DataType = nftables.TypeVerdict
	} else if len(s.Value) > 0 {
		if out.DataType, err = kernelType(s.Value); err != nil {
			b.fail(fmt.Errorf("value of set %s: %w", s.Name, err))
		}
	}
	return out
}

func (b *batch) fail(err error) { b.err = errors.Join(b.err, err) }

// elementDiff returns what to delete and what to add. An element whose value
// changed is both.
func elementDiff(old, next *Set) (gone, added []Element) {
	was := make(map[string]string, len(old.Elements))
	for i := range old.Elements {
		was[old.Elements[i].Key.text] = old.Elements[i].text()
	}
	seen := make(map[string]bool, len(next.Elements))
	kept := make(map[string]bool, len(next.Elements))
	for _, e := range next.Elements {
		if seen[e.Key.text] {
			continue // the first of two equal keys wins
		}
		seen[e.Key.text] = true
		if was[e.Key.text] == e.text() {
			kept[e.Key.text] = true
			continue
		}
		added = append(added, e)
	}
	for _, e := range old.Elements {
		if !kept[e.Key.text] {
			gone = append(gone, e)
		}
	}
	return gone, added
}

func kernelElements(elements []Element) []nftables.SetElement {
	out := make([]nftables.SetElement, 0, len(elements))
	for _, e := range elements {
		k := nftables.SetElement{Key: e.Key.bytes, Val: e.Value.bytes}
		if e.Verdict != nil {
			k.VerdictData = &expr.Verdict{Kind: verdictKinds[e.Verdict.Do], Chain: e.Verdict.Chain}
		}
		out = append(out, k)
		if e.Key.end != nil && !allZero(e.Key.end) {
			out = append(out, nftables.SetElement{Key: e.Key.end, IntervalEnd: true})
		}
	}
	return out
}

// allZero: a range up to the last address has no first address after it.
func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

var hooks = map[string]*nftables.ChainHook{
	"prerouting":  nftables.ChainHookPrerouting,
	"input":       nftables.ChainHookInput,
	"forward":     nftables.ChainHookForward,
	"output":      nftables.ChainHookOutput,
	"postrouting": nftables.ChainHookPostrouting,
}

func chainName(c *Chain) string { return c.Name }
func setName(s *Set) string     { return s.Name }

func byName[T any](list []T, name func(*T) string) map[string]*T {
	out := make(map[string]*T, len(list))
	for i := range list {
		out[name(&list[i])] = &list[i]
	}
	return out
}

//go:build linux

package nft

import (
	"bytes"
	"slices"

	"github.com/google/nftables/expr"
)

// Kernel is what the kernel is sent for the expression. Read-only.
func (e Expr) Kernel() []expr.Any { return e.kernel }

// String is the expression as nft shows it.
func (e Expr) String() string { return e.text }

// Bytes is the value as it stands in registers. Read-only.
func (d Datum) Bytes() []byte { return d.bytes }

// Contains reports whether the value is d, or lies in the prefix d.
func (d Datum) Contains(value []byte) bool {
	if d.end == nil {
		return bytes.Equal(d.bytes, value)
	}
	return bytes.Compare(d.bytes, value) <= 0 && (allZero(d.end) || bytes.Compare(value, d.end) < 0)
}

// KeySize is how many bytes of registers a key takes.
func (s *Set) KeySize() int { return size(s.Key) }

// ValueSize is how many bytes of registers a value takes.
func (s *Set) ValueSize() int { return size(s.Value) }

func size(fields []Type) int {
	n := 0
	for _, f := range fields {
		n += int(f.size)
	}
	return n
}

// Hooked lists the base chains at a hook, in the order the kernel calls them.
func (t *Table) Hooked(hook string) []*Chain {
	var chains []*Chain
	for i := range t.Chains {
		if c := &t.Chains[i]; c.Hook != nil && c.Hook.Name == hook {
			chains = append(chains, c)
		}
	}
	slices.SortStableFunc(chains, func(a, b *Chain) int { return a.Hook.Priority - b.Hook.Priority })
	return chains
}

// String is the element as nft shows it.
func (e *Element) String() string { return e.text() }

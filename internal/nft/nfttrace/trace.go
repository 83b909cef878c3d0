//go:build linux

// Package nfttrace sends packets through nft.Tables without a kernel: it runs
// the very expressions that the kernel would be sent on a machine of registers
// of its own, and says what became of the packet. Tests use it to check what
// tables do, and not how they are written. It follows the first packet of a
// connection (later ones take the way of the first). It starts no goroutines.
package nfttrace

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/skeg-dev/skeg/internal/nft"
)

// Verdict is what became of a packet.
type Verdict string

// The verdicts.
const (
	Accepted Verdict = "accept"
	Dropped  Verdict = "drop"
	Rejected Verdict = "reject"
)

// Packet is the first of a connection. A Tracer changes it on its way.
type Packet struct {
	Source, Dest    netip.AddrPort
	Protocol        byte
	Mark            uint32
	InLink, OutLink string
	// DNATed and Masqueraded say that an address was rewritten.
	DNATed, Masqueraded bool
}

// Tracer is one node: its tables and what they remember. Not safe for
// concurrent use.
type Tracer struct {
	tables []*nft.Table
	local  []netip.Addr
	// learned are the elements that rules added to dynamic sets.
	learned map[*nft.Set]map[string]learned
	counter uint32

	// Clock tells the time for timeouts; time.Now if not set.
	Clock func() time.Time
}

type learned struct {
	value   []byte
	expires time.Time
}

// New makes a node with the given addresses (loopback is always local).
func New(local []netip.Addr, tables ...*nft.Table) *Tracer {
	return &Tracer{tables: tables, local: local, learned: map[*nft.Set]map[string]learned{}, Clock: time.Now}
}

// IsLocal reports whether the address is the node's.
func (t *Tracer) IsLocal(a netip.Addr) bool { return a.IsLoopback() || slices.Contains(t.local, a) }

// Receive sends a packet that comes in from outside along its whole way:
// prerouting, then input or forward and postrouting.
func (t *Tracer) Receive(p *Packet) (Verdict, error) {
	if v, err := t.Hook("prerouting", p); err != nil || v != Accepted {
		return v, err
	}
	if t.IsLocal(p.Dest.Addr()) {
		return t.Hook("input", p)
	}
	return t.Hooks(p, "forward", "postrouting")
}

// Send sends a packet that a process on the node made.
func (t *Tracer) Send(p *Packet) (Verdict, error) { return t.Hooks(p, "output", "postrouting") }

// Hooks sends the packet through several hooks.
func (t *Tracer) Hooks(p *Packet, names ...string) (Verdict, error) {
	for _, name := range names {
		if v, err := t.Hook(name, p); err != nil || v != Accepted {
			return v, err
		}
	}
	return Accepted, nil
}

// Hook sends the packet through the base chains at one hook.
func (t *Tracer) Hook(name string, p *Packet) (Verdict, error) {
	type at struct {
		table *nft.Table
		chain *nft.Chain
	}
	family := nft.IPv4
	if p.Dest.Addr().Is6() {
		family = nft.IPv6
	}
	var chains []at
	for _, table := range t.tables {
		if table.Family == family || table.Family == nft.INet {
			for _, c := range table.Hooked(name) {
				chains = append(chains, at{table, c})
			}
		}
	}
	slices.SortStableFunc(chains, func(a, b at) int { return a.chain.Hook.Priority - b.chain.Hook.Priority })
	for _, c := range chains {
		if c.chain.Hook.Type == "nat" && (name == "postrouting" && p.Masqueraded || name != "postrouting" && p.DNATed) {
			continue // the first translation is the connection's
		}
		m := &machine{tracer: t, table: c.table, packet: p}
		end, err := m.chain(c.chain.Name, 0)
		if err != nil {
			return "", fmt.Errorf("chain %s of table %s: %w", c.chain.Name, c.table.Name, err)
		}
		switch {
		case end == endDrop, end == endNone && c.chain.Hook.Drop:
			return Dropped, nil
		case end == endReject:
			return Rejected, nil
		}
	}
	return Accepted, nil
}

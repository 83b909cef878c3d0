//go:build linux

// Package nft describes nftables tables as values and brings the kernel to
// them in one transaction. A Table is built from chains, sets and maps; its
// String is the text nft would list, which golden tests compare; Client.Sync
// sends only what differs from the table synced before, or replaces the table
// when nothing is known of it. kubelet/network and proxy/backend/nftables use
// it; it calls google/nftables and no program. It starts no goroutines.
package nft

import (
	"time"

	"github.com/google/nftables"
)

// Family is the address family of a table.
type Family = nftables.TableFamily

// The families in use.
const (
	IPv4 Family = nftables.TableFamilyIPv4
	IPv6 Family = nftables.TableFamilyIPv6
	INet Family = nftables.TableFamilyINet
)

// Table is a whole table: what is not in it is not in the kernel after Sync.
type Table struct {
	Family Family
	Name   string
	Sets   []Set
	Chains []Chain
}

// Chain is a list of rules, with a hook if the kernel calls it (a base chain).
type Chain struct {
	Name  string
	Hook  *Hook // nil for a chain that is jumped to
	Rules []Rule
}

// Hook says where in the packet's path a base chain is called.
type Hook struct {
	// Type is "filter", "nat" or "route".
	Type string
	// Name is "prerouting", "input", "forward", "output" or "postrouting".
	Name string
	// Priority orders chains at one hook; lower is earlier.
	Priority int
	// Drop makes dropping the policy; otherwise it is accepting.
	Drop bool
}

// Priorities of the kernel's own steps (enum nf_ip_hook_priorities in
// include/uapi/linux/netfilter_ipv4.h), to be before or after them.
const (
	PriorityRaw       = -300
	PriorityConntrack = -200
	PriorityMangle    = -150
	PriorityDNAT      = -100
	PriorityFilter    = 0
	PrioritySNAT      = 100
)

// Rule is a sequence of expressions: matches first, then what to do.
type Rule struct {
	Exprs   []Expr
	Comment string // shown in listings; at most 128 bytes
}

// R makes a rule.
func R(exprs ...Expr) Rule { return Rule{Exprs: exprs} }

// Set is a named set (Value empty, Verdicts false), map (Value) or verdict map
// (Verdicts).
type Set struct {
	Name     string
	Key      []Type // several make a concatenation
	Value    []Type
	Verdicts bool
	// Interval permits elements that are prefixes.
	Interval bool
	// Timeout is the default life of elements; 0 keeps them. Sets with a
	// timeout are filled by rules and their elements are never diffed.
	Timeout time.Duration
	// Dynamic lets rules add elements.
	Dynamic bool
	// Size bounds the number of elements; 0 does not. Dynamic sets need one.
	Size     uint32
	Elements []Element
}

// Element is a member of a set: a key, and a value or verdict in maps.
type Element struct {
	Key     Datum
	Value   Datum
	Verdict *Verdict
}

// Verdict is what an element of a verdict map does with the packet.
type Verdict struct {
	// Do is "accept", "drop", "return", "jump" or "goto".
	Do    string
	Chain string // for jump and goto
}

func (v *Verdict) text() string {
	if v.Chain == "" {
		return v.Do
	}
	return v.Do + " " + v.Chain
}

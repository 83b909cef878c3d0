//go:build linux

// Package nftables carries out a Ruleset with one nftables table per address
// family. Every frontend is an element of a verdict map and its endpoints are
// elements of maps; chains exist per way of choosing, not per Service, so a
// packet passes the same few rules at any number of Services, and a change is
// a handful of elements in one transaction.
//
//	prerouting, output (filter) ── guarded: who may come at all
//	prerouting, output (nat) ── frontends, nodeports: verdict maps ──► pick-… chain
//	    pick-…: mark for masquerading ── dnat to map @endpoints-N[frontend, random slot]
//	postrouting (nat): masquerade what is marked, and packets of an endpoint to itself
//	input, forward, output (filter): reject or drop what has no endpoint
//
// It implements backend.Backend. It starts no goroutines.
package nftables

import (
	"context"
	"errors"
	"slices"

	"github.com/skeg-dev/skeg/internal/netmark"
	"github.com/skeg-dev/skeg/internal/nft"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// Backend programs one network namespace. Use New.
type Backend struct {
	client *nft.Client
	// books are what is in the kernel, per family; nil when that is unknown.
	books map[nft.Family]*book
	// rules are the last ones synced.
	rules *ruleset.Ruleset
	// generation is the kernel's after our last transaction, 0 when others
	// made one at the same time; check says to compare it.
	generation uint32
	check      bool
	// transactions counts those of the Sync at work.
	transactions uint32
}

var families = []nft.Family{nft.IPv4, nft.IPv6}

// New makes a backend for the network namespace at path netns; "" is the
// process's own. Nothing is touched before Sync.
func New(netns string) *Backend {
	return &Backend{client: nft.NewClient(netns)}
}

// Name is "nftables".
func (*Backend) Name() string { return "nftables" }

// Available is nil when the kernel has nftables and we may use it.
func (b *Backend) Available(context.Context) error {
	_, err := b.client.Generation()
	return err
}

// Sync brings both tables to rules, each in one transaction that holds only
// what changed since the last one. Clients that stay with an endpoint do so
// also when the tables are replaced.
func (b *Backend) Sync(_ context.Context, rules *ruleset.Ruleset) error {
	before, err := b.client.Generation()
	if err != nil {
		return err
	}
	if b.check && before != b.generation {
		b.books = nil
	}
	known := b.books != nil && sameNetworks(b.rules, rules)
	b.transactions = 0
	if known {
		known = before == b.generation
		err = b.update(rules)
	} else {
		known = true
		err = b.replace(rules)
	}
	if err != nil {
		b.books = nil
		return err
	}
	after, err := b.client.Generation()
	if err != nil {
		b.books = nil
		return err
	}
	b.rules, b.check, b.generation = rules, false, 0
	if known && after == before+b.transactions {
		b.generation = after
	}
	return nil
}

// replace makes both tables anew.
func (b *Backend) replace(rules *ruleset.Ruleset) error {
	b.client.Forget()
	defer b.client.Forget() // the books know the tables
	books := map[nft.Family]*book{}
	for _, family := range families {
		books[family] = newBook(family, rules)
		books[family].change(nil, rules.Frontends)
		if _, err := b.client.Sync(books[family].table(rules)); err != nil {
			return err
		}
		b.transactions++
		if err := b.dropStaleChoices(books[family], rules.Frontends); err != nil {
			return err
		}
	}
	b.books = books
	return nil
}

// update sends what changed since the last Sync, or everything if the kernel
// refuses that: a stranger may have changed what it builds on.
func (b *Backend) update(rules *ruleset.Ruleset) error {
	gone, added := ruleset.Diff(b.rules.Frontends, rules.Frontends)
	for _, family := range families {
		change := b.books[family].change(gone, added)
		if change.Empty() {
			continue
		}
		if _, err := b.client.Apply(change); err != nil {
			return b.replace(rules)
		}
		b.transactions++
		if err := b.dropStaleChoices(b.books[family], added); err != nil {
			return err
		}
	}
	return nil
}

// Forget makes the next Sync replace the tables, if anybody changed any table
// since the last one.
func (b *Backend) Forget() { b.check = true }

// Cleanup removes the tables.
func (b *Backend) Cleanup(context.Context) error {
	b.books = nil
	return errors.Join(b.client.Delete(nft.IPv4, netmark.ProxyTable), b.client.Delete(nft.IPv6, netmark.ProxyTable))
}

func sameNetworks(a, b *ruleset.Ruleset) bool {
	return slices.Equal(a.PodNetworks, b.PodNetworks) && slices.Equal(a.NodePortAddresses, b.NodePortAddresses) &&
		slices.Equal(a.ServiceNetworks, b.ServiceNetworks)
}

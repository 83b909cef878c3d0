//go:build linux

// Package nftables carries out a Ruleset with one nftables table per address
// family. Every frontend is an element of a verdict map and its endpoints are
// elements of maps; chains exist per way of choosing, not per Service, so a
// packet passes the same few rules at any number of Services, and a change is
// a handful of elements in one transaction.
//
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
	"fmt"

	"github.com/skeg-dev/skeg/internal/netmark"
	"github.com/skeg-dev/skeg/internal/nft"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// Backend programs one network namespace. Use New.
type Backend struct {
	client *nft.Client
}

// New makes a backend for the network namespace at path netns; "" is the
// process's own. Nothing is touched before Sync.
func New(netns string) *Backend {
	return &Backend{client: nft.NewClient(netns)}
}

// Name is "nftables".
func (*Backend) Name() string { return "nftables" }

// Sync brings both tables to rules, each in one transaction that holds only
// what changed.
func (b *Backend) Sync(_ context.Context, rules *ruleset.Ruleset) error {
	for _, family := range []nft.Family{nft.IPv4, nft.IPv6} {
		table := Table(family, rules)
		if _, err := b.client.Sync(table); err != nil {
			return err
		}
		if err := b.dropStaleChoices(family, rules); err != nil {
			return err
		}
	}
	return nil
}

// Forget makes the next Sync replace the tables.
func (b *Backend) Forget() { b.client.Forget() }

// Cleanup removes the tables.
func (b *Backend) Cleanup(context.Context) error {
	return errors.Join(b.client.Delete(nft.IPv4, netmark.ProxyTable), b.client.Delete(nft.IPv6, netmark.ProxyTable))
}

// Table is the whole table of a family for the given rules. It is a pure
// function: golden tests compare its String.
func Table(family nft.Family, rules *ruleset.Ruleset) *nft.Table {
	t := newTable(family, rules)
	for i := range rules.Frontends {
		if f := &rules.Frontends[i]; f.Six == (family == nft.IPv6) {
			t.add(f)
		}
	}
	return t.build()
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

func frontendKey(f *ruleset.Frontend) []nft.Datum {
	key := []nft.Datum{nft.Proto(byte(f.Protocol)), nft.Port(f.Port)}
	if f.NodePort {
		return key
	}
	return append([]nft.Datum{nft.Addr(f.Address)}, key...)
}

func comment(format string, args ...any) string {
	text := fmt.Sprintf(format, args...)
	if len(text) > 128 { // nft's limit
		text = text[:128]
	}
	return text
}

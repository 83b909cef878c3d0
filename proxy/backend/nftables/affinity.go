//go:build linux

package nftables

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"

	"github.com/skeg-dev/skeg/internal/netmark"
	"github.com/skeg-dev/skeg/internal/nft"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// choices are the endpoints that clients of some places may be remembered
// with, by the memory they are in.
type choices map[string]map[place]map[netip.AddrPort]bool

// choicesOf lists those of frontends with affinity in one family.
func choicesOf(frontends []ruleset.Frontend, family nft.Family) choices {
	all := choices{}
	for i := range frontends {
		f := &frontends[i]
		if f.Affinity == 0 || f.Six != (family == nft.IPv6) {
			continue
		}
		memory := memoryName(f.Affinity)
		if all[memory] == nil {
			all[memory] = map[place]map[netip.AddrPort]bool{}
		}
		valid := map[netip.AddrPort]bool{}
		for _, e := range slices.Concat(f.Endpoints, f.Insiders) {
			valid[e] = true
		}
		all[memory][placeOf(f)] = valid
	}
	return all
}

// dropStaleChoices forgets the clients of changed frontends whose remembered
// endpoint is none any more, so that they choose anew.
func (b *Backend) dropStaleChoices(k *book, changed []ruleset.Frontend) error {
	all := choicesOf(changed, k.family)
	for memory := range all {
		if k.sets[memory] == nil { // none of them has an endpoint
			delete(all, memory)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return b.client.Conn(func(c *nftables.Conn) error {
		table := &nftables.Table{Family: k.family, Name: netmark.ProxyTable}
		for memory, valid := range all {
			dropped, err := dropStale(c, table, memory, valid)
			if err != nil {
				return fmt.Errorf("forget old choices in %s: %w", memory, err)
			}
			if dropped {
				b.transactions++
			}
		}
		return nil
	})
}

func dropStale(c *nftables.Conn, table *nftables.Table, memory string, valid map[place]map[netip.AddrPort]bool) (bool, error) {
	set, err := c.GetSetByName(table, memory)
	if err != nil {
		return false, err
	}
	elements, err := c.GetSetElements(set)
	if err != nil {
		return false, err
	}
	var stale []nftables.SetElement
	for _, e := range elements {
		at, endpoint, ok := choiceOf(e.Key, e.Val, table.Family)
		if !ok {
			continue
		}
		endpoints, known := valid[at]
		if !known { // a node port, at one of the node's addresses
			at.address = netip.Addr{}
			endpoints, known = valid[at]
		}
		if known && !endpoints[endpoint] {
			stale = append(stale, nftables.SetElement{Key: e.Key})
		}
	}
	for part := range slices.Chunk(stale, 100) {
		if err := c.SetDeleteElements(set, part); err != nil {
			return false, err
		}
	}
	if len(stale) == 0 {
		return false, nil
	}
	return true, c.Flush()
}

// choiceOf reads an element of a memory: client, address, protocol, port, and
// the endpoint's address and port, each padded to 4 bytes.
func choiceOf(key, value []byte, family nft.Family) (place, netip.AddrPort, bool) {
	size := 4
	if family == nft.IPv6 {
		size = 16
	}
	if len(key) < 2*size+8 || len(value) < size+2 {
		return place{}, netip.AddrPort{}, false
	}
	sentTo, _ := netip.AddrFromSlice(key[size : 2*size]) // the length is right
	endpoint, _ := netip.AddrFromSlice(value[:size])
	at := place{sentTo, ruleset.Protocol(key[2*size]), binary.BigEndian.Uint16(key[2*size+4:])}
	return at, netip.AddrPortFrom(endpoint, binary.BigEndian.Uint16(value[size:])), true
}

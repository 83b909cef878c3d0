//go:build linux

package nftables

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"

	"github.com/skeg-dev/skeg/internal/netmark"
	"github.com/skeg-dev/skeg/internal/nft"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func compareNames(a, b string) int { return strings.Compare(a, b) }

// dropStaleChoices forgets the clients whose remembered endpoint is none any
// more, so that they choose anew.
func (b *Backend) dropStaleChoices(family nft.Family, rules *ruleset.Ruleset) error {
	valid := map[string]map[netip.AddrPort]bool{} // memory → endpoints
	for i := range rules.Frontends {
		f := &rules.Frontends[i]
		if f.Affinity == 0 || f.Six != (family == nft.IPv6) {
			continue
		}
		memory := memoryName(f.Affinity)
		if valid[memory] == nil {
			valid[memory] = map[netip.AddrPort]bool{}
		}
		for _, e := range slices.Concat(f.Endpoints, f.Insiders) {
			valid[memory][e] = true
		}
	}
	if len(valid) == 0 {
		return nil
	}
	return b.client.Conn(func(c *nftables.Conn) error {
		table := &nftables.Table{Family: family, Name: netmark.ProxyTable}
		for memory, endpoints := range valid {
			if err := dropStale(c, table, memory, endpoints); err != nil {
				return fmt.Errorf("forget old choices in %s: %w", memory, err)
			}
		}
		return nil
	})
}

func dropStale(c *nftables.Conn, table *nftables.Table, memory string, valid map[netip.AddrPort]bool) error {
	set, err := c.GetSetByName(table, memory)
	if err != nil {
		return err
	}
	elements, err := c.GetSetElements(set)
	if err != nil {
		return err
	}
	var stale []nftables.SetElement
	for _, e := range elements {
		if endpoint, ok := endpointOf(e.Val, table.Family == nft.IPv6); ok && !valid[endpoint] {
			stale = append(stale, nftables.SetElement{Key: e.Key})
		}
	}
	if len(stale) == 0 {
		return nil
	}
	if err := c.SetDeleteElements(set, stale); err != nil {
		return err
	}
	return c.Flush()
}

// endpointOf reads an address and a port, each padded to 4 bytes.
func endpointOf(value []byte, six bool) (netip.AddrPort, bool) {
	size := 4
	if six {
		size = 16
	}
	if len(value) < size+2 {
		return netip.AddrPort{}, false
	}
	addr, ok := netip.AddrFromSlice(value[:size])
	return netip.AddrPortFrom(addr, uint16(value[size])<<8|uint16(value[size+1])), ok
}

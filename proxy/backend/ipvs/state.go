//go:build linux

package ipvs

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/skeg-dev/skeg/internal/netmark"
	"github.com/skeg-dev/skeg/internal/nft"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// State is what the kernel has to have.
type State struct {
	// Servers are the virtual servers, sorted.
	Servers []Server
	// Addresses are those of Services, for the link that makes them local.
	Addresses []netip.Addr
	// Tables refuse, guard, mark and masquerade, one per family.
	Tables []*nft.Table
}

// Server is a virtual server: by address, protocol and port or, when Mark is
// not 0, for packets with that mark.
type Server struct {
	Key          Key
	Affinity     time.Duration
	Destinations []netip.AddrPort
}

// Key tells virtual servers apart.
type Key struct {
	Six      bool
	Address  netip.Addr
	Protocol ruleset.Protocol
	Port     uint16
	Mark     uint32
}

// StateOf translates rules for a node with the given addresses. It is a pure
// function.
func StateOf(rules *ruleset.Ruleset, node []netip.Addr) State {
	s := state{rules: rules, node: nodePortAddresses(rules, node), servers: map[Key]Server{}, marks: map[uint32]bool{}, addresses: map[netip.Addr]bool{}}
	s.tables = map[bool]*table{false: newTable(nft.IPv4, rules, node), true: newTable(nft.IPv6, rules, node)}
	seen := map[Key]bool{} // places of frontends: the first is served
	for i := range rules.Frontends {
		f := &rules.Frontends[i]
		at := Key{Six: f.Six, Address: f.Address, Protocol: f.Protocol, Port: f.Port}
		if seen[at] {
			continue
		}
		seen[at] = true
		s.add(f, at)
	}
	var out State
	for _, server := range s.servers {
		out.Servers = append(out.Servers, server)
	}
	slices.SortFunc(out.Servers, func(a, b Server) int { return compareKeys(a.Key, b.Key) })
	for a := range s.addresses {
		out.Addresses = append(out.Addresses, a)
	}
	slices.SortFunc(out.Addresses, netip.Addr.Compare)
	out.Tables = []*nft.Table{s.tables[false].build(), s.tables[true].build()}
	return out
}

func compareKeys(a, b Key) int {
	return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Mark, b.Mark))
}

// nodePortAddresses are the node's addresses that node ports answer on.
func nodePortAddresses(rules *ruleset.Ruleset, node []netip.Addr) []netip.Addr {
	var all []netip.Addr
	limited := map[bool]bool{} // families that have a limit
	for _, p := range rules.NodePortAddresses {
		limited[p.Addr().Is6()] = true
	}
	for _, a := range node {
		in := func(p netip.Prefix) bool { return p.Contains(a) }
		if !a.IsLoopback() && !a.IsLinkLocalUnicast() && (!limited[a.Is6()] || slices.ContainsFunc(rules.NodePortAddresses, in)) {
			all = append(all, a)
		}
	}
	return all
}

// state is a State while it is made.
type state struct {
	rules     *ruleset.Ruleset
	node      []netip.Addr
	servers   map[Key]Server
	marks     map[uint32]bool
	addresses map[netip.Addr]bool
	tables    map[bool]*table
}

func (s *state) add(f *ruleset.Frontend, at Key) {
	t := s.tables[f.Six]
	places := []Key{at}
	if f.NodePort {
		places = places[:0]
		for _, a := range s.node {
			if a.Is6() == f.Six {
				places = append(places, Key{Six: f.Six, Address: a, Protocol: f.Protocol, Port: f.Port})
			}
		}
	} else {
		s.addresses[f.Address] = true
	}
	for _, place := range places {
		if _, taken := s.servers[place]; taken && f.NodePort {
			continue // an external IP that is the node's own comes first
		}
		if len(f.Endpoints) > 0 {
			s.servers[place] = Server{Key: place, Affinity: f.Affinity, Destinations: f.Endpoints}
		}
		t.frontend(f, place)
	}
	if len(f.Insiders) > 0 && len(places) > 0 {
		mark := s.mark(at)
		key := Key{Six: f.Six, Mark: mark}
		s.servers[key] = Server{Key: key, Affinity: f.Affinity, Destinations: f.Insiders}
		for _, place := range places {
			t.insiders(place, mark)
		}
	}
	for _, e := range slices.Concat(f.Endpoints, f.Insiders) {
		t.hairpin[e.Addr()] = true
	}
}

// mark finds a mark for the insiders of a frontend: one that stays when others
// come and go, in the upper half, with the bit that asks for masquerading.
func (s *state) mark(at Key) uint32 {
	h := fnv.New32a()
	_, _ = h.Write(at.Address.AsSlice()) // a hash takes everything
	_, _ = h.Write([]byte{byte(at.Protocol), byte(at.Port >> 8), byte(at.Port)})
	for n := h.Sum32(); ; n++ {
		if mark := max(n&0xffff, 1)<<16 | netmark.Masquerade; !s.marks[mark] {
			s.marks[mark] = true
			return mark
		}
	}
}

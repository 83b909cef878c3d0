//go:build linux

package nftables

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"testing"
	"time"

	"github.com/skeg-dev/skeg/internal/nft"
	"github.com/skeg-dev/skeg/proxy/backend/backendtest"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// anyRules makes rules of up to 12 frontends that meet in places, endpoints,
// chains and maps.
func anyRules(r *rand.Rand) *ruleset.Ruleset {
	var all []ruleset.Frontend
	for range r.IntN(12) {
		var endpoints []netip.AddrPort
		for n := range r.IntN(4) {
			endpoints = append(endpoints, backendtest.Endpoint(1+(n+r.IntN(3))%3))
		}
		f := backendtest.ClusterIP(fmt.Sprintf("10.79.0.%d", 1+r.IntN(4)), endpoints...)
		if r.IntN(3) == 0 {
			f = backendtest.NodePort(uint16(30000+r.IntN(2)), endpoints...)
		}
		f.Service = fmt.Sprintf("ns/%c:", 'a'+r.IntN(6))
		f.Affinity = time.Duration(r.IntN(2)) * time.Hour
		f.Empty = ruleset.Empty(r.IntN(2))
		if r.IntN(4) == 0 {
			f.Insiders, f.Masquerade = []netip.AddrPort{backendtest.Endpoint(3)}, ruleset.MasqueradeNone
		}
		if r.IntN(4) == 0 {
			f.Sources = []netip.Prefix{netip.PrefixFrom(backendtest.Client, 16+r.IntN(2)).Masked()}
		}
		all = append(all, f)
	}
	return backendtest.Rules(all...)
}

// TestChangesAddUp: after any changes, a table is as if made at once.
func TestChangesAddUp(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		old := anyRules(r)
		b := newBook(nft.IPv4, old)
		b.change(nil, old.Frontends)
		table := b.table(old)
		for range 5 {
			next := anyRules(r)
			apply(t, table, b.change(ruleset.Diff(old.Frontends, next.Frontends)))
			if got, want := table.String(), Table(nft.IPv4, next).String(); got != want {
				t.Fatalf("changed\n%s\nmade at once\n%s", got, want)
			}
			if got, want := b.table(next).String(), Table(nft.IPv4, next).String(); got != want {
				t.Fatalf("by the book\n%s\nmade at once\n%s", got, want)
			}
			old = next
		}
	}
}

// apply does what the kernel does, as strictly.
func apply(t *testing.T, table *nft.Table, c *nft.Change) {
	t.Helper()
	for _, chain := range c.Chains {
		if find(table.Chains, func(x nft.Chain) bool { return x.Name == chain.Name }) >= 0 {
			t.Fatalf("chain %s exists", chain.Name)
		}
		table.Chains = append(table.Chains, chain)
	}
	for _, set := range c.Sets {
		if find(table.Sets, func(x nft.Set) bool { return x.Name == set.Name }) >= 0 {
			t.Fatalf("set %s exists", set.Name)
		}
		table.Sets = append(table.Sets, set)
	}
	for _, e := range c.Elements {
		i := find(table.Sets, func(x nft.Set) bool { return x.Name == e.Set.Name })
		if i < 0 {
			t.Fatalf("no set %s", e.Set.Name)
		}
		set := &table.Sets[i]
		for _, gone := range e.Gone {
			k := find(set.Elements, func(x nft.Element) bool { return x.String() == gone.String() })
			if k < 0 {
				t.Fatalf("set %s has no %s", set.Name, &gone)
			}
			set.Elements = append(append([]nft.Element{}, set.Elements[:k]...), set.Elements[k+1:]...)
		}
		for _, added := range e.Added {
			if find(set.Elements, func(x nft.Element) bool { return x.Key.String() == added.Key.String() }) >= 0 {
				t.Fatalf("set %s has %s", set.Name, &added)
			}
			set.Elements = append(set.Elements, added)
		}
	}
	for _, s := range c.OldSets {
		i := find(table.Sets, func(x nft.Set) bool { return x.Name == s.Name })
		table.Sets = append(table.Sets[:i], table.Sets[i+1:]...)
	}
	for _, s := range c.OldChains {
		i := find(table.Chains, func(x nft.Chain) bool { return x.Name == s.Name })
		table.Chains = append(table.Chains[:i], table.Chains[i+1:]...)
	}
}

func find[T any](all []T, is func(T) bool) int {
	for i := range all {
		if is(all[i]) {
			return i
		}
	}
	return -1
}

// services makes n Services with a cluster IP and three endpoints each.
func services(n int) []ruleset.Frontend {
	var all []ruleset.Frontend
	for i := range n {
		pod := func(k int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(100 + k), byte(i >> 8), byte(i)}), 8080)
		}
		f := backendtest.ClusterIP("10.79.0.1", pod(0), pod(1), pod(2))
		f.Service, f.Address = fmt.Sprintf("ns/service-%05d:", i), netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})
		all = append(all, f)
	}
	return ruleset.Sorted(all)
}

// BenchmarkSync changes one endpoint of one Service among many.
func BenchmarkSync(b *testing.B) {
	for _, n := range []int{10, 1000, 5000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			netns := backendtest.Namespace(b)
			backend := New(netns)
			all := services(n)
			if err := backend.Sync(b.Context(), backendtest.Rules(all...)); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			round := 0
			for b.Loop() {
				round++
				one := all[n/2]
				one.Endpoints = append([]netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 99, byte(round >> 8), byte(round)}), 8080)}, one.Endpoints[1:]...)
				all = ruleset.Splice(all, map[string]ruleset.Service{fmt.Sprintf("ns/service-%05d", n/2): {Frontends: []ruleset.Frontend{one}}})
				rules := backendtest.Rules()
				rules.Frontends = all
				if err := backend.Sync(b.Context(), rules); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFirstSync replaces the whole.
func BenchmarkFirstSync(b *testing.B) {
	for _, n := range []int{10, 1000, 5000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			netns := backendtest.Namespace(b)
			rules := backendtest.Rules(services(n)...)
			for b.Loop() {
				if err := New(netns).Sync(b.Context(), rules); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestAnyChangesReachTheKernel: the kernel takes every change, and has in the
// end what it would have been given at once.
func TestAnyChangesReachTheKernel(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	ns, fresh := backendtest.Namespace(t), backendtest.Namespace(t)
	b := New(ns)
	for range 60 {
		rules := anyRules(r)
		if err := b.Sync(t.Context(), rules); err != nil {
			t.Fatal(err)
		}
		if b.transactions > 4 {
			t.Errorf("%d transactions: the change was refused and the tables replaced", b.transactions)
		}
		if err := New(fresh).Sync(t.Context(), rules); err != nil {
			t.Fatal(err)
		}
		if got, want := withoutHandles(dump(t, ns)), withoutHandles(dump(t, fresh)); got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	}
}

var handles = regexp.MustCompile(`rules [0-9 ]*`)

func withoutHandles(text string) string { return handles.ReplaceAllString(text, "rules") }

//go:build linux

package nftables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/skeg-dev/skeg/internal/netmark"
	"github.com/skeg-dev/skeg/internal/nft"
	"github.com/skeg-dev/skeg/internal/testkit"
	"github.com/skeg-dev/skeg/proxy/backend"
	"github.com/skeg-dev/skeg/proxy/backend/backendtest"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

func TestSent(t *testing.T) {
	lab := backendtest.NewLab(t)
	backendtest.Run(t, lab.Kernel(New(lab.Node)))
}

func TestContract(t *testing.T) {
	backendtest.Contract(t, backendtest.Subject{
		New:  func(netns string) backend.Backend { return New(netns) },
		Dump: dump,
		Foreign: func(t testing.TB, netns string) func(testing.TB) {
			other := nft.NewClient(netns)
			table := &nft.Table{Family: nft.IPv4, Name: "other", Chains: []nft.Chain{{Name: "c", Rules: []nft.Rule{nft.R(nft.Return())}}}}
			if _, err := other.Sync(table); err != nil {
				t.Fatal(err)
			}
			return func(t testing.TB) {
				t.Helper()
				if text := dumpTable(t, netns, nft.IPv4, "other"); !strings.Contains(text, "chain c: 1 rules") {
					t.Errorf("another program's table: %s", text)
				}
			}
		},
	})
}

func dump(t testing.TB, netns string) string {
	t.Helper()
	return dumpTable(t, netns, nft.IPv4, netmark.ProxyTable) + dumpTable(t, netns, nft.IPv6, netmark.ProxyTable)
}

// dumpTable lists a table with the handles of its rules, which are new when a
// rule is.
func dumpTable(t testing.TB, netns string, family nft.Family, name string) string {
	t.Helper()
	var lines []string
	err := nft.NewClient(netns).Conn(func(c *nftables.Conn) error {
		chains, err := c.ListChainsOfTableFamily(family)
		if err != nil {
			return fmt.Errorf("list chains: %w", err)
		}
		for _, chain := range chains {
			if chain.Table.Name != name {
				continue
			}
			rules, err := c.GetRules(chain.Table, chain)
			if err != nil {
				return fmt.Errorf("list rules: %w", err)
			}
			line := fmt.Sprintf("chain %s: %d rules", chain.Name, len(rules))
			for _, r := range rules {
				line += fmt.Sprintf(" %d", r.Handle)
			}
			lines = append(lines, line)
		}
		sets, err := c.GetSets(&nftables.Table{Family: family, Name: name})
		if err != nil {
			return nil // no table
		}
		for _, set := range sets {
			elements, err := c.GetSetElements(set)
			if err != nil {
				return fmt.Errorf("list elements: %w", err)
			}
			for _, e := range elements {
				lines = append(lines, fmt.Sprintf("set %s: %x %x %v", set.Name, e.Key, e.Val, e.VerdictData))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestChoicesLast follows a client with affinity over what must keep its
// choice, and what must not.
func TestChoicesLast(t *testing.T) {
	lab := backendtest.NewLab(t)
	all := []netip.AddrPort{backendtest.Endpoint(1), backendtest.Endpoint(2), backendtest.Endpoint(3)}
	sticky := func(addr string, to ...netip.AddrPort) ruleset.Frontend {
		f := backendtest.ClusterIP(addr, to...)
		f.Affinity = time.Hour
		return f
	}
	ask := func() netip.AddrPort {
		t.Helper()
		got := lab.Send(t, backendtest.Packet{From: backendtest.Client, To: netip.MustParseAddrPort("10.79.0.1:80"), Protocol: ruleset.TCP}, testkit.Patience)
		if got.Verdict != backendtest.Reached {
			t.Fatalf("%+v", got)
		}
		return got.Endpoint
	}
	b := New(lab.Node)
	sync := func(frontends ...ruleset.Frontend) {
		t.Helper()
		if err := b.Sync(t.Context(), backendtest.Rules(frontends...)); err != nil {
			t.Fatal(err)
		}
	}
	other := sticky("10.79.0.2", all...) // has all endpoints: its clients must not matter
	sync(sticky("10.79.0.1", all...), other)
	first := ask()
	keeps := func(what string) {
		t.Helper()
		for range 6 {
			if got := ask(); got != first {
				t.Fatalf("%s: %s, was %s", what, got, first)
			}
		}
	}
	keeps("the same rules")
	sync(sticky("10.79.0.1", first, backendtest.Endpoint(1), backendtest.Endpoint(2)), other)
	keeps("other endpoints went")
	b.Forget()
	if _, err := nft.NewClient(lab.Node).Sync(&nft.Table{Family: nft.IPv4, Name: "other"}); err != nil {
		t.Fatal(err) // so that the tables are replaced
	}
	sync(sticky("10.79.0.1", all...), other)
	keeps("the table was replaced")
	b = New(lab.Node)
	sync(sticky("10.79.0.1", all...), other)
	keeps("the process is new")
	rest := slices.DeleteFunc(slices.Clone(all), func(e netip.AddrPort) bool { return e == first })
	sync(sticky("10.79.0.1", rest...), other)
	if got := ask(); got == first {
		t.Errorf("the client stays with %s, which is gone", got)
	}
}

// TestForgetLooksFirst: with nothing changed by anybody, there is nothing to do.
func TestForgetLooksFirst(t *testing.T) {
	lab := backendtest.NewLab(t)
	b := New(lab.Node)
	rules := backendtest.Rules(backendtest.ClusterIP("10.79.0.1", backendtest.Endpoint(1)))
	if err := b.Sync(t.Context(), rules); err != nil {
		t.Fatal(err)
	}
	before := dump(t, lab.Node)
	b.Forget()
	if err := b.Sync(t.Context(), rules); err != nil {
		t.Fatal(err)
	}
	if after := dump(t, lab.Node); after != before {
		t.Errorf("replaced without need: before\n%s\nafter\n%s", before, after)
	}
}

//go:build linux

package nft_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"

	"github.com/skeg-dev/skeg/internal/netns"
	"github.com/skeg-dev/skeg/internal/nft"
)

func sample() *nft.Table {
	pod := nft.Tuple(nft.Addr(netip.MustParseAddr("10.1.0.5")), nft.Port(8080))
	return &nft.Table{
		Family: nft.IPv4,
		Name:   "sample",
		Sets: []nft.Set{
			{Name: "cluster", Key: []nft.Type{nft.TypeIPv4}, Interval: true, Elements: []nft.Element{
				{Key: nft.Prefix(netip.MustParsePrefix("10.1.0.0/24"))},
				{Key: nft.Prefix(netip.MustParsePrefix("10.2.3.0/24"))},
			}},
			{Name: "ports", Key: []nft.Type{nft.TypeProto, nft.TypePort}, Value: []nft.Type{nft.TypeIPv4, nft.TypePort},
				Elements: []nft.Element{{Key: nft.Tuple(nft.Proto(6), nft.Port(80)), Value: pod}}},
			{Name: "services", Key: []nft.Type{nft.TypeIPv4, nft.TypeProto, nft.TypePort}, Verdicts: true,
				Elements: []nft.Element{{
					Key:     nft.Tuple(nft.Addr(netip.MustParseAddr("10.96.0.1")), nft.Proto(6), nft.Port(443)),
					Verdict: &nft.Verdict{Do: "goto", Chain: "svc-a"},
				}}},
		},
		Chains: []nft.Chain{
			{Name: "svc-a", Rules: []nft.Rule{
				nft.R(nft.SetMark(0x4000)),
				nft.R(nft.L4Proto.Is(nft.Proto(6)), nft.DNAT(netip.MustParseAddrPort("10.1.0.5:8443"))),
			}},
			{Name: "pre", Hook: &nft.Hook{Type: "nat", Name: "prerouting", Priority: nft.PriorityDNAT}, Rules: []nft.Rule{
				nft.R(nft.VerdictFrom("services", nft.IPDest, nft.L4Proto, nft.DestPort)),
				nft.R(nft.DestIsLocal(), nft.DNATFrom(nft.IPv4, "ports", nft.L4Proto, nft.DestPort)),
			}},
			{Name: "post", Hook: &nft.Hook{Type: "nat", Name: "postrouting", Priority: nft.PrioritySNAT}, Rules: []nft.Rule{
				nft.R(nft.Masked(0x4000, 0x4000), nft.ClearMark(0x4000), nft.Masquerade()),
				{Exprs: []nft.Expr{nft.IPSource.Is(nft.Prefix(netip.MustParsePrefix("10.1.0.0/24"))),
					nft.NotIn("cluster", nft.IPDest), nft.OutLink.Not(nft.Ifname("skeg0")), nft.Masquerade()}, Comment: "pods go out"},
				nft.R(nft.IsDNATed(), nft.InLink.Is(nft.Ifname("lo")), nft.Accept()),
			}},
			{Name: "in", Hook: &nft.Hook{Type: "filter", Name: "input", Priority: nft.PriorityFilter}, Rules: []nft.Rule{
				nft.R(nft.In("cluster", nft.IPSource), nft.L4Proto.Is(nft.Proto(17)), nft.DestPort.Is(nft.Port(9)), nft.Reject(nft.IPv4)),
			}},
		},
	}
}

const golden = `table ip sample {
	set cluster {
		type ipv4_addr
		flags interval
		elements = { 10.1.0.0/24,
			     10.2.3.0/24 }
	}

	map ports {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 80 : 10.1.0.5 . 8080 }
	}

	map services {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.96.0.1 . tcp . 443 : goto svc-a }
	}

	chain in {
		type filter hook input priority 0; policy accept;
		ip saddr @cluster meta l4proto udp th dport 9 reject with icmp port-unreachable
	}

	chain post {
		type nat hook postrouting priority 100; policy accept;
		meta mark & 0x00004000 == 0x00004000 meta mark set meta mark & 0xffffbfff masquerade fully-random
		ip saddr 10.1.0.0/24 ip daddr != @cluster oifname != "skeg0" masquerade fully-random comment "pods go out"
		ct status dnat iifname "lo" accept
	}

	chain pre {
		type nat hook prerouting priority -100; policy accept;
		ip daddr . meta l4proto . th dport vmap @services
		fib daddr type local dnat ip to meta l4proto . th dport map @ports
	}

	chain svc-a {
		meta mark set meta mark | 0x00004000
		meta l4proto tcp dnat to 10.1.0.5:8443
	}
}
`

func TestText(t *testing.T) {
	if got := sample().String(); got != golden {
		t.Errorf("got\n%s\nwant\n%s", got, golden)
	}
}

func TestPrefixEnd(t *testing.T) {
	for prefix, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "10.0.0.1/32": "10.0.0.1", "10.0.5.9/24": "10.0.5.0/24",
		"0.0.0.0/0": "0.0.0.0/0", "fd00::/8": "fd00::/8",
	} {
		if got := nft.Prefix(netip.MustParsePrefix(prefix)).String(); got != want {
			t.Errorf("%s: got %s, want %s", prefix, got, want)
		}
	}
}

// inNamespace returns a client in a network namespace of its own.
func inNamespace(t *testing.T) *nft.Client {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("nftables in a network namespace needs root")
	}
	path := filepath.Join(t.TempDir(), "ns")
	if err := netns.Create(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Remove(path); err != nil {
			t.Error(err)
		}
	})
	return nft.NewClient(path)
}

func TestSyncSendsOnlyTheDifference(t *testing.T) {
	client := inNamespace(t)
	first, err := client.Sync(sample())
	if err != nil {
		t.Fatal(err)
	}
	if !first.Replaced || first.Chains != 4 || first.Sets != 3 || first.Elements != 4 {
		t.Errorf("first: %+v", first)
	}
	again, err := client.Sync(sample())
	if err != nil || again != (nft.Stats{}) {
		t.Errorf("the same table again: %+v, %v", again, err)
	}

	next := sample()
	next.Sets[2].Elements[0].Verdict = &nft.Verdict{Do: "jump", Chain: "svc-b"}
	next.Sets[0].Elements = append(next.Sets[0].Elements, nft.Element{Key: nft.Prefix(netip.MustParsePrefix("10.9.0.0/16"))})
	next.Chains[0] = nft.Chain{Name: "svc-b", Rules: []nft.Rule{nft.R(nft.Return())}}
	diff, err := client.Sync(next)
	if err != nil {
		t.Fatal(err)
	}
	if want := (nft.Stats{Chains: 2, Rules: 1, Elements: 3}); diff != want {
		t.Errorf("difference: %+v, want %+v", diff, want)
	}
	if got := chains(t, client); got != "in,post,pre,svc-b" {
		t.Errorf("chains in the kernel: %s", got)
	}

	reshaped := sample()
	reshaped.Sets[0].Size = 100
	stats, err := client.Sync(reshaped)
	if err != nil || !stats.Replaced {
		t.Errorf("changed set definition: %+v, %v", stats, err)
	}
}

func TestSyncAfterAnErrorReplaces(t *testing.T) {
	client := inNamespace(t)
	if _, err := client.Sync(sample()); err != nil {
		t.Fatal(err)
	}
	bad := sample()
	bad.Chains[0].Rules = append(bad.Chains[0].Rules, nft.R(nft.Jump("nowhere")))
	if _, err := client.Sync(bad); err == nil {
		t.Fatal("a jump to a chain that is not there was accepted")
	}
	if got := chains(t, client); got != "in,post,pre,svc-a" {
		t.Errorf("the failed transaction left %s", got)
	}
	stats, err := client.Sync(sample())
	if err != nil || !stats.Replaced {
		t.Errorf("after the error: %+v, %v", stats, err)
	}
}

func TestSyncRepairsWhatOthersRemoved(t *testing.T) {
	client := inNamespace(t)
	if _, err := client.Sync(sample()); err != nil {
		t.Fatal(err)
	}
	err := client.Conn(func(conn *nftables.Conn) error {
		conn.FlushRuleset()
		return conn.Flush()
	})
	if err != nil {
		t.Fatal(err)
	}
	next := sample()
	next.Sets[0].Elements = next.Sets[0].Elements[:1]
	stats, err := client.Sync(next)
	if err != nil || !stats.Replaced {
		t.Errorf("after a flush of everything: %+v, %v", stats, err)
	}
}

func TestManyElements(t *testing.T) {
	client := inNamespace(t)
	table := sample()
	for i := range 5000 {
		ip := netip.AddrFrom4([4]byte{10, 97, byte(i >> 8), byte(i)})
		table.Sets[2].Elements = append(table.Sets[2].Elements, nft.Element{
			Key:     nft.Tuple(nft.Addr(ip), nft.Proto(6), nft.Port(80)),
			Verdict: &nft.Verdict{Do: "goto", Chain: "svc-a"},
		})
	}
	if _, err := client.Sync(table); err != nil {
		t.Fatal(err)
	}
	var count int
	err := client.Conn(func(conn *nftables.Conn) error {
		set, err := conn.GetSetByName(&nftables.Table{Family: nft.IPv4, Name: "sample"}, "services")
		if err != nil {
			return fmt.Errorf("get set: %w", err)
		}
		elements, err := conn.GetSetElements(set)
		count = len(elements)
		return err
	})
	if err != nil || count != 5001 {
		t.Errorf("%d elements in the kernel: %v", count, err)
	}
}

func TestDeleteTwice(t *testing.T) {
	client := inNamespace(t)
	if _, err := client.Sync(sample()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := client.Delete(nft.IPv4, "sample"); err != nil {
			t.Fatal(err)
		}
	}
	if got := chains(t, client); got != "" {
		t.Errorf("left: %s", got)
	}
}

func chains(t *testing.T, client *nft.Client) string {
	t.Helper()
	var names []string
	err := client.Conn(func(conn *nftables.Conn) error {
		list, err := conn.ListChains()
		for _, c := range list {
			names = append(names, c.Name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

//go:build linux

package nftables

import (
	"flag"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skeg-dev/skeg/internal/nft"
	"github.com/skeg-dev/skeg/proxy/backend/backendtest"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

var update = flag.Bool("update", false, "write the golden files")

// TestGolden shows the whole tables for a few frontends of each kind.
func TestGolden(t *testing.T) {
	sticky := backendtest.ClusterIP("10.79.0.2", backendtest.Endpoint(1), backendtest.Endpoint(2))
	sticky.Affinity = 3 * time.Hour
	local := backendtest.NodePort(30080, backendtest.Endpoint(1))
	local.Masquerade, local.Empty, local.Insiders = ruleset.MasqueradeNone, ruleset.Drop, []netip.AddrPort{backendtest.Endpoint(1), backendtest.Endpoint(2)}
	guarded := backendtest.External("10.80.0.1", backendtest.Endpoint(1))
	guarded.Sources = []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24"), netip.MustParsePrefix("192.0.2.7/32")}
	rules := backendtest.Rules(backendtest.ClusterIP("10.79.0.1", backendtest.Endpoint(1)), backendtest.ClusterIP("10.79.0.3"), sticky, local, guarded,
		backendtest.ClusterIP("fd79::1", backendtest.Endpoint6(1)))
	rules.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}
	for file, family := range map[string]nft.Family{"testdata/ip.nft": nft.IPv4, "testdata/ip6.nft": nft.IPv6} {
		got := Table(family, rules).String()
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (run with -update when that is intended; -want +got)\n%s", file, diff)
		}
	}
}

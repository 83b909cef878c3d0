//go:build linux

package app

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/skeg-dev/skeg/internal/netns"
	"github.com/skeg-dev/skeg/proxy/backend"
	"github.com/skeg-dev/skeg/proxy/backend/backendtest"
	"github.com/skeg-dev/skeg/proxy/dns"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

func TestValidate(t *testing.T) {
	valid := func() *Options {
		o := DefaultOptions()
		o.Kubeconfig = "k"
		return o
	}
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   string // part of the one error; "" for none
	}{
		{"defaults", func(*Options) {}, ""},
		{"no kubeconfig", func(o *Options) { o.Kubeconfig = "" }, "--kubeconfig"},
		{"cleanup needs no kubeconfig", func(o *Options) { o.Kubeconfig, o.Cleanup = "", true }, ""},
		{"mode", func(o *Options) { o.Mode = "iptables" }, "--proxy-mode"},
		{"ipvs", func(o *Options) { o.Mode = "ipvs" }, ""},
		{"range", func(o *Options) { o.ClusterCIDR = []string{"10.0.0.0/8", "10.0.0.0"} }, "--cluster-cidr"},
		{"service range", func(o *Options) { o.ServiceCIDR = []string{"x"} }, "--service-cidr"},
		{"node port range", func(o *Options) { o.NodePortAddresses = []string{"primary"} }, "--nodeport-addresses"},
		{"DNS address", func(o *Options) { o.ClusterDNS = []string{"dns"} }, "--cluster-dns"},
		{"listener", func(o *Options) { o.MetricsBindAddress = "localhost" }, "--metrics-bind-address"},
		{"no listener", func(o *Options) { o.HealthzBindAddress = "" }, ""},
		{"times", func(o *Options) { o.MinSyncPeriod = -1 }, "--min-sync-period"},
	} {
		o := valid()
		c.change(o)
		switch errs := o.Validate(); {
		case c.want == "" && len(errs) > 0:
			t.Errorf("%s: %v", c.name, errs)
		case c.want != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), c.want)):
			t.Errorf("%s: got %v, want one that names %s", c.name, errs, c.want)
		}
	}
}

// mode is a backend that can be chosen, or cannot.
type mode struct {
	name string
	err  error
}

func (m mode) Name() string                               { return m.name }
func (m mode) Available(context.Context) error            { return m.err }
func (mode) Sync(context.Context, *ruleset.Ruleset) error { return nil }
func (mode) Forget()                                      {}
func (mode) Cleanup(context.Context) error                { return nil }

func TestChoose(t *testing.T) {
	missing := errors.New("no module")
	for _, c := range []struct {
		mode           string
		nft, ipvs      error
		want, mistakes string
	}{
		{"auto", nil, nil, "nftables", ""},
		{"auto", missing, nil, "ipvs", ""},
		{"auto", missing, missing, "", "--proxy-mode=nftables: no module\n--proxy-mode=ipvs: no module"},
		{"ipvs", nil, nil, "ipvs", ""},
		{"ipvs", nil, missing, "", "--proxy-mode=ipvs: no module"},
		{"mesh", nil, nil, "", "--proxy-mode: mesh is not built in"},
	} {
		got, err := choose(t.Context(), c.mode, []backend.Backend{mode{"nftables", c.nft}, mode{"ipvs", c.ipvs}})
		if err == nil && got.Name() != c.want || err != nil && err.Error() != c.mistakes || err == nil && c.mistakes != "" {
			t.Errorf("%s: got %v, %v", c.mode, got, err)
		}
	}
}

// TestRegistry: auto tries nftables first.
func TestRegistry(t *testing.T) {
	var names []string
	for _, b := range backends() {
		names = append(names, b.Name())
	}
	if got := strings.Join(names, " "); got != "nftables ipvs" {
		t.Errorf("got %s", got)
	}
}

// TestCleanup: after --cleanup, and also a second one, the node has none of
// our links and tables.
func TestCleanup(t *testing.T) {
	err := netns.Do(backendtest.Namespace(t), func() error {
		if err := dns.EnsureAddresses([]netip.Addr{netip.MustParseAddr("10.96.0.10")}); err != nil {
			return err
		}
		if err := backends()[0].Sync(t.Context(), backendtest.Rules()); err != nil {
			return err
		}
		for range 2 {
			if err := cleanup(t.Context()); err != nil {
				return err
			}
		}
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			if l.Attrs().Name != "lo" && !strings.Contains(l.Attrs().Name, "0") { // tunl0 and its like come with namespaces
				t.Errorf("link %s is left", l.Attrs().Name)
			}
		}
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := conn.ListTables()
		if len(tables) > 0 {
			t.Errorf("%d tables are left", len(tables))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

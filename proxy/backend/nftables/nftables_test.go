//go:build linux

package nftables

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// inNetns runs the test's goroutine in a fresh network namespace; the thread
// is thrown away afterwards.
func inNetns(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root: makes a network namespace")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"10.0.0.1/32", "10.0.0.2/32"} {
		addr, err := netlink.ParseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrAdd(lo, addr); err != nil {
			t.Fatal(err)
		}
	}
	_, dst, err := net.ParseCIDR("10.96.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst}); err != nil {
		t.Fatal(err)
	}
}

func TestServiceReachesEndpoint(t *testing.T) {
	inNetns(t)
	l, err := net.Listen("tcp4", "10.0.0.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	endpoint := netip.MustParseAddrPort("10.0.0.2:8080")
	front := func(addr string, endpoints ...netip.AddrPort) ruleset.Frontend {
		return ruleset.Frontend{Service: "a/b:" + addr, Address: netip.MustParseAddr(addr), Protocol: ruleset.TCP, Port: 80, Endpoints: endpoints}
	}
	sticky := front("10.96.0.3", endpoint)
	sticky.Affinity = time.Hour
	rules := &ruleset.Ruleset{
		PodNetworks: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
		Frontends: []ruleset.Frontend{
			front("10.96.0.1", endpoint), front("10.96.0.2"), sticky,
			{Service: "a/np", NodePort: true, Protocol: ruleset.TCP, Port: 30080, Endpoints: []netip.AddrPort{endpoint}, Masquerade: ruleset.MasqueradeAll},
		},
	}
	b := New("")
	for range 2 {
		if err := b.Sync(t.Context(), rules); err != nil {
			t.Fatal(err)
		}
	}
	for _, to := range []string{"10.96.0.1:80", "10.96.0.3:80", "10.96.0.3:80", "10.0.0.1:30080"} {
		c, err := net.DialTimeout("tcp", to, 10*time.Second)
		if err != nil {
			t.Errorf("dial %s: %v", to, err)
			continue
		}
		c.Close()
	}
	if _, err := net.DialTimeout("tcp", "10.96.0.2:80", 10*time.Second); err == nil {
		t.Error("a frontend without endpoints accepted a connection")
	} else if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Errorf("a frontend without endpoints was silent: %v", err)
	}
	rules = &ruleset.Ruleset{Frontends: []ruleset.Frontend{front("10.96.0.1")}}
	if err := b.Sync(t.Context(), rules); err != nil {
		t.Fatal(err)
	}
	if _, err := net.DialTimeout("tcp", "10.96.0.1:80", 10*time.Second); err == nil {
		t.Error("the endpoint is gone, but a connection was accepted")
	}
	if err := b.Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
}

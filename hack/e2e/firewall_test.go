package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// The machine outside, which nodes reach through the host.
const (
	outsideHost   = "198.51.100.1/30"
	outsideAddr   = "198.51.100.2/30"
	outsideServer = "198.51.100.2:8099"
)

// TestDockerFirewall puts up dockerd's firewall, which drops what the host
// forwards, beside a running cluster: `ctl up` makes it let the nodes through.
func TestDockerFirewall(t *testing.T) {
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	outside(t)
	reached := func(ctx context.Context) error { return dialFrom(ctx, slot.name+"-node-1", outsideServer) }
	eventually(t, "a node reaches the outside", reached)
	if !dockerFirewall(t, c) {
		t.Log("this machine has dockerd's chains already; the test uses them")
	} else if err := reached(t.Context()); err == nil {
		t.Fatal("the firewall does not drop anything: the test would show nothing")
	}
	again := []string{"up", "--state-dir", stateDir, "--demo", "none", "--registry-config-dir", stateDir + "-mirrors"}
	must(t, again...)
	eventually(t, "a node reaches the outside through dockerd's firewall", reached)
	must(t, again...)
	if n := ourRules(t, c); n != 2 {
		t.Errorf("%d rules of ours in DOCKER-USER after a second `ctl up`, want 2", n)
	}
}

// dockerFirewall makes the chains as dockerd does, and reports false if they
// are there already.
func dockerFirewall(t *testing.T, c *nftables.Conn) bool {
	t.Helper()
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		t.Fatal(err)
	}
	for _, chain := range chains {
		if chain.Table.Name == "filter" {
			return false
		}
	}
	drop := nftables.ChainPolicyDrop
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"})
	user := c.AddChain(&nftables.Chain{Table: table, Name: "DOCKER-USER"})
	forward := c.AddChain(&nftables.Chain{Table: table, Name: "FORWARD", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop})
	c.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: user.Name}}})
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.DelTable(table)
		if err := c.Flush(); err != nil {
			t.Error(err)
		}
	})
	return true
}

// ourRules counts the cluster's rules in DOCKER-USER.
func ourRules(t *testing.T, c *nftables.Conn) int {
	t.Helper()
	table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"}
	rules, err := c.GetRules(table, &nftables.Chain{Table: table, Name: "DOCKER-USER"})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range rules {
		if string(r.UserData) == slot.name+"-up" {
			n++
		}
	}
	return n
}

// outside makes a network namespace behind the host with a server in it.
func outside(t *testing.T) {
	t.Helper()
	link := "e2eout" + slot.name[len(slot.name)-1:]
	inNewNamespace(t, func(host, ns netns.NsHandle) {
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: link}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(ns))}
		h, err := netlink.NewHandleAt(host)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		inside, err := netlink.NewHandleAt(ns)
		if err != nil {
			t.Fatal(err)
		}
		defer inside.Close()
		if err := h.LinkAdd(pair); err != nil {
			t.Fatal(err)
		}
		address(t, h, link, outsideHost)
		address(t, inside, "eth0", outsideAddr)
		listener, err := net.Listen("tcp", outsideServer)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: 5 * time.Second}
		done := make(chan error, 1)
		go func() { done <- server.Serve(listener) }()
		t.Cleanup(func() { // the namespace ends with its last socket, the link with it
			server.Close()
			<-done
			if l, err := netlink.LinkByName(link); err == nil {
				if err := netlink.LinkDel(l); err != nil {
					t.Error(err)
				}
			}
		})
	})
}

func address(t *testing.T, h *netlink.Handle, name, cidr string) {
	t.Helper()
	link, err := h.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.AddrAdd(link, addr); err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
}

// dialFrom connects from a named network namespace.
func dialFrom(ctx context.Context, namespace, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	out, err := command(ctx, "nsenter", "--net=/run/netns/"+namespace, "bash", "-c", "exec 3<>/dev/tcp/"+hostPort(addr))
	if err != nil {
		return fmt.Errorf("connect: %w %s", err, out)
	}
	return nil
}

// hostPort is an address as bash writes it.
func hostPort(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host + "/" + port
}

// inNewNamespace runs do on a thread in a new network namespace. Sockets made
// in it stay in it.
func inNewNamespace(t *testing.T, do func(home, ns netns.NsHandle)) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	ns, err := netns.New() // enters it
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	defer func() {
		if err := netns.Set(home); err != nil {
			t.Error(err)
		}
	}()
	do(home, ns)
}

//go:build linux

package network_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skeg-dev/skeg/internal/netns"
	"github.com/skeg-dev/skeg/kubelet/network"
)

// patience bounds waiting for asynchronous work on a loaded machine.
const patience = 60 * time.Second

// host is a machine on the test LAN: a network namespace with an address.
type host struct {
	ns, ip, state string
}

// lan makes hosts a, b, ... 192.0.2.1, .2, ... on one bridge in a namespace
// of its own.
func lan(t *testing.T, count int) []host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	dir := t.TempDir()
	wire := filepath.Join(dir, "lan")
	makeNamespace(t, wire)
	atLAN := handle(t, wire)
	bridge := &netlink.Bridge{LinkAttrs: attrs("lan")}
	must(t, atLAN.LinkAdd(bridge))
	must(t, atLAN.LinkSetUp(bridge))
	hosts := make([]host, count)
	for i := range hosts {
		h := host{
			ns: filepath.Join(dir, fmt.Sprintf("host%d", i)), ip: fmt.Sprintf("192.0.2.%d", i+1),
			state: filepath.Join(dir, fmt.Sprintf("state%d", i)),
		}
		makeNamespace(t, h.ns)
		file, err := os.Open(h.ns)
		must(t, err)
		a := attrs(fmt.Sprintf("port%d", i))
		a.MasterIndex = bridge.Index
		must(t, atLAN.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "uplink", PeerNamespace: netlink.NsFd(int(file.Fd()))}))
		must(t, file.Close())
		port, err := atLAN.LinkByName(a.Name)
		must(t, err)
		must(t, atLAN.LinkSetUp(port))
		inside := handle(t, h.ns)
		for _, name := range []string{"lo", "uplink"} {
			link, err := inside.LinkByName(name)
			must(t, err)
			must(t, inside.LinkSetUp(link))
			if name == "uplink" {
				addr, err := netlink.ParseAddr(h.ip + "/24")
				must(t, err)
				must(t, inside.AddrAdd(link, addr))
			}
		}
		hosts[i] = h
	}
	return hosts
}

func attrs(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func makeNamespace(t *testing.T, path string) {
	t.Helper()
	must(t, netns.Create(path))
	t.Cleanup(func() {
		if err := netns.Remove(path); err != nil {
			t.Error(err)
		}
	})
}

func handle(t *testing.T, ns string) *netlink.Handle {
	t.Helper()
	file, err := os.Open(ns)
	must(t, err)
	defer func() { must(t, file.Close()) }()
	h, err := netlink.NewHandleAt(vns.NsHandle(file.Fd()))
	must(t, err)
	t.Cleanup(h.Close)
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func node(name, ip, cidr string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.NodeSpec{PodCIDR: cidr, PodCIDRs: []string{cidr}},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}}},
	}
}

// start runs a Network on the host until the test ends, and waits for it.
func start(t *testing.T, h host, name string, nodes ...runtime.Object) *network.Network {
	t.Helper()
	n, err := network.New(network.Config{
		StateDir: h.state, NodeName: name, Client: fake.NewClientset(nodes...), HostNetNS: h.ns,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := n.Cleanup(context.Background()); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "network is ready", n.Ready)
	return n
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

func pod(uid string, ports ...corev1.ContainerPort) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: uid, UID: types.UID(uid)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Ports: ports}}},
	}
}

func attach(t *testing.T, n *network.Network, p *corev1.Pod) network.Attachment {
	t.Helper()
	a, err := n.Attach(t.Context(), p)
	must(t, err)
	return a
}

// serve answers every TCP connection in the namespace with the client's
// address, as the server sees it.
func serve(t *testing.T, ns, addr string) {
	t.Helper()
	var listener net.Listener
	must(t, netns.Do(ns, func() (err error) {
		listener, err = net.Listen("tcp", addr)
		return err
	}))
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			_, _ = io.WriteString(conn, host)
			_ = conn.Close()
		}
	}()
}

// ask connects from the namespace and returns the server's answer.
func ask(ns, addr string) (string, error) {
	var answer []byte
	err := netns.Do(ns, func() error {
		conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		answer, err = io.ReadAll(conn)
		return err
	})
	return string(answer), err
}

func expect(t *testing.T, what, ns, addr, want string) {
	t.Helper()
	eventually(t, what, func() error {
		got, err := ask(ns, addr)
		if err == nil && got != want {
			err = fmt.Errorf("server saw %q, want %q", got, want)
		}
		return err
	})
}

// TestTwoNodes runs with bridged packets passing the hooks of the IP layer and
// without: br_netfilter may be loaded for others' sake, and then translates
// packets between two Pods of a node before they are routed.
func TestTwoNodes(t *testing.T) {
	for _, value := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+value, func(t *testing.T) { twoNodes(t, value) })
	}
}

func twoNodes(t *testing.T, bridgeNF string) {
	hosts := lan(t, 3)
	for _, h := range hosts[:2] {
		must(t, netns.Do(h.ns, func() error {
			err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte(bridgeNF), 0o644)
			if os.IsNotExist(err) {
				return nil // not loaded: as if 0
			}
			return err
		}))
	}
	a, b, outside := hosts[0], hosts[1], hosts[2]
	nodes := []runtime.Object{node("a", a.ip, "10.77.1.0/24"), node("b", b.ip, "10.77.2.0/24")}
	netA, netB := start(t, a, "a", nodes...), start(t, b, "b", nodes...)

	one := attach(t, netA, pod("one", corev1.ContainerPort{ContainerPort: 80, HostPort: 8080}))
	two := attach(t, netA, pod("two", corev1.ContainerPort{ContainerPort: 80, HostPort: 8080, HostIP: "127.0.0.1"}))
	far := attach(t, netB, pod("far"))
	for _, p := range []network.Attachment{one, two, far} {
		serve(t, p.NetNS, ":80")
	}
	serve(t, outside.ns, ":80")

	if one.IPs[0] != "10.77.1.2" || two.IPs[0] != "10.77.1.3" || far.IPs[0] != "10.77.2.2" {
		t.Errorf("addresses: %v %v %v", one.IPs, two.IPs, far.IPs)
	}
	expect(t, "pod to pod on one node", one.NetNS, two.IPs[0]+":80", one.IPs[0])
	expect(t, "pod to pod across nodes", one.NetNS, far.IPs[0]+":80", one.IPs[0])
	expect(t, "pod to itself", one.NetNS, one.IPs[0]+":80", one.IPs[0])
	expect(t, "pod loopback", one.NetNS, "127.0.0.1:80", "127.0.0.1")
	expect(t, "node to pod", a.ns, one.IPs[0]+":80", "10.77.1.1")
	expect(t, "pod to the outside is masqueraded", one.NetNS, outside.ip+":80", a.ip)
	expect(t, "outside to host port", outside.ns, a.ip+":8080", outside.ip)
	expect(t, "pod to its own host port", one.NetNS, a.ip+":8080", "10.77.1.1")
	expect(t, "other pod to host port", two.NetNS, a.ip+":8080", two.IPs[0])
	expect(t, "host port on loopback", a.ns, "127.0.0.1:8080", "10.77.1.1")

	conn, err := netA.Dial(t.Context(), "two", 80)
	must(t, err)
	answer, err := io.ReadAll(conn)
	if err != nil || string(answer) != "127.0.0.1" {
		t.Errorf("dial inside: %q, %v", answer, err)
	}
	must(t, conn.Close())
}

func TestAttachAgainAndAfterRestart(t *testing.T) {
	h := lan(t, 1)[0]
	nodes := []runtime.Object{node("a", h.ip, "10.77.1.0/24")}
	first := start(t, h, "a", nodes...)
	p := pod("one", corev1.ContainerPort{ContainerPort: 80, HostPort: 8080})
	before := attach(t, first, p)
	serve(t, before.NetNS, ":80")
	if again := attach(t, first, p); again.IPs[0] != before.IPs[0] {
		t.Errorf("second attach: %v, was %v", again, before)
	}

	second := start(t, h, "a", nodes...)
	if found, ok := second.Lookup("one"); !ok || found.IPs[0] != before.IPs[0] {
		t.Errorf("after restart: %v %v", found, ok)
	}
	expect(t, "host port after restart", h.ns, h.ip+":8080", h.ip)
	if other := attach(t, second, pod("two")); other.IPs[0] == before.IPs[0] {
		t.Errorf("address %s given twice", other.IPs[0])
	}
	must(t, second.Sweep(t.Context(), []types.UID{"one"}))
	if _, ok := second.Lookup("two"); ok {
		t.Error("orphan is still there")
	}
	for range 2 {
		must(t, second.Detach(t.Context(), "one"))
	}
	if _, err := os.Stat(before.NetNS); !os.IsNotExist(err) {
		t.Errorf("namespace is left: %v", err)
	}
	if _, err := ask(h.ns, h.ip+":8080"); err == nil {
		t.Error("host port is still open")
	}
}

func TestRangeExhausted(t *testing.T) {
	h := lan(t, 1)[0]
	n := start(t, h, "a", node("a", h.ip, "10.77.1.0/29"))
	for i := range 5 { // 8 less network, gateway, broadcast
		attach(t, n, pod(fmt.Sprintf("pod%d", i)))
	}
	if _, err := n.Attach(t.Context(), pod("late")); err == nil || !strings.Contains(err.Error(), "no free address") {
		t.Errorf("got %v", err)
	}
	must(t, n.Detach(t.Context(), "pod3"))
	if a := attach(t, n, pod("late")); a.IPs[0] != "10.77.1.5" {
		t.Errorf("got %v", a.IPs)
	}
}

func TestNoRangeYet(t *testing.T) {
	h := lan(t, 1)[0]
	bare := node("a", h.ip, "")
	bare.Spec.PodCIDRs = nil
	n, err := network.New(network.Config{StateDir: h.state, NodeName: "a", Client: fake.NewClientset(bare), HostNetNS: h.ns, Log: slog.Default()})
	must(t, err)
	if _, err := n.Attach(t.Context(), pod("one")); err == nil {
		t.Error("attached without a range")
	}
	if err := n.Ready(); err == nil {
		t.Error("ready without a range")
	}
}

func TestCleanupLeavesNothing(t *testing.T) {
	h := lan(t, 1)[0]
	links := handle(t, h.ns)
	before := linkNames(t, links)
	n, err := network.New(network.Config{
		StateDir: h.state, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.77.1.0/24"), netip.MustParsePrefix("fd00:77::/64")},
		HostNetNS: h.ns, Log: slog.Default(),
	})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	eventually(t, "ready", n.Ready)
	a := attach(t, n, pod("one", corev1.ContainerPort{ContainerPort: 80, HostPort: 8080}))
	b := attach(t, n, pod("two"))
	serve(t, a.NetNS, ":80")
	if len(a.IPs) != 2 {
		t.Fatalf("addresses: %v", a.IPs)
	}
	expect(t, "IPv6 between pods", b.NetNS, "["+a.IPs[1]+"]:80", b.IPs[1])
	cancel()
	must(t, <-done)
	must(t, n.Cleanup(t.Context()))
	if after := linkNames(t, links); after != before {
		t.Errorf("links: %s, before %s", after, before)
	}
	entries, err := os.ReadDir(filepath.Join(h.state, "netns"))
	if err != nil || len(entries) != 0 {
		t.Errorf("namespaces left: %v, %v", entries, err)
	}
}

func linkNames(t *testing.T, h *netlink.Handle) string {
	t.Helper()
	links, err := h.LinkList()
	must(t, err)
	var names []string
	for _, l := range links {
		names = append(names, l.Attrs().Name)
	}
	return strings.Join(names, " ")
}

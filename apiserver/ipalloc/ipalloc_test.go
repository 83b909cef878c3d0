package ipalloc

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"pgregory.net/rapid"

	"github.com/skeg-dev/skeg/apiserver/etcdserver/etcdtest"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/apiserver/store/etcd"
	"github.com/skeg-dev/skeg/apiserver/store/memory"
	"github.com/skeg-dev/skeg/internal/testkit"
)

type fataler interface {
	Helper()
	Fatal(args ...any)
}

func addresses(t fataler, s store.Store, prefix string) *Addresses {
	t.Helper()
	a, err := NewAddresses(AddressesConfig{Store: s, Range: netip.MustParsePrefix(prefix)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func ports(t fataler, s store.Store, first, count int) *Ports {
	t.Helper()
	p, err := NewPorts(PortsConfig{Store: s, First: first, Count: count})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBands(t *testing.T) {
	// The examples of KEP-3070 and KEP-3668.
	for _, c := range []struct{ size, least, step, most, want uint64 }{
		{254, 16, 16, 256, 16}, {4094, 16, 16, 256, 255}, {65534, 16, 16, 256, 256}, {14, 16, 16, 256, 0}, {16, 16, 16, 256, 0},
		{2768, 16, 32, 128, 86}, {100, 16, 32, 128, 16}, {10, 16, 32, 128, 0}, {65000, 16, 32, 128, 128},
	} {
		if got := band(c.size, c.least, c.step, c.most); got != c.want {
			t.Errorf("band(%d, %d, %d, %d) = %d, want %d", c.size, c.least, c.step, c.most, got, c.want)
		}
	}
}

func TestAddressRanges(t *testing.T) {
	for _, c := range []struct {
		prefix      string
		size        uint64
		first, last string
		bad         []string
	}{
		{"10.96.0.0/24", 254, "10.96.0.1", "10.96.0.254", []string{"10.96.0.0", "10.96.0.255", "10.96.1.1", "fd00::1"}},
		{"10.96.0.8/30", 2, "10.96.0.9", "10.96.0.10", []string{"10.96.0.8", "10.96.0.11"}},
		{"10.96.3.7/16", 65534, "10.96.0.1", "10.96.255.254", []string{"10.96.255.255"}},
		{"fd00::/124", 15, "fd00::1", "fd00::f", []string{"fd00::", "fd00::10", "10.96.0.1", "fd00::1%eth0"}},
		{"fd00::/64", mostAddresses, "fd00::1", "fd00::1:0:0", []string{"fd01::1"}},
	} {
		a := addresses(t, memory.New(memory.Config{}), c.prefix)
		if a.size != c.size || a.at(0).String() != c.first || a.at(c.size-1).String() != c.last {
			t.Errorf("%s: %d addresses from %s to %s", c.prefix, a.size, a.at(0), a.at(a.size-1))
		}
		for _, text := range []string{c.first, c.last} {
			if !a.allocatable(netip.MustParseAddr(text)) {
				t.Errorf("%s: %s cannot be allocated", c.prefix, text)
			}
		}
		for _, text := range c.bad {
			if _, err := a.Allocate(t.Context(), Owner{}, netip.MustParseAddr(text)); !errors.Is(err, ErrNotInRange) {
				t.Errorf("%s: %s: %v", c.prefix, text, err)
			}
		}
	}
	for _, prefix := range []string{"10.0.0.0/31", "10.0.0.0/32", "fd00::/127"} {
		if _, err := NewAddresses(AddressesConfig{Store: memory.New(memory.Config{}), Range: netip.MustParsePrefix(prefix)}); err == nil {
			t.Errorf("%s is accepted", prefix)
		}
	}
}

// TestAddressesProperty compares with a map.
func TestAddressesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.SampledFrom([]string{"10.0.0.0/29", "10.0.0.0/26", "fd00::/123"}).Draw(t, "prefix")
		shared := memory.New(memory.Config{})
		servers := []*Addresses{addresses(t, shared, prefix), addresses(t, shared, prefix)}
		size := int(servers[0].size)
		held := map[netip.Addr]Owner{}
		drawn := func(t *rapid.T) (*Addresses, Owner, netip.Addr) {
			a := rapid.SampledFrom(servers).Draw(t, "server")
			owner := Owner{"ns", rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "owner")}
			return a, owner, a.at(rapid.Uint64Range(0, a.size-1).Draw(t, "address"))
		}
		t.Repeat(map[string]func(*rapid.T){
			"any": func(t *rapid.T) {
				a, owner, _ := drawn(t)
				got, err := a.Allocate(t.Context(), owner, netip.Addr{})
				if len(held) == size {
					if !errors.Is(err, ErrFull) {
						t.Fatalf("full, but %s, %v", got, err)
					}
					return
				}
				if _, taken := held[got]; err != nil || taken || !a.allocatable(got) {
					t.Fatalf("%s, %v, held by %v", got, err, held[got])
				}
				inBand := netip.Addr.Compare(got, a.at(a.lower)) < 0
				if upper := size - int(a.lower); inBand && countAbove(held, a.at(a.lower)) < upper {
					t.Fatalf("%s is of the lower band while the upper has room", got)
				}
				held[got] = owner
			},
			"wanted": func(t *rapid.T) {
				a, owner, address := drawn(t)
				_, err := a.Allocate(t.Context(), owner, address)
				other, taken := held[address]
				if taken && other != owner {
					if !errors.Is(err, ErrAllocated) {
						t.Fatalf("%s of %v: %v", address, other, err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				held[address] = owner
			},
			"release": func(t *rapid.T) {
				a, owner, address := drawn(t)
				if err := a.Release(t.Context(), owner, address, 0); err != nil {
					t.Fatal(err)
				}
				if held[address] == owner {
					delete(held, address)
				}
			},
			"": func(t *rapid.T) {
				for i := range servers[0].size {
					address := servers[0].at(i)
					owner, ok, err := servers[1].Has(t.Context(), address)
					if want, taken := held[address]; err != nil || ok != taken || owner != want {
						t.Fatalf("%s: %v, %v, %v; want %v", address, owner, ok, err, want)
					}
				}
			},
		})
	})
}

func countAbove(held map[netip.Addr]Owner, first netip.Addr) int {
	n := 0
	for address := range held {
		if address.Compare(first) >= 0 {
			n++
		}
	}
	return n
}

func TestPortsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first, count := rapid.IntRange(1, 100).Draw(t, "first"), rapid.IntRange(1, 70).Draw(t, "count")
		shared := memory.New(memory.Config{})
		servers := []*Ports{ports(t, shared, first, count), ports(t, shared, first, count)}
		held := map[int32]bool{}
		port := rapid.Int32Range(int32(first), int32(first+count-1))
		t.Repeat(map[string]func(*rapid.T){
			"any": func(t *rapid.T) {
				p := rapid.SampledFrom(servers).Draw(t, "server")
				got, err := p.Allocate(t.Context(), 0)
				if len(held) == count {
					if !errors.Is(err, ErrFull) {
						t.Fatalf("full, but %d, %v", got, err)
					}
					return
				}
				if err != nil || held[got] || !p.contains(got) {
					t.Fatalf("%d, %v", got, err)
				}
				held[got] = true
			},
			"wanted": func(t *rapid.T) {
				wanted := port.Draw(t, "port")
				_, err := rapid.SampledFrom(servers).Draw(t, "server").Allocate(t.Context(), wanted)
				if held[wanted] != errors.Is(err, ErrAllocated) || !held[wanted] && err != nil {
					t.Fatalf("port %d: %v", wanted, err)
				}
				held[wanted] = true
			},
			"release": func(t *rapid.T) {
				a, b := port.Draw(t, "port"), port.Draw(t, "port")
				if err := rapid.SampledFrom(servers).Draw(t, "server").Release(t.Context(), a, b, 65535); err != nil {
					t.Fatal(err)
				}
				delete(held, a)
				delete(held, b)
			},
			"": func(t *rapid.T) {
				for i := range int32(count) {
					if got, err := servers[0].Has(t.Context(), int32(first)+i); err != nil || got != held[int32(first)+i] {
						t.Fatalf("port %d: %v, %v", int32(first)+i, got, err)
					}
				}
			},
		})
	})
}

func TestPortsOutside(t *testing.T) {
	p := ports(t, memory.New(memory.Config{}), 30000, 2768)
	for _, port := range []int32{1, 29999, 32768, -5} {
		if _, err := p.Allocate(t.Context(), port); !errors.Is(err, ErrNotInRange) {
			t.Errorf("port %d: %v", port, err)
		}
	}
	for _, c := range [][2]int{{0, 1}, {1, 0}, {65535, 2}} {
		if _, err := NewPorts(PortsConfig{Store: memory.New(memory.Config{}), First: c[0], Count: c[1]}); err == nil {
			t.Errorf("range %v is accepted", c)
		}
	}
}

// TestPortsOfAnotherRange: a changed flag keeps what lies in both ranges.
func TestPortsOfAnotherRange(t *testing.T) {
	shared := memory.New(memory.Config{})
	before := ports(t, shared, 30000, 100)
	for _, port := range []int32{30001, 30050, 30099} {
		if _, err := before.Allocate(t.Context(), port); err != nil {
			t.Fatal(err)
		}
	}
	after := ports(t, shared, 30040, 100)
	for port, want := range map[int32]bool{30040: false, 30050: true, 30099: true, 30139: false} {
		if got, err := after.Has(t.Context(), port); err != nil || got != want {
			t.Errorf("port %d: %v, %v", port, got, err)
		}
	}
	if err := after.Release(t.Context(), 30050); err != nil {
		t.Fatal(err)
	}
	item, err := shared.Get(t.Context(), portsKey, store.Consistency{})
	if err != nil || item.Object.(*corev1.RangeAllocation).Range != "30040-30139" {
		t.Fatalf("%+v, %v", item, err)
	}
}

// TestSeveralServersOnEtcd: concurrent allocators never give out one twice, and
// the keys are upstream's.
func TestSeveralServersOnEtcd(t *testing.T) {
	client := etcdtest.Start(t, false).Client()
	open := func(prefix string, empty func() runtime.Object) store.Store {
		s, err := etcd.New(etcd.Config{Client: client, StorePrefix: prefix, New: empty})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const servers, each = 4, 15
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for server := range servers {
		wg.Go(func() {
			a := addresses(t, open("ipaddresses", func() runtime.Object { return &networkingv1.IPAddress{} }), "10.96.0.0/26")
			p := ports(t, open("ranges", func() runtime.Object { return &corev1.RangeAllocation{} }), 30000, servers*each)
			for i := range each {
				address, err := a.Allocate(t.Context(), Owner{"ns", fmt.Sprint(server, i)}, netip.Addr{})
				if err != nil {
					t.Error(err)
				}
				port, err := p.Allocate(t.Context(), 0)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				if seen[address.String()] || seen[fmt.Sprint(port)] {
					t.Errorf("%s or %d was given out twice", address, port)
				}
				seen[address.String()], seen[fmt.Sprint(port)] = true, true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, key := range []string{"/registry/ranges/servicenodeports"} {
		if got, err := client.Get(t.Context(), key); err != nil || len(got.Kvs) != 1 {
			t.Errorf("%s: %v, %v", key, got, err)
		}
	}
	for text := range seen {
		if address, err := netip.ParseAddr(text); err == nil {
			if got, err := client.Get(t.Context(), "/registry/ipaddresses/"+address.String()); err != nil || len(got.Kvs) != 1 {
				t.Errorf("%s: %v, %v", address, got, err)
			}
		}
	}
}

func service(name string, ips []string, nodePorts ...int32) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	s.Spec.ClusterIPs = ips
	for _, port := range nodePorts {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{NodePort: port})
	}
	return s
}

func TestRepair(t *testing.T) {
	logger, log := testkit.NewLogger(t)
	services, ips, ranges := memory.New(memory.Config{}), memory.New(memory.Config{}), memory.New(memory.Config{})
	a, p := addresses(t, ips, "10.96.0.0/24"), ports(t, ranges, 30000, 100)
	r := &Repair{Services: services, IPAddresses: ips, Families: []*Addresses{a}, Ports: p, Logger: logger}
	put := func(s *corev1.Service) {
		t.Helper()
		if _, err := services.Create(t.Context(), s.Namespace+"/"+s.Name, s); err != nil {
			t.Fatal(err)
		}
	}
	allocate := func(name, ip string, port int32) {
		t.Helper()
		if _, err := a.Allocate(t.Context(), Owner{"ns", name}, netip.MustParseAddr(ip)); err != nil {
			t.Fatal(err)
		}
		if port == 0 {
			return
		}
		if _, err := p.Allocate(t.Context(), port); err != nil {
			t.Fatal(err)
		}
	}
	put(service("good", []string{"10.96.0.1"}, 30001))
	allocate("good", "10.96.0.1", 30001)
	put(service("missing", []string{"10.96.0.2"}, 30002))
	allocate("leaked", "10.96.0.3", 30003)
	put(service("moved", []string{"10.96.0.4"}))
	allocate("other", "10.96.0.4", 0)
	put(service("headless", []string{"None"}))
	put(service("elsewhere", []string{"192.168.0.1"}, 40000))
	foreign := &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.96.0.9"}}
	if _, err := ips.Create(t.Context(), "10.96.0.9", foreign); err != nil {
		t.Fatal(err)
	}
	expect := func(want map[string]string, portsWanted ...int32) {
		t.Helper()
		page, err := ips.List(t.Context(), store.Query{})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, item := range page.Items {
			got[item.Key] = ownerOf(item).Name
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("addresses %v, want %v", got, want)
		}
		for _, port := range []int32{30001, 30002, 30003} {
			has, err := p.Has(t.Context(), port)
			if err != nil {
				t.Fatal(err)
			}
			if wanted := fmt.Sprint(portsWanted); has != (port == 30001 || port == 30002 || wanted == "[30003]") {
				t.Fatalf("port %d: %v", port, has)
			}
		}
	}
	round := func() {
		t.Helper()
		if err := r.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	round()
	kept := map[string]string{"10.96.0.1": "good", "10.96.0.2": "missing", "10.96.0.3": "leaked", "10.96.0.4": "moved", "10.96.0.9": ""}
	expect(kept, 30003)
	round()
	expect(kept, 30003) // it may be on its way
	round()
	delete(kept, "10.96.0.3")
	expect(kept)
	if !log.Contains("released") {
		t.Error("a release was not logged")
	}
	before, err := ranges.Get(t.Context(), portsKey, store.Consistency{})
	if err != nil {
		t.Fatal(err)
	}
	round()
	if after, err := ranges.Get(t.Context(), portsKey, store.Consistency{}); err != nil || after.Revision != before.Revision {
		t.Fatalf("a round without faults wrote: %v, %v", after, err)
	}
	put(service("twice", []string{"10.96.0.1"}))
	round()
	if !log.Contains("held by two services") {
		t.Error("an address held twice was not logged")
	}
}

// TestRepairLeavesSlowWritesAlone: what gets its Service in time stays.
func TestRepairLeavesSlowWritesAlone(t *testing.T) {
	services, ips := memory.New(memory.Config{}), memory.New(memory.Config{})
	a := addresses(t, ips, "10.96.0.0/24")
	r := &Repair{Services: services, IPAddresses: ips, Families: []*Addresses{a}}
	got, err := a.Allocate(t.Context(), Owner{"ns", "slow"}, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	for range patience - 1 {
		if err := r.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := services.Update(t.Context(), "ns/slow", func(*store.Item) (resource.Object, error) {
		return service("slow", []string{got.String()}), nil
	}); err != nil {
		t.Fatal(err)
	}
	for range patience {
		if err := r.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if owner, ok, err := a.Has(t.Context(), got); err != nil || !ok || owner.Name != "slow" {
		t.Fatalf("%v, %v, %v", owner, ok, err)
	}
}

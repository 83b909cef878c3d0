package serviceip_test

import (
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/apiserver/admission"
	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/ipalloc"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/serviceip"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/apiserver/store/memory"
)

type fixture struct {
	*serviceip.Hook
	services, addresses, ranges store.Store
	repair                      *ipalloc.Repair
}

func start(t *testing.T, ranges ...string) *fixture {
	f := &fixture{services: memory.New(memory.Config{}), addresses: memory.New(memory.Config{}), ranges: memory.New(memory.Config{})}
	f.server(t, ranges...)
	return f
}

// server makes the hook of one API server; the first one's is the fixture's.
func (f *fixture) server(t *testing.T, ranges ...string) *serviceip.Hook {
	t.Helper()
	c := serviceip.Config{Services: f.services}
	for _, r := range ranges {
		family, err := ipalloc.NewAddresses(ipalloc.AddressesConfig{
			Store: f.addresses, Range: netip.MustParsePrefix(r),
			Reserved: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.10")},
		})
		if err != nil {
			t.Fatal(err)
		}
		c.Families = append(c.Families, family)
	}
	var err error
	if c.Ports, err = ipalloc.NewPorts(ipalloc.PortsConfig{Store: f.ranges, First: 30000, Count: 100}); err != nil {
		t.Fatal(err)
	}
	hook := serviceip.New(c)
	if f.Hook == nil {
		f.Hook = hook
		f.repair = &ipalloc.Repair{Services: f.services, IPAddresses: f.addresses, Families: c.Families, Ports: c.Ports}
	}
	return hook
}

// held lists the addresses and the bitmap of ports.
func (f *fixture) held(t *testing.T) string {
	t.Helper()
	page, err := f.addresses.List(t.Context(), store.Query{})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, item := range page.Items {
		out = append(out, item.Key)
	}
	item, err := f.ranges.Get(t.Context(), "servicenodeports", store.Consistency{})
	if err == nil {
		for i := range 100 {
			bits := new(big.Int).SetBytes(item.Object.(*corev1.RangeAllocation).Data)
			if bits.Bit(i) == 1 {
				out = append(out, fmt.Sprint(30000+i))
			}
		}
	}
	return strings.Join(out, " ")
}

func service(name string, change func(*corev1.ServiceSpec)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "x"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, Selector: map[string]string{"a": "b"},
			Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
	if change != nil {
		change(&s.Spec)
	}
	if s.Spec.ClusterIP != "" {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	return s
}

// create runs the hook and stores the Service, as the handler does.
func (f *fixture) create(t *testing.T, s *corev1.Service) error {
	t.Helper()
	return f.createOn(t, f.Hook, s)
}

func (f *fixture) createOn(t *testing.T, hook *serviceip.Hook, s *corev1.Service) error {
	t.Helper()
	finish, err := hook.Begin(t.Context(), handler.HookRequest{Operation: admission.Create, New: s})
	if err != nil {
		return err
	}
	_, err = f.services.Create(t.Context(), s.Namespace+"/"+s.Name, s)
	if finish != nil {
		finish(err == nil)
	}
	return err
}

func TestAllocate(t *testing.T) {
	f := start(t, "10.0.0.0/24")
	tests := []struct {
		name   string
		change func(*corev1.ServiceSpec)
		err    string
		check  func(s *corev1.ServiceSpec) bool
	}{
		{name: "dynamic", check: func(s *corev1.ServiceSpec) bool {
			ip := netip.MustParseAddr(s.ClusterIP)
			return ip.As4()[3] > 16 && len(s.ClusterIPs) == 1 && s.IPFamilies[0] == corev1.IPv4Protocol && *s.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack
		}},
		{name: "static", change: func(s *corev1.ServiceSpec) { s.ClusterIP = "10.0.0.7" }, check: func(s *corev1.ServiceSpec) bool { return s.ClusterIP == "10.0.0.7" }},
		{name: "taken", change: func(s *corev1.ServiceSpec) { s.ClusterIP = "10.0.0.7" }, err: "failed to allocate IP 10.0.0.7: provided IP is already allocated"},
		{name: "outside", change: func(s *corev1.ServiceSpec) { s.ClusterIP = "10.0.1.7" }, err: "is not in the valid range. The range of valid IPs is 10.0.0.0/24"},
		{name: "headless", change: func(s *corev1.ServiceSpec) { s.ClusterIP = "None" }, check: func(s *corev1.ServiceSpec) bool { return s.ClusterIP == "None" && len(s.IPFamilies) == 1 }},
		{name: "headless without selector", change: func(s *corev1.ServiceSpec) { s.ClusterIP, s.Selector = "None", nil }, check: func(s *corev1.ServiceSpec) bool {
			return len(s.IPFamilies) == 2 && *s.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack
		}},
		{name: "external name", change: func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeExternalName }, check: func(s *corev1.ServiceSpec) bool { return s.ClusterIP == "" && s.IPFamilies == nil }},
		{name: "dual stack", change: func(s *corev1.ServiceSpec) {
			s.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		}, err: "not configured on this cluster"},
		{name: "node port", change: func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeNodePort }, check: func(s *corev1.ServiceSpec) bool { return s.Ports[0].NodePort >= 30016 && s.Ports[0].NodePort < 30100 }},
		{name: "fixed node port", change: func(s *corev1.ServiceSpec) { s.Type, s.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30001 }, check: func(s *corev1.ServiceSpec) bool { return s.Ports[0].NodePort == 30001 }},
		{name: "node port taken", change: func(s *corev1.ServiceSpec) { s.Type, s.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30001 }, err: "spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated"},
		{name: "node port outside", change: func(s *corev1.ServiceSpec) { s.Type, s.Ports[0].NodePort = corev1.ServiceTypeNodePort, 80 }, err: "The range of valid ports is 30000-30099"},
		{name: "protocols share", change: func(s *corev1.ServiceSpec) {
			s.Type = corev1.ServiceTypeNodePort
			s.Ports = append(s.Ports, corev1.ServicePort{Port: 80, Protocol: corev1.ProtocolUDP})
		}, check: func(s *corev1.ServiceSpec) bool {
			return s.Ports[0].NodePort == s.Ports[1].NodePort && s.Ports[0].NodePort != 0
		}},
		{name: "local balancer", change: func(s *corev1.ServiceSpec) {
			s.Type, s.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
		}, check: func(s *corev1.ServiceSpec) bool { return s.HealthCheckNodePort != 0 && s.Ports[0].NodePort != 0 }},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := service(fmt.Sprint("s", i), test.change)
			err := f.create(t, s)
			switch {
			case test.err != "":
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
			case err != nil:
				t.Error(err)
			case !test.check(&s.Spec):
				t.Errorf("spec %+v", s.Spec)
			}
		})
	}
}

func TestDualStack(t *testing.T) {
	f := start(t, "10.0.0.0/24", "fd00::/112")
	prefer := corev1.IPFamilyPolicyPreferDualStack
	s := service("s", func(s *corev1.ServiceSpec) { s.IPFamilyPolicy = &prefer })
	if err := f.create(t, s); err != nil {
		t.Fatal(err)
	}
	if len(s.Spec.ClusterIPs) != 2 || !netip.MustParseAddr(s.Spec.ClusterIPs[1]).Is6() || s.Spec.IPFamilies[1] != corev1.IPv6Protocol {
		t.Errorf("spec %+v", s.Spec)
	}
}

// TestSmallRangeNeverTwice fills a range from many goroutines of two servers:
// each address is given once, the reserved ones never, and a full range is an
// error.
func TestSmallRangeNeverTwice(t *testing.T) {
	f := start(t, "10.0.0.0/27")
	hooks := []*serviceip.Hook{f.Hook, f.server(t, "10.0.0.0/27")}
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen, full := map[string]bool{}, 0
	for i := range 40 {
		wg.Go(func() {
			s := service(fmt.Sprint("s", i), nil)
			err := f.createOn(t, hooks[i%2], s)
			mu.Lock()
			defer mu.Unlock()
			switch ip := s.Spec.ClusterIP; {
			case err != nil:
				full++
			case seen[ip]:
				t.Errorf("%s given twice", ip)
			case ip == "10.0.0.1" || ip == "10.0.0.10":
				t.Errorf("%s drawn", ip)
			default:
				seen[ip] = true
			}
		})
	}
	wg.Wait()
	if full != 12 {
		t.Errorf("%d were refused, want 40 - 28", full)
	}
	for _, ip := range []string{"10.0.0.1", "10.0.0.10"} {
		if err := f.create(t, service("at-"+ip, func(s *corev1.ServiceSpec) { s.ClusterIP = ip })); err != nil {
			t.Error(err)
		}
	}
}

func nodePort(s *corev1.ServiceSpec) {
	s.Type, s.ClusterIP, s.Ports[0].NodePort = corev1.ServiceTypeNodePort, "10.0.0.7", 30007
}

func TestRelease(t *testing.T) {
	f := start(t, "10.0.0.0/24")
	tests := []struct {
		name string
		run  func(t *testing.T, s *corev1.Service)
		held string
	}{
		{"stored", func(*testing.T, *corev1.Service) {}, "10.0.0.7 30007"},
		{"deleted", func(t *testing.T, s *corev1.Service) {
			finish, err := f.Begin(t.Context(), handler.HookRequest{Operation: admission.Delete, Old: s})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.services.Delete(t.Context(), "x/s", nil); err != nil {
				t.Fatal(err)
			}
			finish(true)
		}, ""},
		{"delete refused", func(t *testing.T, s *corev1.Service) {
			finish, err := f.Begin(t.Context(), handler.HookRequest{Operation: admission.Delete, Old: s})
			if err != nil {
				t.Fatal(err)
			}
			finish(false)
		}, "10.0.0.7 30007"},
		{"created again during its deletion", func(t *testing.T, s *corev1.Service) {
			finish, err := f.Begin(t.Context(), handler.HookRequest{Operation: admission.Delete, Old: s})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.services.Delete(t.Context(), "x/s", nil); err != nil {
				t.Fatal(err)
			}
			again := service("s", func(s *corev1.ServiceSpec) { s.ClusterIP = "10.0.0.7" })
			if _, err := f.Begin(t.Context(), handler.HookRequest{Operation: admission.Create, New: again}); err != nil {
				t.Fatal(err)
			}
			finish(true) // before the new one is stored
		}, "10.0.0.7"},
		{"same name twice", func(t *testing.T, s *corev1.Service) {
			if err := f.create(t, service("s", func(s *corev1.ServiceSpec) { s.ClusterIP = "10.0.0.7" })); !errors.Is(err, store.ErrExists) {
				t.Fatal(err)
			}
			if err := f.create(t, service("s", nil)); !errors.Is(err, store.ErrExists) {
				t.Fatal(err)
			}
		}, "10.0.0.7 30007"},
		{"no longer a node port", func(t *testing.T, s *corev1.Service) {
			f.update(t, s, func(s *corev1.ServiceSpec) { s.Type, s.Ports[0].NodePort = corev1.ServiceTypeClusterIP, 0 })
		}, "10.0.0.7"},
		{"external name", func(t *testing.T, s *corev1.Service) {
			f.update(t, s, func(s *corev1.ServiceSpec) {
				*s = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "a.example"}
			})
		}, ""},
		{"refused halfway", func(t *testing.T, _ *corev1.Service) {
			err := f.create(t, service("other", func(s *corev1.ServiceSpec) { s.Type, s.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30007 }))
			if err == nil {
				t.Fatal("a taken port was given")
			}
		}, "10.0.0.7 30007"},
		{"dry run", func(t *testing.T, _ *corev1.Service) {
			other := service("other", func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeNodePort })
			finish, err := f.Begin(t.Context(), handler.HookRequest{Operation: admission.Create, New: other, DryRun: true})
			if err != nil || finish != nil || other.Spec.ClusterIP == "" || other.Spec.Ports[0].NodePort == 0 {
				t.Fatalf("%v: %+v", err, other.Spec)
			}
		}, "10.0.0.7 30007"},
		{"crash before the write", func(t *testing.T, _ *corev1.Service) {
			if _, err := f.Begin(t.Context(), handler.HookRequest{Operation: admission.Create, New: service("lost", func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeNodePort })}); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if err := f.repair.Round(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}, "10.0.0.7 30007"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			*f = *start(t, "10.0.0.0/24")
			s := service("s", nodePort)
			if err := f.create(t, s); err != nil {
				t.Fatal(err)
			}
			test.run(t, s)
			if got := f.held(t); got != test.held {
				t.Errorf("held %q, want %q", got, test.held)
			}
		})
	}
}

func (f *fixture) update(t *testing.T, old *corev1.Service, change func(*corev1.ServiceSpec)) {
	t.Helper()
	changed := old.DeepCopy()
	change(&changed.Spec)
	finish, err := f.Begin(t.Context(), handler.HookRequest{Operation: admission.Update, New: changed, Old: old})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.services.Update(t.Context(), "x/s", func(*store.Item) (resource.Object, error) { return changed, nil })
	finish(err == nil)
	if err != nil {
		t.Fatal(err)
	}
}

func TestUpdateKeepsAndCompletes(t *testing.T) {
	f := start(t, "10.0.0.0/24")
	old := service("s", nil)
	if err := f.create(t, old); err != nil {
		t.Fatal(err)
	}
	changed := old.DeepCopy()
	changed.Spec.Type = corev1.ServiceTypeNodePort
	finish, err := f.Begin(t.Context(), handler.HookRequest{Operation: admission.Update, New: changed, Old: resource.Object(old)})
	if err != nil {
		t.Fatal(err)
	}
	finish(true)
	if changed.Spec.ClusterIP != old.Spec.ClusterIP || changed.Spec.Ports[0].NodePort == 0 {
		t.Errorf("spec %+v", changed.Spec)
	}
}

package serviceip_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/apiserver/admission"
	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/serviceip"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/apiserver/store/memory"
)

type fixture struct {
	*serviceip.Hook
	services store.Store
}

func start(ranges ...string) *fixture {
	f := &fixture{services: memory.New(memory.Config{})}
	c := serviceip.Config{Services: f.services, FirstPort: 30000, Ports: 100}
	for _, r := range ranges {
		c.Ranges = append(c.Ranges, netip.MustParsePrefix(r))
	}
	f.Hook = serviceip.New(c)
	return f
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
	finish, err := f.Begin(t.Context(), handler.HookRequest{Operation: admission.Create, New: s})
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
	f := start("10.0.0.0/24")
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
	f := start("10.0.0.0/24", "fd00::/112")
	prefer := corev1.IPFamilyPolicyPreferDualStack
	s := service("s", func(s *corev1.ServiceSpec) { s.IPFamilyPolicy = &prefer })
	if err := f.create(t, s); err != nil {
		t.Fatal(err)
	}
	if len(s.Spec.ClusterIPs) != 2 || !netip.MustParseAddr(s.Spec.ClusterIPs[1]).Is6() || s.Spec.IPFamilies[1] != corev1.IPv6Protocol {
		t.Errorf("spec %+v", s.Spec)
	}
}

// TestSmallRangeNeverTwice fills a range from many goroutines: each address is
// given once, and a full range is an error.
func TestSmallRangeNeverTwice(t *testing.T) {
	f := start("10.0.0.0/27")
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen, full := map[string]bool{}, 0
	for i := range 40 {
		wg.Go(func() {
			s := service(fmt.Sprint("s", i), nil)
			err := f.create(t, s)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				full++
			} else if seen[s.Spec.ClusterIP] {
				t.Errorf("%s given twice", s.Spec.ClusterIP)
			}
			seen[s.Spec.ClusterIP] = err == nil
		})
	}
	wg.Wait()
	if full != 10 {
		t.Errorf("%d were refused, want 40 - 30", full)
	}
}

func TestUpdateKeepsAndCompletes(t *testing.T) {
	f := start("10.0.0.0/24")
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

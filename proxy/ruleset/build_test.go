package ruleset

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/internal/testkit"
)

// pod describes an endpoint: address, node, and words for its state: ready (the
// default), starting, draining (terminating and serving), gone (terminating
// only), zone=Z, fornode=N.
type pod struct {
	addr, node string
	words      []string
}

func p(addr, node string, words ...string) pod { return pod{addr, node, words} }

func (x pod) endpoint() discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{x.addr}, NodeName: &x.node}
	state := func(ready, serving, terminating bool) {
		e.Conditions = discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating}
	}
	state(true, true, false)
	for _, w := range x.words {
		name, value, _ := strings.Cut(w, "=")
		switch name {
		case "starting":
			state(false, false, false)
		case "draining":
			state(false, true, true)
		case "gone":
			state(false, false, true)
		case "unsaid":
			e.Conditions = discoveryv1.EndpointConditions{}
		case "zone":
			hints(&e).ForZones = append(hints(&e).ForZones, discoveryv1.ForZone{Name: value})
		case "fornode":
			hints(&e).ForNodes = append(hints(&e).ForNodes, discoveryv1.ForNode{Name: value})
		}
	}
	return e
}

func hints(e *discoveryv1.Endpoint) *discoveryv1.EndpointHints {
	if e.Hints == nil {
		e.Hints = &discoveryv1.EndpointHints{}
	}
	return e.Hints
}

func sliceOf(pods ...pod) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "ns", Name: "svc-x", Labels: map[string]string{discoveryv1.LabelServiceName: "svc"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To(""), Port: ptr.To[int32](8080), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	for _, x := range pods {
		if strings.Contains(x.addr, ":") {
			s.AddressType = discoveryv1.AddressTypeIPv6
		}
		s.Endpoints = append(s.Endpoints, x.endpoint())
	}
	return s
}

// text is a frontend in one line, with what is not the default.
func text(f Frontend) string {
	at := netip.AddrPortFrom(f.Address, f.Port).String()
	if f.NodePort {
		at = fmt.Sprintf("node%s:%d", map[bool]string{true: "6"}[f.Six], f.Port)
	}
	last := func(all []netip.AddrPort) string {
		var texts []string
		for _, e := range all {
			texts = append(texts, e.Addr().String())
		}
		return strings.Join(texts, ",")
	}
	out := fmt.Sprintf("%s %s → %s", f.Protocol, at, last(f.Endpoints))
	if len(f.Endpoints) == 0 {
		out += map[Empty]string{Reject: "reject", Drop: "drop"}[f.Empty]
	}
	out += map[Masquerade]string{MasqueradeAll: " masq", MasqueradeNone: " keep"}[f.Masquerade]
	if f.Insiders != nil {
		out += " inside " + last(f.Insiders)
	}
	if f.Affinity > 0 {
		out += " affinity " + f.Affinity.String()
	}
	if f.Sources != nil {
		out += fmt.Sprintf(" from %v", f.Sources)
	}
	return out
}

func TestBuild(t *testing.T) {
	local, cluster := corev1.ServiceInternalTrafficPolicyLocal, corev1.ServiceInternalTrafficPolicyCluster
	externalLocal := func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	nodePort := func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30080 }
	balancer := func(s *corev1.Service) {
		nodePort(s)
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	}
	internal := func(p corev1.ServiceInternalTrafficPolicy) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &p }
	}
	here, there := p("10.1.0.1", "n1"), p("10.1.0.2", "n2")
	for _, c := range []struct {
		name   string
		change []func(*corev1.Service)
		pods   []pod
		want   []string
	}{
		{"cluster IP", nil, []pod{there, here}, []string{"tcp 10.96.0.1:80 → 10.1.0.1,10.1.0.2"}},
		{"conditions that are not said", nil, []pod{p("10.1.0.1", "n1", "unsaid")}, []string{"tcp 10.96.0.1:80 → 10.1.0.1"}},
		{"no endpoints", nil, nil, []string{"tcp 10.96.0.1:80 → reject"}},
		{"endpoints that are not ready", nil, []pod{p("10.1.0.1", "n1", "starting"), there}, []string{"tcp 10.96.0.1:80 → 10.1.0.2"}},
		{"none is ready", nil, []pod{p("10.1.0.1", "n1", "starting"), p("10.1.0.2", "n1", "gone")}, []string{"tcp 10.96.0.1:80 → reject"}},
		{"one drains beside ready ones", nil, []pod{p("10.1.0.1", "n1", "draining"), there}, []string{"tcp 10.96.0.1:80 → 10.1.0.2"}},
		{"all drain", nil, []pod{p("10.1.0.1", "n1", "draining"), p("10.1.0.2", "n2", "gone")}, []string{"tcp 10.96.0.1:80 → 10.1.0.1"}},
		{"internal policy local", []func(*corev1.Service){internal(local)}, []pod{here, there}, []string{"tcp 10.96.0.1:80 → 10.1.0.1"}},
		{"internal policy local, endpoints elsewhere", []func(*corev1.Service){internal(local)}, []pod{there}, []string{"tcp 10.96.0.1:80 → drop"}},
		{"internal policy local, no endpoints", []func(*corev1.Service){internal(local)}, nil, []string{"tcp 10.96.0.1:80 → reject"}},
		{"internal policy local, here all drain", []func(*corev1.Service){internal(local)},
			[]pod{p("10.1.0.1", "n1", "draining"), there}, []string{"tcp 10.96.0.1:80 → 10.1.0.1"}},
		{"internal policy cluster", []func(*corev1.Service){internal(cluster)}, []pod{here, there}, []string{"tcp 10.96.0.1:80 → 10.1.0.1,10.1.0.2"}},
		{"node port", []func(*corev1.Service){nodePort}, []pod{here, there},
			[]string{"tcp node:30080 → 10.1.0.1,10.1.0.2 masq", "tcp 10.96.0.1:80 → 10.1.0.1,10.1.0.2"}},
		{"node port, external policy local", []func(*corev1.Service){nodePort, externalLocal}, []pod{here, there},
			[]string{"tcp node:30080 → 10.1.0.1 keep inside 10.1.0.1,10.1.0.2", "tcp 10.96.0.1:80 → 10.1.0.1,10.1.0.2"}},
		{"node port, external policy local, endpoints elsewhere", []func(*corev1.Service){nodePort, externalLocal}, []pod{there},
			[]string{"tcp node:30080 → drop keep inside 10.1.0.2", "tcp 10.96.0.1:80 → 10.1.0.2"}},
		{"node port, external policy local, no endpoints", []func(*corev1.Service){nodePort, externalLocal}, nil,
			[]string{"tcp node:30080 → reject keep inside ", "tcp 10.96.0.1:80 → reject"}},
		{"external IP", []func(*corev1.Service){func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"192.0.2.7", "2001:db8::7", "nonsense"} }}, []pod{here},
			[]string{"tcp 10.96.0.1:80 → 10.1.0.1", "tcp 192.0.2.7:80 → 10.1.0.1 masq"}},
		{"load balancer", []func(*corev1.Service){balancer}, []pod{here},
			[]string{"tcp node:30080 → 10.1.0.1 masq", "tcp 10.96.0.1:80 → 10.1.0.1", "tcp 192.0.2.1:80 → 10.1.0.1 masq"}},
		{"load balancer, source ranges", []func(*corev1.Service){balancer, func(s *corev1.Service) {
			s.Spec.LoadBalancerSourceRanges = []string{"198.51.100.9/24", "2001:db8::/32", "nonsense"}
		}}, []pod{here},
			[]string{"tcp node:30080 → 10.1.0.1 masq", "tcp 10.96.0.1:80 → 10.1.0.1", "tcp 192.0.2.1:80 → 10.1.0.1 masq from [198.51.100.0/24]"}},
		{"load balancer that is a proxy", []func(*corev1.Service){balancer, func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress[0].IPMode = ptr.To(corev1.LoadBalancerIPModeProxy)
		}}, []pod{here}, []string{"tcp node:30080 → 10.1.0.1 masq", "tcp 10.96.0.1:80 → 10.1.0.1"}},
		{"affinity", []func(*corev1.Service){func(s *corev1.Service) {
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr.To[int32](60)}}
		}}, []pod{here}, []string{"tcp 10.96.0.1:80 → 10.1.0.1 affinity 1m0s"}},
		{"affinity for the default time", []func(*corev1.Service){func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }},
			[]pod{here}, []string{"tcp 10.96.0.1:80 → 10.1.0.1 affinity 3h0m0s"}},
		{"zone hints", nil, []pod{p("10.1.0.1", "n1", "zone=a"), p("10.1.0.2", "n2", "zone=b")}, []string{"tcp 10.96.0.1:80 → 10.1.0.1"}},
		{"zone hints, not for us", nil, []pod{p("10.1.0.1", "n1", "zone=b"), p("10.1.0.2", "n2", "zone=c")}, []string{"tcp 10.96.0.1:80 → 10.1.0.1,10.1.0.2"}},
		{"zone hints, not on all", nil, []pod{p("10.1.0.1", "n1", "zone=b"), p("10.1.0.2", "n2")}, []string{"tcp 10.96.0.1:80 → 10.1.0.1,10.1.0.2"}},
		{"node hints before zone hints", nil, []pod{p("10.1.0.1", "n1", "zone=a", "fornode=n1"), p("10.1.0.2", "n2", "zone=a", "fornode=n2")},
			[]string{"tcp 10.96.0.1:80 → 10.1.0.1"}},
		{"headless", []func(*corev1.Service){func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }}, []pod{here}, nil},
		{"ExternalName", []func(*corev1.Service){func(s *corev1.Service) { s.Spec.Type, s.Spec.ClusterIP = corev1.ServiceTypeExternalName, "" }}, []pod{here}, nil},
		{"of another proxy", []func(*corev1.Service){func(s *corev1.Service) { s.Labels = map[string]string{labelProxyName: "mesh"} }}, []pod{here}, nil},
		{"another protocol", []func(*corev1.Service){func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP }}, []pod{here}, []string{"udp 10.96.0.1:80 → reject"}},
		{"another port's name", []func(*corev1.Service){func(s *corev1.Service) { s.Spec.Ports[0].Name = "http" }}, []pod{here}, []string{"tcp 10.96.0.1:80 → reject"}},
		{"an address that is none", nil, []pod{p("nonsense", "n1"), here}, []string{"tcp 10.96.0.1:80 → 10.1.0.1"}},
		{"twice the same", nil, []pod{p("10.1.0.1", "n1", "starting"), here, here}, []string{"tcp 10.96.0.1:80 → 10.1.0.1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			svc := testkit.Service("ns", "svc", "10.96.0.1", 80, 8080)
			for _, change := range c.change {
				change(svc)
			}
			var got []string
			for _, f := range Build(svc, []*discoveryv1.EndpointSlice{sliceOf(c.pods...)}, Node{Name: "n1", Zone: "a"}).Frontends {
				got = append(got, text(f))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestBuildDualStack(t *testing.T) {
	svc := testkit.Service("ns", "svc", "10.96.0.1", 80, 8080)
	svc.Spec.ClusterIPs = []string{"10.96.0.1", "fd96::1"}
	svc.Spec.Ports[0].NodePort = 30080
	svc.Spec.ExternalIPs = []string{"192.0.2.7", "2001:db8::7"}
	var got []string
	for _, f := range Build(svc, []*discoveryv1.EndpointSlice{sliceOf(p("10.1.0.1", "n1")), sliceOf(p("fd01::1", "n1"))}, Node{Name: "n1"}).Frontends {
		got = append(got, text(f))
	}
	want := []string{
		"tcp node:30080 → 10.1.0.1 masq", "tcp 10.96.0.1:80 → 10.1.0.1", "tcp 192.0.2.7:80 → 10.1.0.1 masq",
		"tcp node6:30080 → fd01::1 masq", "tcp [2001:db8::7]:80 → fd01::1 masq", "tcp [fd96::1]:80 → fd01::1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestBuildHealthCheck(t *testing.T) {
	svc := testkit.Service("ns", "svc", "10.96.0.1", 80, 8080)
	svc.Spec.HealthCheckNodePort = 32000
	pods := sliceOf(p("10.1.0.1", "n1"), p("10.1.0.2", "n1", "draining"), p("10.1.0.3", "n2"), p("10.1.0.4", "n1"))
	if got := Build(svc, []*discoveryv1.EndpointSlice{pods}, Node{Name: "n1"}).HealthCheck; got != nil {
		t.Errorf("with external policy cluster: %+v", got)
	}
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	want := &HealthCheck{Service: "ns/svc", Port: 32000, LocalEndpoints: 2}
	if diff := cmp.Diff(want, Build(svc, []*discoveryv1.EndpointSlice{pods, pods}, Node{Name: "n1"}).HealthCheck); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func front(service string, address byte) Frontend {
	return Frontend{Service: service, Address: netip.AddrFrom4([4]byte{10, 0, 0, address}), Protocol: TCP, Port: 80}
}

// TestSplice: replacing parts is the same as joining anew, for names that are
// prefixes of each other.
func TestSplice(t *testing.T) {
	all := map[string]Service{}
	for i, name := range []string{"a/b", "a/b-c", "a/bc", "a/b.c", "b/a", "c/x"} {
		all[name] = Service{Frontends: []Frontend{front(name+":http", byte(i)), front(name+":", byte(i)), front(name+":~", byte(i))}}
	}
	frontends, _ := Join(all)
	for _, changed := range []map[string]Service{
		{}, {"a/b": {}}, {"a/b": {Frontends: []Frontend{front("a/b:new", 99)}}}, {"a/a": {Frontends: []Frontend{front("a/a:", 1)}}},
		{"z/z": {Frontends: []Frontend{front("z/z:", 1), front("z/z:b", 2)}}, "a/b-c": {}, "c/x": {}},
		{"a/b-c": {Frontends: []Frontend{front("a/b-c:", 3)}}, "a/b": {}, "a/bc": {Frontends: []Frontend{front("a/bc:q", 3)}}},
	} {
		before := slices.Clone(frontends)
		next := Splice(frontends, changed)
		for name, s := range changed {
			all[name] = s
		}
		want, _ := Join(all)
		if diff := cmp.Diff(want, next, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%v: (-want +got)\n%s", changed, diff)
		}
		if !slices.EqualFunc(before, frontends, func(a, b Frontend) bool { return Equal(&a, &b) }) {
			t.Error("the old ones were changed")
		}
		frontends = next
	}
}

func TestDiff(t *testing.T) {
	changed := front("c/c:", 3)
	changed.Affinity = time.Minute
	gone, added := Diff([]Frontend{front("a/a:", 1), front("b/b:", 2), front("c/c:", 3)}, []Frontend{front("b/b:", 2), changed, front("d/d:", 4)})
	names := func(all []Frontend) string {
		var texts []string
		for _, f := range all {
			texts = append(texts, f.Service)
		}
		return strings.Join(texts, " ")
	}
	if names(gone) != "a/a: c/c:" || names(added) != "c/c: d/d:" {
		t.Errorf("gone %s, added %s", names(gone), names(added))
	}
}

package ruleset

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Node is what Build needs to know of the node.
type Node struct {
	Name string
	// Zone is its topology.kubernetes.io/zone label; may be "".
	Zone string
}

// Service is the part of the rules that comes from one Service.
type Service struct {
	Frontends   []Frontend
	HealthCheck *HealthCheck
}

// Build makes one Service's part of the rules from its slices. Headless and
// ExternalName Services have none. The objects are not changed or kept.
func Build(svc *corev1.Service, endpointSlices []*discoveryv1.EndpointSlice, node Node) Service {
	var out Service
	if skipped(svc) {
		return out
	}
	for i := range svc.Spec.Ports {
		port := &svc.Spec.Ports[i]
		for _, ip := range clusterIPs(svc) {
			six := ip.Is6()
			b := builder{svc: svc, port: port, six: six, pick: choose(svc, collect(endpointSlices, port, six), node)}
			out.Frontends = append(out.Frontends, b.frontends(ip)...)
		}
	}
	if p := svc.Spec.HealthCheckNodePort; p != 0 && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		out.HealthCheck = &HealthCheck{
			Service: svc.Namespace + "/" + svc.Name, Port: uint16(p),
			LocalEndpoints: countLocal(endpointSlices, node),
		}
	}
	out.Frontends = Sorted(out.Frontends)
	return out
}

// labelProxyName hands a Service to another proxy (well-known label); headless
// Services are resolved by DNS alone.
const labelProxyName = "service.kubernetes.io/service-proxy-name"

func skipped(svc *corev1.Service) bool {
	_, other := svc.Labels[labelProxyName]
	return other || svc.Spec.Type == corev1.ServiceTypeExternalName || svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone
}

func clusterIPs(svc *corev1.Service) []netip.Addr {
	texts := svc.Spec.ClusterIPs
	if len(texts) == 0 {
		texts = []string{svc.Spec.ClusterIP}
	}
	return addresses(texts)
}

// addresses parses what can be parsed: the API server has validated it, and
// what an older one let through must not stop the rest.
func addresses(texts []string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			all = append(all, a.Unmap())
		}
	}
	return all
}

// builder makes the frontends of one port in one family.
type builder struct {
	svc  *corev1.Service
	port *corev1.ServicePort
	six  bool
	pick choice
}

func (b *builder) frontends(clusterIP netip.Addr) []Frontend {
	internal := b.base()
	internal.Address, internal.Port = clusterIP, uint16(b.port.Port)
	internal.Endpoints = b.pick.internal
	if b.svc.Spec.InternalTrafficPolicy != nil && *b.svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal && b.pick.any {
		internal.Empty = Drop
	}
	all := []Frontend{internal}
	for _, ip := range addresses(b.svc.Spec.ExternalIPs) {
		all = append(all, b.external(ip, uint16(b.port.Port))...)
	}
	for _, ingress := range b.svc.Status.LoadBalancer.Ingress {
		if ingress.IPMode != nil && *ingress.IPMode == corev1.LoadBalancerIPModeProxy {
			continue // the balancer wants to see the traffic itself (KEP-1860)
		}
		for _, ip := range addresses([]string{ingress.IP}) {
			balanced := b.external(ip, uint16(b.port.Port))
			for i := range balanced {
				balanced[i].Sources = b.sources()
			}
			all = append(all, balanced...)
		}
	}
	if b.port.NodePort != 0 {
		all = append(all, b.external(netip.Addr{}, uint16(b.port.NodePort))...)
	}
	return all
}

func (b *builder) base() Frontend {
	return Frontend{
		Service: b.svc.Namespace + "/" + b.svc.Name + ":" + b.port.Name,
		Six:     b.six, Protocol: protocol(b.port.Protocol), Affinity: affinity(b.svc),
	}
}

// external makes a frontend for clients from outside; none when ip is of the
// other family. The zero ip is a node port.
func (b *builder) external(ip netip.Addr, port uint16) []Frontend {
	f := b.base()
	if ip.IsValid() && ip.Is6() != b.six {
		return nil
	}
	f.Address, f.NodePort, f.Port = ip, !ip.IsValid(), port
	f.Endpoints, f.Masquerade = b.pick.external, MasqueradeAll
	if b.svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		f.Masquerade, f.Insiders = MasqueradeNone, b.pick.cluster
		if f.Insiders == nil {
			f.Insiders = []netip.AddrPort{}
		}
		if b.pick.any {
			f.Empty = Drop
		}
	}
	return []Frontend{f}
}

func (b *builder) sources() []netip.Prefix {
	var all []netip.Prefix
	for _, text := range b.svc.Spec.LoadBalancerSourceRanges {
		if p, err := netip.ParsePrefix(text); err == nil && p.Addr().Is6() == b.six {
			all = append(all, p.Masked())
		}
	}
	return all
}

func affinity(svc *corev1.Service) time.Duration {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	seconds := corev1.DefaultClientIPServiceAffinitySeconds
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		seconds = *c.ClientIP.TimeoutSeconds
	}
	return time.Duration(seconds) * time.Second
}

func protocol(p corev1.Protocol) Protocol {
	switch p {
	case corev1.ProtocolUDP:
		return UDP
	case corev1.ProtocolSCTP:
		return SCTP
	}
	return TCP
}

func compareFrontends(a, b *Frontend) int {
	return cmp.Or(
		strings.Compare(a.Service, b.Service), compareBools(a.Six, b.Six), a.Address.Compare(b.Address),
		cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Sorted returns the frontends in the order of a Ruleset.
func Sorted(frontends []Frontend) []Frontend {
	out := slices.Clone(frontends)
	slices.SortStableFunc(out, func(a, b Frontend) int { return compareFrontends(&a, &b) })
	return out
}

// Join puts the parts of all Services together, sorted.
func Join(services map[string]Service) (frontends []Frontend, checks []HealthCheck) {
	for _, s := range services {
		frontends = append(frontends, s.Frontends...)
	}
	return Sorted(frontends), Checks(services)
}

// Checks lists the health checks of all Services, sorted.
func Checks(services map[string]Service) []HealthCheck {
	var checks []HealthCheck
	for _, s := range services {
		if s.HealthCheck != nil {
			checks = append(checks, *s.HealthCheck)
		}
	}
	slices.SortFunc(checks, func(a, b HealthCheck) int { return cmp.Compare(a.Port, b.Port) })
	return checks
}

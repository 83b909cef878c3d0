package core

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func defaultService(s *corev1.Service) {
	spec := &s.Spec
	if spec.SessionAffinity == "" {
		spec.SessionAffinity = corev1.ServiceAffinityNone
	}
	if spec.Type == "" {
		spec.Type = corev1.ServiceTypeClusterIP
	}
	defaultAffinity(spec)
	for i := range spec.Ports {
		defaultServicePort(&spec.Ports[i])
	}
	if spec.ExternalTrafficPolicy == "" && externallyAccessible(spec) {
		spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	}
	if spec.InternalTrafficPolicy == nil && spec.Type != corev1.ServiceTypeExternalName {
		spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyCluster)
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		defaultLoadBalancer(s)
	}
}

func defaultServicePort(port *corev1.ServicePort) {
	if port.Protocol == "" {
		port.Protocol = corev1.ProtocolTCP
	}
	if port.TargetPort == intstr.FromInt32(0) || port.TargetPort == intstr.FromString("") {
		port.TargetPort = intstr.FromInt32(port.Port)
	}
}

func defaultLoadBalancer(s *corev1.Service) {
	if s.Spec.AllocateLoadBalancerNodePorts == nil {
		s.Spec.AllocateLoadBalancerNodePorts = ptr.To(true)
	}
	for i := range s.Status.LoadBalancer.Ingress {
		if ingress := &s.Status.LoadBalancer.Ingress[i]; ingress.IP != "" && ingress.IPMode == nil {
			ingress.IPMode = ptr.To(corev1.LoadBalancerIPModeVIP)
		}
	}
}

func defaultAffinity(spec *corev1.ServiceSpec) {
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityNone:
		spec.SessionAffinityConfig = nil
	case corev1.ServiceAffinityClientIP:
		if c := spec.SessionAffinityConfig; c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
			timeout := corev1.DefaultClientIPServiceAffinitySeconds
			spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &timeout}}
		}
	}
}

func externallyAccessible(spec *corev1.ServiceSpec) bool {
	return needsNodePort(spec) || spec.Type == corev1.ServiceTypeLoadBalancer ||
		spec.Type == corev1.ServiceTypeClusterIP && len(spec.ExternalIPs) > 0
}

func needsClusterIP(spec *corev1.ServiceSpec) bool {
	return spec.Type != corev1.ServiceTypeExternalName
}

func needsNodePort(spec *corev1.ServiceSpec) bool {
	return spec.Type == corev1.ServiceTypeNodePort ||
		spec.Type == corev1.ServiceTypeLoadBalancer && ptr.Deref(spec.AllocateLoadBalancerNodePorts, true)
}

func needsHealthCheckPort(spec *corev1.ServiceSpec) bool {
	return spec.Type == corev1.ServiceTypeLoadBalancer && spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

func createService(s *corev1.Service) {
	s.Status = corev1.ServiceStatus{}
	if s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
}

// updateService makes a PUT that leaves allocated values out keep them, and a
// change of type drop what the new type has no use for.
func updateService(s, old *corev1.Service) {
	s.Status = old.Status
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		s.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	}
	normalizeClusterIPs(&s.Spec, &old.Spec)
	keepAllocated(&s.Spec, &old.Spec)
	dropForType(&s.Spec, &old.Spec)
}

// normalizeClusterIPs makes clusterIPs follow when a client that knows only
// clusterIP changes that.
func normalizeClusterIPs(spec, old *corev1.ServiceSpec) {
	if spec.ClusterIP == old.ClusterIP {
		return
	}
	same := slices.Equal(spec.ClusterIPs, old.ClusterIPs)
	switch {
	case spec.ClusterIP == "":
		if same {
			spec.ClusterIPs = nil
		}
	case len(spec.ClusterIPs) == 0:
		spec.ClusterIPs = []string{spec.ClusterIP}
	case same:
		spec.ClusterIPs = slices.Clone(spec.ClusterIPs)
		spec.ClusterIPs[0] = spec.ClusterIP
	}
}

func keepAllocated(spec, old *corev1.ServiceSpec) {
	if needsClusterIP(spec) && needsClusterIP(old) {
		if spec.ClusterIP == "" {
			spec.ClusterIP = old.ClusterIP
		}
		if len(spec.ClusterIPs) == 0 && spec.ClusterIP == old.ClusterIP {
			spec.ClusterIPs = old.ClusterIPs
		}
		if spec.IPFamilyPolicy == nil {
			spec.IPFamilyPolicy = old.IPFamilyPolicy
		}
		if len(spec.IPFamilies) == 0 {
			spec.IPFamilies = old.IPFamilies
		}
	}
	if needsNodePort(spec) && needsNodePort(old) {
		keepNodePorts(spec, old)
	}
	if needsHealthCheckPort(spec) && needsHealthCheckPort(old) && spec.HealthCheckNodePort == 0 {
		spec.HealthCheckNodePort = old.HealthCheckNodePort
	}
}

// portKey tells ports of one service apart.
type portKey struct {
	protocol corev1.Protocol
	port     int32
}

func keepNodePorts(spec, old *corev1.ServiceSpec) {
	allocated := map[portKey]int32{}
	for _, port := range old.Ports {
		allocated[portKey{port.Protocol, port.Port}] = port.NodePort
	}
	// What the client asks for by number is not given to another port as well.
	taken := map[portKey]bool{}
	for _, port := range spec.Ports {
		if port.NodePort != 0 {
			taken[portKey{port.Protocol, port.NodePort}] = true
		}
	}
	for i := range spec.Ports {
		port := &spec.Ports[i]
		before := allocated[portKey{port.Protocol, port.Port}]
		if port.NodePort != 0 || before == 0 || taken[portKey{port.Protocol, before}] {
			continue
		}
		port.NodePort = before
		taken[portKey{port.Protocol, before}] = true
	}
}

// dropForType clears what belonged to the former type, where the client only
// repeats it. What the client changed stays, for validation to refuse.
func dropForType(spec, old *corev1.ServiceSpec) {
	if needsClusterIP(old) && !needsClusterIP(spec) && spec.ClusterIP == old.ClusterIP && slices.Equal(spec.ClusterIPs, old.ClusterIPs) {
		spec.ClusterIP, spec.ClusterIPs = "", nil
		spec.IPFamilies, spec.IPFamilyPolicy = nil, nil
		spec.InternalTrafficPolicy = nil
	}
	dropNodePorts(spec, old)
	if needsHealthCheckPort(old) && !needsHealthCheckPort(spec) && spec.HealthCheckNodePort == old.HealthCheckNodePort {
		spec.HealthCheckNodePort = 0
	}
	if externallyAccessible(old) && !externallyAccessible(spec) && spec.ExternalTrafficPolicy == old.ExternalTrafficPolicy {
		spec.ExternalTrafficPolicy = ""
	}
	if old.Type == corev1.ServiceTypeLoadBalancer && spec.Type != corev1.ServiceTypeLoadBalancer {
		dropLoadBalancer(spec, old)
	}
}

func dropNodePorts(spec, old *corev1.ServiceSpec) {
	if !needsNodePort(old) || needsNodePort(spec) || !maps.Equal(nodePorts(spec), nodePorts(old)) {
		return
	}
	for i := range spec.Ports {
		spec.Ports[i].NodePort = 0
	}
}

func dropLoadBalancer(spec, old *corev1.ServiceSpec) {
	if ptr.Equal(spec.AllocateLoadBalancerNodePorts, old.AllocateLoadBalancerNodePorts) {
		spec.AllocateLoadBalancerNodePorts = nil
	}
	if ptr.Equal(spec.LoadBalancerClass, old.LoadBalancerClass) {
		spec.LoadBalancerClass = nil
	}
}

// nodePorts is the set of node ports a service names.
func nodePorts(spec *corev1.ServiceSpec) map[int32]bool {
	ports := map[int32]bool{}
	for _, port := range spec.Ports {
		if port.NodePort != 0 {
			ports[port.NodePort] = true
		}
	}
	return ports
}

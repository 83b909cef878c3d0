package core

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestServiceUpdateKeepsWhatWasAllocated(t *testing.T) {
	t.Parallel()
	old := func(kind corev1.ServiceType) *corev1.Service {
		s := &corev1.Service{Spec: corev1.ServiceSpec{
			Type: kind, ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Name: "a", Port: 80}, {Name: "b", Port: 81}},
		}}
		if kind != corev1.ServiceTypeClusterIP {
			s.Spec.Ports[0].NodePort, s.Spec.Ports[1].NodePort = 30080, 30081
		}
		defaultService(s)
		return s
	}
	for name, test := range map[string]struct {
		before    corev1.ServiceType
		change    func(*corev1.ServiceSpec)
		ip        string
		nodePorts []int32
		policy    corev1.ServiceExternalTrafficPolicy
	}{
		"left out": {corev1.ServiceTypeNodePort, func(s *corev1.ServiceSpec) {
			s.ClusterIP, s.ClusterIPs = "", nil
			s.Ports = []corev1.ServicePort{{Name: "b", Port: 81}, {Name: "a", Port: 80}}
		}, "10.0.0.1", []int32{30081, 30080}, corev1.ServiceExternalTrafficPolicyCluster},
		"taken by another": {corev1.ServiceTypeNodePort, func(s *corev1.ServiceSpec) {
			s.Ports = []corev1.ServicePort{{Name: "b", Port: 81, NodePort: 30080}, {Name: "a", Port: 80}}
		}, "10.0.0.1", []int32{30080, 0}, corev1.ServiceExternalTrafficPolicyCluster},
		"to ClusterIP": {corev1.ServiceTypeNodePort, func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeClusterIP },
			"10.0.0.1", []int32{0, 0}, ""},
		"to ExternalName": {corev1.ServiceTypeNodePort, func(s *corev1.ServiceSpec) { s.Type, s.ExternalName = corev1.ServiceTypeExternalName, "a.b" },
			"", []int32{0, 0}, ""},
		"to NodePort": {corev1.ServiceTypeClusterIP, func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeNodePort },
			"10.0.0.1", []int32{0, 0}, corev1.ServiceExternalTrafficPolicyCluster},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := old(test.before)
			after := before.DeepCopy()
			test.change(&after.Spec)
			defaultService(after)
			updateService(after, before)
			var ports []int32
			for _, port := range after.Spec.Ports {
				ports = append(ports, port.NodePort)
			}
			if after.Spec.ClusterIP != test.ip || !slices.Equal(ports, test.nodePorts) || after.Spec.ExternalTrafficPolicy != test.policy {
				t.Errorf("got %q %v %q, want %q %v %q", after.Spec.ClusterIP, ports, after.Spec.ExternalTrafficPolicy, test.ip, test.nodePorts, test.policy)
			}
			if errs := validateServiceUpdate(after, before); len(errs) > 0 {
				t.Error(errs)
			}
		})
	}
}

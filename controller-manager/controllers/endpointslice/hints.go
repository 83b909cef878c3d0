package endpointslice

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/controller-manager/slicing"
)

// addHints tells consumers which endpoints are near them, when the service's
// trafficDistribution asks for it (KEP-4444, KEP-3015): an endpoint is for its
// own zone, with PreferSameNode first for its own node.
func addHints(service *corev1.Service, groups []slicing.Group) {
	byNode := false
	switch ptr.Deref(service.Spec.TrafficDistribution, "") {
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
	case corev1.ServiceTrafficDistributionPreferSameNode:
		byNode = true
	default:
		return
	}
	for i := range groups {
		for j := range groups[i].Endpoints {
			e := &groups[i].Endpoints[j]
			if !ptr.Deref(e.Conditions.Ready, true) {
				continue
			}
			hints := discoveryv1.EndpointHints{}
			if zone := ptr.Deref(e.Zone, ""); zone != "" {
				hints.ForZones = []discoveryv1.ForZone{{Name: zone}}
			}
			if node := ptr.Deref(e.NodeName, ""); byNode && node != "" {
				hints.ForNodes = []discoveryv1.ForNode{{Name: node}}
			}
			if hints.ForZones != nil || hints.ForNodes != nil {
				e.Hints = &hints
			}
		}
	}
}

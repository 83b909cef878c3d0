package endpointslice

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
	"github.com/skeg-dev/skeg/controller-manager/servicepods"
	"github.com/skeg-dev/skeg/controller-manager/slicing"
)

// build groups the service's endpoints by address family and ports. lost is
// true when a pod was left out because its node is unknown.
func build(service *corev1.Service, pods []*corev1.Pod, nodes corelisters.NodeLister) (groups []slicing.Group, lost bool) {
	for _, family := range servicepods.Families(service) {
		at := map[string]int{}
		for _, pod := range pods {
			if podcontrol.Ended(pod) {
				continue
			}
			addresses := servicepods.Addresses(pod, family)
			if len(addresses) == 0 {
				continue
			}
			node, err := nodes.Get(pod.Spec.NodeName)
			if err != nil && !service.Spec.PublishNotReadyAddresses {
				lost = true
				continue
			}
			ports := slicePorts(service, pod)
			key := slicing.PortsKey(ports)
			i, there := at[key]
			if !there {
				i = len(groups)
				at[key] = i
				groups = append(groups, slicing.Group{AddressType: family, Ports: ports})
			}
			groups[i].Endpoints = append(groups[i].Endpoints, endpoint(service, pod, node, addresses))
		}
	}
	for i := range groups {
		slicing.SortEndpoints(groups[i].Endpoints)
	}
	return groups, lost
}

// endpoint describes one pod. node may be nil.
func endpoint(service *corev1.Service, pod *corev1.Pod, node *corev1.Node, addresses []string) discoveryv1.Endpoint {
	serving := podcontrol.Ready(pod)
	terminating := pod.DeletionTimestamp != nil
	e := discoveryv1.Endpoint{
		// Sorted out by the caller; one address is what consumers use.
		Addresses: addresses,
		Conditions: discoveryv1.EndpointConditions{
			Ready:       ptr.To(service.Spec.PublishNotReadyAddresses || (serving && !terminating)),
			Serving:     ptr.To(serving),
			Terminating: ptr.To(terminating),
		},
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		e.NodeName = ptr.To(pod.Spec.NodeName)
	}
	if node != nil && node.Labels[corev1.LabelTopologyZone] != "" {
		e.Zone = ptr.To(node.Labels[corev1.LabelTopologyZone])
	}
	if servicepods.HasHostname(pod, service) {
		e.Hostname = ptr.To(pod.Spec.Hostname)
	}
	return e
}

// slicePorts resolves the service's ports on the pod; a named port that the
// pod does not have is left out.
func slicePorts(service *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	ports := []discoveryv1.EndpointPort{}
	for i := range service.Spec.Ports {
		p := &service.Spec.Ports[i]
		number, ok := servicepods.TargetPort(pod, p)
		if !ok {
			continue
		}
		ports = append(ports, discoveryv1.EndpointPort{
			Name: ptr.To(p.Name), Port: ptr.To(number), Protocol: ptr.To(p.Protocol), AppProtocol: p.AppProtocol,
		})
	}
	return ports
}

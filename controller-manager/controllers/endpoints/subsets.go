package endpoints

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
	"github.com/skeg-dev/skeg/controller-manager/servicepods"
)

// maxAddresses is the most addresses one object holds; more are cut off and
// the over-capacity annotation says so (upstream maxCapacity).
const maxAddresses = 1000

// build lists the service's pods as subsets of equal ports, in a fixed order.
// over is the value of the over-capacity annotation, "" for none.
func build(service *corev1.Service, pods []*corev1.Pod) (subsets []corev1.EndpointSubset, over string) {
	byPorts := map[string]*corev1.EndpointSubset{}
	for _, pod := range pods {
		if podcontrol.Ended(pod) || (pod.DeletionTimestamp != nil && !service.Spec.PublishNotReadyAddresses) {
			continue
		}
		ips := servicepods.Addresses(pod, servicepods.Families(service)[0])
		if len(ips) == 0 {
			continue
		}
		ports := subsetPorts(service, pod)
		if len(ports) == 0 && len(service.Spec.Ports) > 0 {
			continue // no port of the service is on this pod
		}
		key := fmt.Sprint(ports)
		s := byPorts[key]
		if s == nil {
			s = &corev1.EndpointSubset{Ports: ports}
			byPorts[key] = s
		}
		if service.Spec.PublishNotReadyAddresses || podcontrol.Ready(pod) {
			s.Addresses = append(s.Addresses, address(service, pod, ips[0]))
		} else {
			s.NotReadyAddresses = append(s.NotReadyAddresses, address(service, pod, ips[0]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(byPorts)) {
		s := byPorts[key]
		sortAddresses(s.Addresses)
		sortAddresses(s.NotReadyAddresses)
		subsets = append(subsets, *s)
	}
	return truncate(subsets)
}

func address(service *corev1.Service, pod *corev1.Pod, ip string) corev1.EndpointAddress {
	a := corev1.EndpointAddress{
		IP:        ip,
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		node := pod.Spec.NodeName
		a.NodeName = &node
	}
	if servicepods.HasHostname(pod, service) {
		a.Hostname = pod.Spec.Hostname
	}
	return a
}

func subsetPorts(service *corev1.Service, pod *corev1.Pod) []corev1.EndpointPort {
	var ports []corev1.EndpointPort
	for i := range service.Spec.Ports {
		p := &service.Spec.Ports[i]
		if number, ok := servicepods.TargetPort(pod, p); ok {
			ports = append(ports, corev1.EndpointPort{Name: p.Name, Port: number, Protocol: p.Protocol, AppProtocol: p.AppProtocol})
		}
	}
	slices.SortFunc(ports, func(a, b corev1.EndpointPort) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	return ports
}

func sortAddresses(all []corev1.EndpointAddress) {
	slices.SortFunc(all, func(a, b corev1.EndpointAddress) int {
		return cmp.Or(cmp.Compare(a.IP, b.IP), cmp.Compare(a.TargetRef.UID, b.TargetRef.UID))
	})
}

// truncate cuts the addresses to what one object holds, ready ones kept first.
func truncate(subsets []corev1.EndpointSubset) ([]corev1.EndpointSubset, string) {
	total := 0
	for _, s := range subsets {
		total += len(s.Addresses) + len(s.NotReadyAddresses)
	}
	if total <= maxAddresses {
		return subsets, ""
	}
	room := maxAddresses
	for i := range subsets {
		n := min(room, len(subsets[i].Addresses))
		subsets[i].Addresses = subsets[i].Addresses[:n]
		room -= n
	}
	for i := range subsets {
		n := min(room, len(subsets[i].NotReadyAddresses))
		subsets[i].NotReadyAddresses = subsets[i].NotReadyAddresses[:n]
		room -= n
	}
	return slices.DeleteFunc(subsets, func(s corev1.EndpointSubset) bool {
		return len(s.Addresses)+len(s.NotReadyAddresses) == 0
	}), "truncated"
}

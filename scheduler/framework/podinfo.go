package framework

import (
	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
)

// NewResourceList makes a list of CPU and memory.
func NewResourceList(milliCPU, memoryBytes int64) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *apiresource.NewMilliQuantity(milliCPU, apiresource.DecimalSI),
		corev1.ResourceMemory: *apiresource.NewQuantity(memoryBytes, apiresource.BinarySI),
	}
}

// PodInfo is a Pod with what plugins need of it computed once. Immutable.
type PodInfo struct {
	Pod *corev1.Pod
	// Requests is what the Pod asks for; NonZero the same with defaults for
	// unset CPU and memory, for scoring.
	Requests, NonZero Resource
	// Ports are the host ports it wants.
	Ports []HostPort
	// HasAffinity: any inter-pod affinity term; HasRequiredAntiAffinity: a
	// required anti-affinity term.
	HasAffinity, HasRequiredAntiAffinity bool
	// Terms are its inter-pod affinity.
	Terms AffinityTerms

	group string // see Group
}

// HostPort is a port of the node. IP is "0.0.0.0" for all addresses.
type HostPort struct {
	IP       string
	Protocol corev1.Protocol
	Port     int32
}

// Conflicts reports whether two host ports cannot be had together.
func (p HostPort) Conflicts(o HostPort) bool {
	return p.Port == o.Port && p.Protocol == o.Protocol && (p.IP == o.IP || p.IP == anyIP || o.IP == anyIP)
}

const anyIP = "0.0.0.0"

// NewPodInfo computes it; pod must not change afterwards.
func NewPodInfo(pod *corev1.Pod) *PodInfo {
	info := &PodInfo{Pod: pod, Ports: hostPorts(pod)}
	info.Requests, info.NonZero = podRequests(pod)
	if a := pod.Spec.Affinity; a != nil {
		info.HasAffinity = a.PodAffinity != nil || a.PodAntiAffinity != nil
		info.HasRequiredAntiAffinity = a.PodAntiAffinity != nil && len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0
		info.Terms = newAffinityTerms(pod)
	}
	info.group = groupKey(info)
	return info
}

// hostPorts lists the ports of all containers that run together with others:
// the main ones and sidecars.
func hostPorts(pod *corev1.Pod) []HostPort {
	var ports []HostPort
	collect := func(c *corev1.Container) {
		for _, p := range c.Ports {
			if p.HostPort == 0 {
				continue
			}
			port := HostPort{IP: p.HostIP, Protocol: p.Protocol, Port: p.HostPort}
			if port.IP == "" {
				port.IP = anyIP
			}
			if port.Protocol == "" {
				port.Protocol = corev1.ProtocolTCP
			}
			ports = append(ports, port)
		}
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			collect(c)
		}
	}
	for i := range pod.Spec.Containers {
		collect(&pod.Spec.Containers[i])
	}
	return ports
}

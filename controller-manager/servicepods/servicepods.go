// Package servicepods holds the facts that the endpoints and endpointslice
// controllers share about a Service and the pods behind it. It is pure and
// starts no goroutines.
package servicepods

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	corelisters "k8s.io/client-go/listers/core/v1"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// Families returns the address types of the service, the first one first.
func Families(service *corev1.Service) []discoveryv1.AddressType {
	var all []discoveryv1.AddressType
	for _, f := range service.Spec.IPFamilies {
		if f == corev1.IPv6Protocol {
			all = append(all, discoveryv1.AddressTypeIPv6)
		} else {
			all = append(all, discoveryv1.AddressTypeIPv4)
		}
	}
	if len(all) > 0 {
		return all
	}
	if ip, err := netip.ParseAddr(service.Spec.ClusterIP); err == nil && ip.Is6() {
		return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv6}
	}
	return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}
}

// Addresses returns the pod's addresses of the family, none when it has none yet.
func Addresses(pod *corev1.Pod, family discoveryv1.AddressType) []string {
	ips := pod.Status.PodIPs
	if len(ips) == 0 && pod.Status.PodIP != "" {
		ips = []corev1.PodIP{{IP: pod.Status.PodIP}}
	}
	for _, p := range ips {
		ip, err := netip.ParseAddr(p.IP)
		if err == nil && (ip.Is4() || ip.Is4In6()) == (family == discoveryv1.AddressTypeIPv4) {
			return []string{p.IP}
		}
	}
	return nil
}

// HasHostname reports whether the pod has a name of its own under the service.
func HasHostname(pod *corev1.Pod, service *corev1.Service) bool {
	return pod.Spec.Hostname != "" && pod.Spec.Subdomain == service.Name && service.Namespace == pod.Namespace
}

// TargetPort resolves a port of the service on the pod: its number, or the
// container port of that name and protocol.
func TargetPort(pod *corev1.Pod, port *corev1.ServicePort) (int32, bool) {
	if port.TargetPort.Type == intstr.Int {
		if port.TargetPort.IntVal == 0 {
			return port.Port, true
		}
		return port.TargetPort.IntVal, true
	}
	named := func(ports []corev1.ContainerPort) int32 {
		for _, p := range ports {
			if p.Name == port.TargetPort.StrVal && p.Protocol == port.Protocol {
				return p.ContainerPort
			}
		}
		return 0
	}
	for i := range pod.Spec.Containers {
		if n := named(pod.Spec.Containers[i].Ports); n > 0 {
			return n, true
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			if n := named(c.Ports); n > 0 {
				return n, true
			}
		}
	}
	return 0, false
}

// Prefix is the generateName of objects made for a service.
func Prefix(service string) string {
	prefix := service + "-"
	if len(validation.NameIsDNSSubdomain(prefix, true)) != 0 {
		return service
	}
	return prefix
}

// Affected returns the keys of the services whose endpoints a pod event may
// change. old or now may be nil.
func Affected(services corelisters.ServiceLister, old, now *corev1.Pod) []string {
	if old != nil && now != nil && !endpointChanged(old, now) && equality.Semantic.DeepEqual(old.Labels, now.Labels) {
		return nil
	}
	var keys []string
	for _, pod := range []*corev1.Pod{old, now} {
		if pod == nil {
			continue
		}
		all, err := services.Services(pod.Namespace).List(labels.Everything())
		if err != nil {
			continue
		}
		for _, s := range all {
			if s.Spec.Selector != nil && labels.ValidatedSetSelector(s.Spec.Selector).Matches(labels.Set(pod.Labels)) {
				if key := reconcile.KeyOf(s); !slices.Contains(keys, key) {
					keys = append(keys, key)
				}
			}
		}
	}
	return keys
}

// endpointChanged reports whether an endpoint made from the pod would differ.
func endpointChanged(old, now *corev1.Pod) bool {
	return podcontrol.Ready(old) != podcontrol.Ready(now) ||
		podcontrol.Ended(old) != podcontrol.Ended(now) ||
		(old.DeletionTimestamp == nil) != (now.DeletionTimestamp == nil) ||
		old.Spec.NodeName != now.Spec.NodeName ||
		old.Spec.Hostname != now.Spec.Hostname || old.Spec.Subdomain != now.Spec.Subdomain ||
		old.UID != now.UID || !slices.Equal(old.Status.PodIPs, now.Status.PodIPs)
}

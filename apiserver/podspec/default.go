package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/utils/ptr"
)

// Default fills the unset fields of a Pod specification that are the same in
// a Pod and in a template. Idempotent.
func Default(spec *corev1.PodSpec) {
	setString(&spec.DNSPolicy, corev1.DNSClusterFirst)
	setString(&spec.RestartPolicy, corev1.RestartPolicyAlways)
	setString(&spec.SchedulerName, corev1.DefaultSchedulerName)
	if spec.SecurityContext == nil {
		spec.SecurityContext = &corev1.PodSecurityContext{}
	}
	if spec.TerminationGracePeriodSeconds == nil {
		spec.TerminationGracePeriodSeconds = ptr.To(int64(corev1.DefaultTerminationGracePeriodSeconds))
	}
	defaultServiceAccount(spec)
	for i := range spec.Volumes {
		defaultVolume(&spec.Volumes[i])
	}
	for i := range spec.InitContainers {
		defaultContainer(&spec.InitContainers[i])
	}
	for i := range spec.Containers {
		defaultContainer(&spec.Containers[i])
	}
	for i := range spec.EphemeralContainers {
		defaultEphemeralContainer(&spec.EphemeralContainers[i])
	}
	roundResources(spec.Overhead)
	if spec.Resources != nil {
		roundResources(spec.Resources.Limits)
		roundResources(spec.Resources.Requests)
	}
}

// DefaultPod fills what is defaulted in a Pod but left alone in a template,
// after Default. Idempotent.
func DefaultPod(pod *corev1.Pod) {
	spec := &pod.Spec
	if spec.EnableServiceLinks == nil {
		spec.EnableServiceLinks = ptr.To(corev1.DefaultEnableServiceLinks)
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			requestsFromLimits(&list[i].Resources)
			if spec.HostNetwork {
				hostPortsFromPorts(list[i].Ports)
			}
		}
	}
	defaultPodResources(pod)
}

// defaultServiceAccount keeps serviceAccountName and its deprecated alias equal.
func defaultServiceAccount(spec *corev1.PodSpec) {
	if spec.ServiceAccountName == "" {
		spec.ServiceAccountName = spec.DeprecatedServiceAccount
	}
	spec.DeprecatedServiceAccount = spec.ServiceAccountName
}

func requestsFromLimits(resources *corev1.ResourceRequirements) {
	for name, limit := range resources.Limits {
		if _, ok := resources.Requests[name]; ok {
			continue
		}
		if resources.Requests == nil {
			resources.Requests = corev1.ResourceList{}
		}
		resources.Requests[name] = limit.DeepCopy()
	}
}

func hostPortsFromPorts(ports []corev1.ContainerPort) {
	for i := range ports {
		if ports[i].HostPort == 0 {
			ports[i].HostPort = ports[i].ContainerPort
		}
	}
}

// defaultPodResources fills spec.resources.requests where only a limit is
// given: with what the containers request together, else with the limit
// (KEP-2837).
func defaultPodResources(pod *corev1.Pod) {
	resources := pod.Spec.Resources
	if resources == nil || len(resources.Limits) == 0 {
		return
	}
	requested := resourcehelper.AggregateContainerRequests(pod, resourcehelper.PodResourcesOptions{})
	for name, limit := range resources.Limits {
		if _, ok := resources.Requests[name]; ok || !resourcehelper.IsSupportedPodLevelResource(name) {
			continue
		}
		if resources.Requests == nil {
			resources.Requests = corev1.ResourceList{}
		}
		if sum, ok := requested[name]; ok {
			resources.Requests[name] = sum.DeepCopy()
		} else {
			resources.Requests[name] = limit.DeepCopy()
		}
	}
}

// roundResources rounds quantities up to thousandths, the finest the API keeps.
func roundResources(list corev1.ResourceList) {
	for name, quantity := range list {
		if quantity.RoundUp(resource.Milli) {
			continue
		}
		list[name] = quantity
	}
}

func setString[T ~string](target *T, value T) {
	if *target == "" {
		*target = value
	}
}

func setNumber[T int32 | int64](target *T, value T) {
	if *target == 0 {
		*target = value
	}
}

package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Restartable reports whether an init container is a sidecar: one that keeps
// running beside the containers (KEP-753).
func Restartable(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// QOSClass is the quality of service class of a Pod: Guaranteed when every
// container has cpu and memory limits equal to its requests, BestEffort when
// none has any, Burstable otherwise. With resources of the Pod as a whole,
// those alone decide (KEP-2837).
func QOSClass(pod *corev1.Pod) corev1.PodQOSClass {
	if r := pod.Spec.Resources; r != nil && (hasCompute(r.Requests) || hasCompute(r.Limits)) {
		return classOf([]corev1.ResourceRequirements{*r})
	}
	var all []corev1.ResourceRequirements
	for i := range pod.Spec.InitContainers {
		all = append(all, pod.Spec.InitContainers[i].Resources)
	}
	for i := range pod.Spec.Containers {
		all = append(all, pod.Spec.Containers[i].Resources)
	}
	return classOf(all)
}

var computeResources = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

func hasCompute(list corev1.ResourceList) bool {
	for _, name := range computeResources {
		if quantity, ok := list[name]; ok && quantity.Sign() > 0 {
			return true
		}
	}
	return false
}

func classOf(all []corev1.ResourceRequirements) corev1.PodQOSClass {
	requests, limits := map[corev1.ResourceName]resource.Quantity{}, map[corev1.ResourceName]resource.Quantity{}
	complete := true
	for i := range all {
		for _, name := range computeResources {
			addTo(requests, name, all[i].Requests)
			if !addTo(limits, name, all[i].Limits) {
				complete = false
			}
		}
	}
	if len(requests) == 0 && len(limits) == 0 {
		return corev1.PodQOSBestEffort
	}
	if !complete || len(requests) != len(limits) {
		return corev1.PodQOSBurstable
	}
	for name, limit := range limits {
		if request, ok := requests[name]; !ok || request.Cmp(limit) != 0 {
			return corev1.PodQOSBurstable
		}
	}
	return corev1.PodQOSGuaranteed
}

// addTo sums a resource up and reports whether there was any.
func addTo(sums map[corev1.ResourceName]resource.Quantity, name corev1.ResourceName, list corev1.ResourceList) bool {
	quantity, ok := list[name]
	if !ok || quantity.Sign() <= 0 {
		return false
	}
	sum := sums[name]
	sum.Add(quantity)
	sums[name] = sum
	return true
}

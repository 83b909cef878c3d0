package podinfo

import (
	corev1 "k8s.io/api/core/v1"
)

// QOSClass returns the class from the status when the API server set it, else
// computes it.
func QOSClass(pod *corev1.Pod) corev1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	return ComputeQOSClass(pod)
}

// ComputeQOSClass derives the class from requests and limits of CPU and memory
// (kubernetes.io, "Pod Quality of Service Classes"): Guaranteed when every
// container limits both and requests as much, BestEffort when nothing is
// requested or limited, else Burstable. Pod-level resources, where set, count
// instead of the containers'.
func ComputeQOSClass(pod *corev1.Pod) corev1.PodQOSClass {
	if r := pod.Spec.Resources; r != nil && (countsForQOS(r.Requests) || countsForQOS(r.Limits)) {
		return classOf([]corev1.ResourceRequirements{*r})
	}
	var all []corev1.ResourceRequirements
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			all = append(all, list[i].Resources)
		}
	}
	return classOf(all)
}

func classOf(all []corev1.ResourceRequirements) corev1.PodQOSClass {
	guaranteed, bestEffort := true, true
	for _, r := range all {
		if countsForQOS(r.Requests) || countsForQOS(r.Limits) {
			bestEffort = false
		}
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			limit := r.Limits[name]
			if limit.IsZero() {
				guaranteed = false
				continue
			}
			if request, given := r.Requests[name]; given && !request.IsZero() && request.Cmp(limit) != 0 {
				guaranteed = false
			}
		}
	}
	switch {
	case bestEffort:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

// countsForQOS reports whether CPU or memory is given and not zero.
func countsForQOS(list corev1.ResourceList) bool {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if q, ok := list[name]; ok && q.Sign() > 0 {
			return true
		}
	}
	return false
}

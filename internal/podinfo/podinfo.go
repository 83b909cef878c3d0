// Package podinfo answers questions about one Pod that several components ask:
// is it ready, is it over, what does it request, which QoS class has it. All
// functions are pure and read-only. Called by scheduler, controller-manager,
// kubelet and the API server.
package podinfo

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// Annotations that the kubelet puts on Pods from files (kubernetes.io,
// "Well-known labels, annotations and taints").
const (
	AnnotationSource = "kubernetes.io/config.source"
	AnnotationMirror = corev1.MirrorPodAnnotationKey
	AnnotationHash   = "kubernetes.io/config.hash"
	AnnotationSeen   = "kubernetes.io/config.seen"
)

// IsReady reports whether the Pod's Ready condition is true.
func IsReady(pod *corev1.Pod) bool {
	c := Condition(&pod.Status, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// IsAvailable reports whether the Pod has been ready for at least minReady at now.
func IsAvailable(pod *corev1.Pod, minReady time.Duration, now time.Time) bool {
	c := Condition(&pod.Status, corev1.PodReady)
	if c == nil || c.Status != corev1.ConditionTrue {
		return false
	}
	return minReady == 0 || (!c.LastTransitionTime.IsZero() && !c.LastTransitionTime.Add(minReady).After(now))
}

// Condition returns the condition of a kind, or nil.
func Condition(status *corev1.PodStatus, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range status.Conditions {
		if status.Conditions[i].Type == kind {
			return &status.Conditions[i]
		}
	}
	return nil
}

// IsTerminal reports whether the Pod has succeeded or failed: it will not run again.
func IsTerminal(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// IsActive reports whether the Pod counts as a replica: neither terminal nor
// being deleted.
func IsActive(pod *corev1.Pod) bool {
	return !IsTerminal(pod) && pod.DeletionTimestamp == nil
}

// IsScheduled reports whether the Pod has a node.
func IsScheduled(pod *corev1.Pod) bool { return pod.Spec.NodeName != "" }

// IsMirror reports whether the Pod stands in the API for one from a file.
func IsMirror(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[AnnotationMirror]
	return ok
}

// IsStatic reports whether the kubelet got the Pod from a file or URL.
func IsStatic(pod *corev1.Pod) bool {
	source, ok := pod.Annotations[AnnotationSource]
	return ok && source != "api"
}

// IsCritical reports whether the Pod must not be evicted for lack of
// resources: static, mirror, or of a system priority.
func IsCritical(pod *corev1.Pod) bool {
	const systemCritical = 2000000000 // scheduling.SystemCriticalPriority upstream
	return IsStatic(pod) || IsMirror(pod) || (pod.Spec.Priority != nil && *pod.Spec.Priority >= systemCritical)
}

// IsSidecar reports whether an init container keeps running beside the others.
func IsSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// Requests returns what the Pod reserves on a node: the larger of what runs
// together and of what init containers need (sidecars counted), plus overhead,
// or the pod-level values where set.
func Requests(pod *corev1.Pod) corev1.ResourceList {
	return resource.PodRequests(pod, resource.PodResourcesOptions{UseStatusResources: true})
}

// Limits is Requests for limits.
func Limits(pod *corev1.Pod) corev1.ResourceList {
	return resource.PodLimits(pod, resource.PodResourcesOptions{UseStatusResources: true})
}

// CPUMilli returns the Pod's CPU request in thousandths.
func CPUMilli(pod *corev1.Pod) int64 {
	requests := Requests(pod)
	return requests.Cpu().MilliValue()
}

// MemoryBytes returns the Pod's memory request.
func MemoryBytes(pod *corev1.Pod) int64 {
	requests := Requests(pod)
	return requests.Memory().Value()
}

// Containers calls visit for each init, main and ephemeral container, in that
// order, until it returns false. Ephemeral ones are passed as copies.
func Containers(pod *corev1.Pod, visit func(c *corev1.Container) bool) {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if !visit(&list[i]) {
				return
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		c := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		if !visit(&c) {
			return
		}
	}
}

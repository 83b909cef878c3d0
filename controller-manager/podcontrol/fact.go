package podcontrol

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Active reports whether the pod counts as a replica: not ended, not going.
func Active(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && !Ended(pod)
}

// Ended reports whether the pod's containers have ended for good.
func Ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// Terminating reports whether the pod was told to go and has not ended.
func Terminating(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil && !Ended(pod)
}

// Condition returns the pod's condition of the given type, or nil.
func Condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// Ready reports whether the pod's Ready condition is true.
func Ready(pod *corev1.Pod) bool {
	c := Condition(pod, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// Available reports whether the pod has been ready for minReady without a
// break. If it will be later by itself, wait is the time until then, else 0.
func Available(pod *corev1.Pod, minReady time.Duration, now time.Time) (ok bool, wait time.Duration) {
	c := Condition(pod, corev1.PodReady)
	if c == nil || c.Status != corev1.ConditionTrue {
		return false, 0
	}
	if minReady == 0 {
		return true, 0
	}
	if c.LastTransitionTime.IsZero() {
		return false, 0
	}
	if wait := c.LastTransitionTime.Add(minReady).Sub(now); wait > 0 {
		return false, wait
	}
	return true, 0
}

// Restarts returns the highest restart count of the pod's containers, those of
// restartable init containers among them.
func Restarts(pod *corev1.Pod) int32 {
	var most int32
	for _, s := range pod.Status.ContainerStatuses {
		most = max(most, s.RestartCount)
	}
	for i, s := range pod.Status.InitContainerStatuses {
		if i < len(pod.Spec.InitContainers) {
			if p := pod.Spec.InitContainers[i].RestartPolicy; p != nil && *p == corev1.ContainerRestartPolicyAlways {
				most = max(most, s.RestartCount)
			}
		}
	}
	return most
}

// SetCondition sets a condition on the pod and reports whether that changed
// anything. The transition time moves only when the status does.
func SetCondition(pod *corev1.Pod, c corev1.PodCondition, now time.Time) bool {
	c.LastTransitionTime = metav1.NewTime(now)
	old := Condition(pod, c.Type)
	if old == nil {
		pod.Status.Conditions = append(pod.Status.Conditions, c)
		return true
	}
	if old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	changed := old.Status != c.Status || old.Reason != c.Reason || old.Message != c.Message
	*old = c
	return changed
}

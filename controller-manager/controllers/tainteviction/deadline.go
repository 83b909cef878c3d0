package tainteviction

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// noExecute returns the node's NoExecute taints.
func noExecute(node *corev1.Node) []corev1.Taint {
	var found []corev1.Taint
	for _, t := range node.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			found = append(found, t)
		}
	}
	return found
}

// deadline is when the pod must leave a node with these taints: at once
// (evicted, at = now) when it does not tolerate one, later when it tolerates
// them for a time, never (evicted false) else. Time runs from when the taint
// was added or the pod was made, whichever is later, so that a restart of this
// process does not start it anew.
func deadline(pod *corev1.Pod, taints []corev1.Taint, now time.Time) (at time.Time, evicted bool) {
	for i := range taints {
		seconds, tolerated := tolerates(pod.Spec.Tolerations, &taints[i])
		if !tolerated {
			return now, true
		}
		if seconds == nil {
			continue
		}
		start := pod.CreationTimestamp.Time
		if added := taints[i].TimeAdded; added != nil && added.After(start) {
			start = added.Time
		}
		end := start.Add(time.Duration(max(*seconds, 0)) * time.Second)
		if !evicted || end.Before(at) {
			at, evicted = end, true
		}
	}
	return at, evicted
}

// tolerates reports whether any toleration accepts the taint, and the least
// time any of those that do sets; nil for no limit.
func tolerates(tolerations []corev1.Toleration, taint *corev1.Taint) (seconds *int64, ok bool) {
	for i := range tolerations {
		t := &tolerations[i]
		if !t.ToleratesTaint(klog.Background(), taint, true) {
			continue
		}
		ok = true
		if t.TolerationSeconds != nil && (seconds == nil || *t.TolerationSeconds < *seconds) {
			seconds = t.TolerationSeconds
		}
	}
	return seconds, ok
}

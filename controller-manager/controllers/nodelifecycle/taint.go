package nodelifecycle

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// followed maps a condition's status to the NoSchedule taint that stands for it.
var followed = []struct {
	kind   corev1.NodeConditionType
	status corev1.ConditionStatus
	key    string
}{
	{corev1.NodeReady, corev1.ConditionFalse, corev1.TaintNodeNotReady},
	{corev1.NodeReady, corev1.ConditionUnknown, corev1.TaintNodeUnreachable},
	{corev1.NodeMemoryPressure, corev1.ConditionTrue, corev1.TaintNodeMemoryPressure},
	{corev1.NodeDiskPressure, corev1.ConditionTrue, corev1.TaintNodeDiskPressure},
	{corev1.NodeNetworkUnavailable, corev1.ConditionTrue, corev1.TaintNodeNetworkUnavailable},
	{corev1.NodePIDPressure, corev1.ConditionTrue, corev1.TaintNodePIDPressure},
}

// followConditions returns the taints the node should have by its conditions
// alone: the NoSchedule ones, and no NoExecute one of ours that its Ready
// condition does not call for (an old one is replaced at once, as the node is
// still lost; a first one is given at the zone's rate).
func followConditions(node *corev1.Node, now time.Time) (taints []corev1.Taint, differ bool) {
	want := map[string]bool{corev1.TaintNodeUnschedulable: node.Spec.Unschedulable}
	for _, f := range followed {
		c := condition(node, f.kind)
		want[f.key] = want[f.key] || (c != nil && c.Status == f.status)
	}
	execute := executeTaint(node)
	had := false
	have := map[string]bool{}
	for _, t := range node.Spec.Taints {
		ours, known := want[t.Key]
		switch {
		case t.Effect == corev1.TaintEffectNoSchedule && known && !ours:
			differ = true
			continue
		case t.Effect == corev1.TaintEffectNoSchedule && known:
			have[t.Key] = true
		case t.Effect == corev1.TaintEffectNoExecute && readinessTaint(t.Key) && t.Key != execute:
			had, differ = true, true
			continue
		case t.Effect == corev1.TaintEffectNoExecute && t.Key == execute:
			execute = "" // there already
		}
		taints = append(taints, t)
	}
	for _, key := range taintOrder {
		if want[key] && !have[key] {
			taints = append(taints, newTaint(key, corev1.TaintEffectNoSchedule, now))
			differ = true
		}
	}
	if had && execute != "" {
		taints = append(taints, newTaint(execute, corev1.TaintEffectNoExecute, now))
	}
	return taints, differ
}

// taintOrder fixes the order in which missing taints are added.
var taintOrder = []string{
	corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeMemoryPressure, corev1.TaintNodeDiskPressure,
	corev1.TaintNodeNetworkUnavailable, corev1.TaintNodePIDPressure, corev1.TaintNodeUnschedulable,
}

// executeTaint is the key of the NoExecute taint that the node's Ready
// condition calls for, "" for none.
func executeTaint(node *corev1.Node) string {
	switch c := condition(node, corev1.NodeReady); {
	case c == nil || c.Status == corev1.ConditionTrue:
		return ""
	case c.Status == corev1.ConditionFalse:
		return corev1.TaintNodeNotReady
	}
	return corev1.TaintNodeUnreachable
}

func readinessTaint(key string) bool {
	return key == corev1.TaintNodeNotReady || key == corev1.TaintNodeUnreachable
}

func newTaint(key string, effect corev1.TaintEffect, now time.Time) corev1.Taint {
	at := metav1.NewTime(now)
	return corev1.Taint{Key: key, Effect: effect, TimeAdded: &at}
}

func hasTaint(node *corev1.Node, key string, effect corev1.TaintEffect) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == key && t.Effect == effect })
}

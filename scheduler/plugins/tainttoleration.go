package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

// TaintToleration refuses nodes with NoSchedule or NoExecute taints that the
// Pod does not tolerate, and prefers nodes with fewer PreferNoSchedule ones.
type TaintToleration struct{}

// NewTaintToleration makes the plugin.
func NewTaintToleration() *TaintToleration { return &TaintToleration{} }

// Name is TaintToleration.
func (*TaintToleration) Name() string { return "TaintToleration" }

// Filter refuses a node with a taint that is not tolerated.
func (*TaintToleration) Filter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if untolerated(pod.Pod, node.Node) == nil {
		return nil
	}
	return framework.NewStatus(framework.Unresolvable, "node(s) had untolerated taint(s)")
}

func untolerated(pod *corev1.Pod, node *corev1.Node) *corev1.Taint {
	for i := range node.Spec.Taints {
		taint := &node.Spec.Taints[i]
		if taint.Effect != corev1.TaintEffectPreferNoSchedule && !tolerates(pod.Spec.Tolerations, taint) {
			return taint
		}
	}
	return nil
}

func tolerates(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	for i := range tolerations {
		if tolerations[i].ToleratesTaint(klog.Background(), taint, false) {
			return true
		}
	}
	return false
}

// Score counts the PreferNoSchedule taints that are not tolerated.
func (*TaintToleration) Score(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	var count int64
	for i := range node.Node.Spec.Taints {
		taint := &node.Node.Spec.Taints[i]
		if taint.Effect == corev1.TaintEffectPreferNoSchedule && !tolerates(pod.Pod.Spec.Tolerations, taint) {
			count++
		}
	}
	return count, nil
}

// Normalize makes fewer taints the higher score.
func (*TaintToleration) Normalize(_ context.Context, _ *framework.CycleState, _ *framework.PodInfo, scores []framework.NodeScore) *framework.Status {
	maxScaled(scores, true)
	return nil
}

// Wakes when a node comes whose taints the Pod tolerates, or taints change so.
func (*TaintToleration) Wakes() []framework.Wake {
	return []framework.Wake{
		{
			Event: framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.Add | framework.UpdateTaint},
			Helps: func(pod *corev1.Pod, _, new any) bool {
				node, ok := new.(*corev1.Node)
				return !ok || untolerated(pod, node) == nil
			},
		},
		{Event: framework.ClusterEvent{Kind: framework.WaitingPod, Action: framework.Update}},
	}
}

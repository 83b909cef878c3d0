package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

// NodeUnschedulable refuses cordoned nodes (spec.unschedulable), unless the
// Pod tolerates the taint that stands for it.
type NodeUnschedulable struct{}

// NewNodeUnschedulable makes the plugin.
func NewNodeUnschedulable() *NodeUnschedulable { return &NodeUnschedulable{} }

// Name is NodeUnschedulable.
func (*NodeUnschedulable) Name() string { return "NodeUnschedulable" }

var cordon = corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}

// Filter refuses a cordoned node.
func (*NodeUnschedulable) Filter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if !node.Node.Spec.Unschedulable || tolerates(pod.Pod.Spec.Tolerations, &cordon) {
		return nil
	}
	return framework.NewStatus(framework.Unresolvable, "node(s) were unschedulable")
}

// Wakes when a node comes or its cordon may be lifted.
func (*NodeUnschedulable) Wakes() []framework.Wake {
	return []framework.Wake{
		{
			Event: framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.Add | framework.UpdateTaint},
			Helps: func(_ *corev1.Pod, _, new any) bool {
				node, ok := new.(*corev1.Node)
				return !ok || !node.Spec.Unschedulable
			},
		},
		{Event: framework.ClusterEvent{Kind: framework.WaitingPod, Action: framework.Update}},
	}
}

package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

// NodeName refuses all nodes but the one in spec.nodeName, if that is set.
type NodeName struct{}

// NewNodeName makes the plugin.
func NewNodeName() *NodeName { return &NodeName{} }

// Name is NodeName.
func (*NodeName) Name() string { return "NodeName" }

// Filter refuses other nodes.
func (*NodeName) Filter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if want := pod.Pod.Spec.NodeName; want == "" || want == node.Node.Name {
		return nil
	}
	return framework.NewStatus(framework.Unresolvable, "node(s) didn't match the requested node name")
}

// Wakes when the node comes.
func (*NodeName) Wakes() []framework.Wake {
	return []framework.Wake{{
		Event: framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.Add},
		Helps: func(pod *corev1.Pod, _, new any) bool {
			node, ok := new.(*corev1.Node)
			return !ok || node.Name == pod.Spec.NodeName
		},
	}}
}

package plugins

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

// NodePorts refuses nodes where a host port of the Pod is taken.
type NodePorts struct{}

// NewNodePorts makes the plugin.
func NewNodePorts() *NodePorts { return &NodePorts{} }

// Name is NodePorts.
func (*NodePorts) Name() string { return "NodePorts" }

// PreFilter skips Pods without host ports.
func (*NodePorts) PreFilter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, _ *framework.Snapshot) (sets.Set[string], *framework.Status) {
	if len(pod.Ports) == 0 {
		return nil, framework.NewStatus(framework.Skip)
	}
	return nil, nil
}

// Filter refuses a node with a conflict.
func (*NodePorts) Filter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	for _, other := range node.Pods {
		if portsConflict(pod.Ports, other.Ports) {
			return framework.NewStatus(framework.Unschedulable, "node(s) didn't have free ports for the requested pod ports")
		}
	}
	return nil
}

func portsConflict(a, b []framework.HostPort) bool {
	return slices.ContainsFunc(a, func(p framework.HostPort) bool { return slices.ContainsFunc(b, p.Conflicts) })
}

// Wakes when a Pod with a port we want goes, or a node comes.
func (*NodePorts) Wakes() []framework.Wake {
	return []framework.Wake{
		{
			Event: framework.ClusterEvent{Kind: framework.AssignedPod, Action: framework.Delete},
			Helps: func(pod *corev1.Pod, old, _ any) bool {
				gone, ok := old.(*corev1.Pod)
				return !ok || portsConflict(framework.NewPodInfo(pod).Ports, framework.NewPodInfo(gone).Ports)
			},
		},
		{Event: framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.Add}},
	}
}

package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

// NodeResourcesFit refuses nodes without room for what the Pod requests, and
// prefers those with most room left (LeastAllocated).
type NodeResourcesFit struct{}

// NewNodeResourcesFit makes the plugin.
func NewNodeResourcesFit() *NodeResourcesFit { return &NodeResourcesFit{} }

// Name is NodeResourcesFit.
func (*NodeResourcesFit) Name() string { return "NodeResourcesFit" }

// Filter names every resource that is short.
func (*NodeResourcesFit) Filter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	reasons, hopeless := insufficient(&pod.Requests, node)
	if len(reasons) == 0 {
		return nil
	}
	if hopeless {
		return framework.NewStatus(framework.Unresolvable, reasons...)
	}
	return framework.NewStatus(framework.Unschedulable, reasons...)
}

// insufficient returns a reason for each resource that is short; hopeless says
// that the node would be too small even if it were empty.
func insufficient(want *framework.Resource, node *framework.NodeInfo) (reasons []string, hopeless bool) {
	have, used := &node.Allocatable, &node.Requested
	if int64(len(node.Pods))+1 > have.Pods {
		reasons = append(reasons, "Too many pods")
		hopeless = have.Pods == 0
	}
	check := func(name string, want, used, have int64) {
		if want > 0 && want > have-used {
			reasons = append(reasons, "Insufficient "+name)
			hopeless = hopeless || want > have
		}
	}
	check("cpu", want.MilliCPU, used.MilliCPU, have.MilliCPU)
	check("memory", want.MemoryBytes, used.MemoryBytes, have.MemoryBytes)
	check("ephemeral-storage", want.EphemeralBytes, used.EphemeralBytes, have.EphemeralBytes)
	for name, n := range want.Scalar {
		check(string(name), n, used.Scalar[name], have.Scalar[name])
	}
	return reasons, hopeless
}

// Score is the mean share of CPU and memory that is left with the Pod there.
func (*NodeResourcesFit) Score(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	cpu := leftShare(node.NonZeroRequested.MilliCPU+pod.NonZero.MilliCPU, node.Allocatable.MilliCPU)
	memory := leftShare(node.NonZeroRequested.MemoryBytes+pod.NonZero.MemoryBytes, node.Allocatable.MemoryBytes)
	return (cpu + memory) / 2, nil
}

func leftShare(used, have int64) int64 {
	if have == 0 || used > have {
		return 0
	}
	return (have - used) * framework.MaxNodeScore / have
}

// Wakes when something that takes room goes or shrinks, or a node has more.
func (*NodeResourcesFit) Wakes() []framework.Wake {
	return []framework.Wake{
		{Event: framework.ClusterEvent{Kind: framework.AssignedPod, Action: framework.Delete | framework.ScaleDown}},
		{
			Event: framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.Add | framework.UpdateAllocatable},
			Helps: func(pod *corev1.Pod, _, new any) bool {
				node, ok := new.(*corev1.Node)
				if !ok {
					return true
				}
				empty := &framework.NodeInfo{}
				empty.SetNode(node)
				reasons, _ := insufficient(&framework.NewPodInfo(pod).Requests, empty)
				return len(reasons) == 0
			},
		},
		{
			Event: framework.ClusterEvent{Kind: framework.WaitingPod, Action: framework.Update},
			Helps: func(_ *corev1.Pod, old, new any) bool {
				before, ok1 := old.(*corev1.Pod)
				after, ok2 := new.(*corev1.Pod)
				return !ok1 || !ok2 || requestsShrank(before, after)
			},
		},
	}
}

func requestsShrank(old, new *corev1.Pod) bool {
	a, b := framework.NewPodInfo(old).Requests, framework.NewPodInfo(new).Requests
	if b.MilliCPU < a.MilliCPU || b.MemoryBytes < a.MemoryBytes || b.EphemeralBytes < a.EphemeralBytes {
		return true
	}
	for name, n := range a.Scalar {
		if b.Scalar[name] < n {
			return true
		}
	}
	return false
}

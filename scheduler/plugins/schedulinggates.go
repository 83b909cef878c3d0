package plugins

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

// SchedulingGates keeps Pods with spec.schedulingGates out of the queue (KEP-3521).
type SchedulingGates struct{}

// NewSchedulingGates makes the plugin.
func NewSchedulingGates() *SchedulingGates { return &SchedulingGates{} }

// Name is SchedulingGates.
func (*SchedulingGates) Name() string { return "SchedulingGates" }

// PreEnqueue refuses a Pod with gates.
func (*SchedulingGates) PreEnqueue(pod *corev1.Pod) *framework.Status {
	if len(pod.Spec.SchedulingGates) == 0 {
		return nil
	}
	gates := make([]string, 0, len(pod.Spec.SchedulingGates))
	for _, g := range pod.Spec.SchedulingGates {
		gates = append(gates, g.Name)
	}
	return framework.NewStatus(framework.Unresolvable, fmt.Sprintf("waiting for scheduling gates: %v", gates))
}

// Wakes on a change of the Pod itself.
func (*SchedulingGates) Wakes() []framework.Wake {
	return []framework.Wake{{Event: framework.ClusterEvent{Kind: framework.WaitingPod, Action: framework.Update}}}
}

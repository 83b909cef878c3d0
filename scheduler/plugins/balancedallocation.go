package plugins

import (
	"context"
	"math"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

// BalancedAllocation prefers nodes whose CPU and memory would be used to
// similar shares (NodeResourcesBalancedAllocation).
type BalancedAllocation struct{}

// NewBalancedAllocation makes the plugin.
func NewBalancedAllocation() *BalancedAllocation { return &BalancedAllocation{} }

// Name is NodeResourcesBalancedAllocation.
func (*BalancedAllocation) Name() string { return "NodeResourcesBalancedAllocation" }

// PreScore skips best-effort Pods, which use nothing that could be balanced.
func (*BalancedAllocation) PreScore(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) *framework.Status {
	if pod.Requests.MilliCPU == 0 && pod.Requests.MemoryBytes == 0 {
		return framework.NewStatus(framework.Skip)
	}
	return nil
}

// Score is highest when the used shares are equal: with two resources the
// standard deviation is half their difference.
func (*BalancedAllocation) Score(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	cpu := usedShare(node.Requested.MilliCPU+pod.Requests.MilliCPU, node.Allocatable.MilliCPU)
	memory := usedShare(node.Requested.MemoryBytes+pod.Requests.MemoryBytes, node.Allocatable.MemoryBytes)
	return int64((1 - math.Abs(cpu-memory)/2) * float64(framework.MaxNodeScore)), nil
}

func usedShare(used, have int64) float64 {
	if have == 0 {
		return 1
	}
	return min(float64(used)/float64(have), 1)
}

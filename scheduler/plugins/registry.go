// Package plugins holds the scheduler's plugins, one file each, with upstream's
// names, weights and messages. Registry is their order. They implement the
// phases of package framework and know nothing of the cycle. It starts no
// goroutines.
package plugins

import (
	"k8s.io/apimachinery/pkg/labels"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

// Config is what plugins know of the cluster beside the snapshot. All optional.
type Config struct {
	// Workloads serves the default spreading.
	Workloads Workloads
	// NamespaceLabels serves namespace selectors of affinity terms.
	NamespaceLabels framework.NamespaceLabels
}

// Registry lists the plugins in the order they run, with the weights of
// upstream's default profile.
func Registry(c Config) []framework.Weighted {
	return []framework.Weighted{
		{Plugin: NewSchedulingGates()},
		{Plugin: NewNodeUnschedulable()},
		{Plugin: NewNodeName()},
		{Plugin: NewTaintToleration(), Weight: 3},
		{Plugin: NewNodeAffinity(), Weight: 2},
		{Plugin: NewNodePorts()},
		{Plugin: NewNodeResourcesFit(), Weight: 1},
		{Plugin: NewPodTopologySpread(c.Workloads), Weight: 2},
		{Plugin: NewInterPodAffinity(c.NamespaceLabels), Weight: 2},
		{Plugin: NewBalancedAllocation(), Weight: 1},
		{Plugin: NewImageLocality(), Weight: 1},
	}
}

func noNamespaceLabels(string) labels.Set { return nil }

// maxScaled brings scores into 0 to framework.MaxNodeScore by their maximum;
// reverse turns them around, for counts of what is unwanted.
func maxScaled(scores []framework.NodeScore, reverse bool) {
	var highest int64
	for _, s := range scores {
		highest = max(highest, s.Score)
	}
	for i := range scores {
		scaled := int64(0)
		if highest > 0 {
			scaled = scores[i].Score * framework.MaxNodeScore / highest
		}
		if reverse {
			scaled = framework.MaxNodeScore - scaled
		}
		scores[i].Score = scaled
	}
}

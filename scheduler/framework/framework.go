// Package framework is the contract between the scheduling cycle and its
// plugins: the phases a plugin may take part in, what it sees of the cluster
// (an immutable Snapshot), and how it answers (Status). Package plugins
// implements it, package cycle calls it through Runner. It starts no
// goroutines.
//
// A plugin has a name and implements the interfaces of the phases it needs;
// they are found by type assertion. Within one attempt the phases run in this
// order, the plugins of a phase in the order of plugins/registry.go:
//
//	PreEnqueue → (queue) → PreFilter → Filter (per node) → PreScore →
//	Score (per feasible node) → Reserve → Permit → PreBind → Bind
//	                          └─ no node fits → PostFilter (preemption)
//
// Up to Reserve everything runs on one goroutine; PreBind and Bind of several
// Pods run at the same time, beside the next Pod's attempt.
package framework

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
)

// Score limits of one plugin for one node, before its weight (the values of
// upstream's framework, so that weights mean the same).
const (
	MinNodeScore int64 = 0
	MaxNodeScore int64 = 100
)

// Plugin is what every plugin has.
type Plugin interface {
	// Name is the upstream plugin name ("NodeResourcesFit").
	Name() string
}

// PreEnqueuePlugin keeps a Pod out of the queue while it answers anything but
// success.
type PreEnqueuePlugin interface {
	Plugin
	PreEnqueue(pod *corev1.Pod) *Status
}

// PreFilterPlugin looks at the Pod once per attempt. It may write to state
// what Filter needs, answer Skip (then its Filter is not called), or narrow
// the search to some nodes (nil means all).
type PreFilterPlugin interface {
	Plugin
	PreFilter(ctx context.Context, state *CycleState, pod *PodInfo, snapshot *Snapshot) (sets.Set[string], *Status)
}

// FilterPlugin decides whether the Pod may run on a node.
type FilterPlugin interface {
	Plugin
	Filter(ctx context.Context, state *CycleState, pod *PodInfo, node *NodeInfo) *Status
}

// PreFilterExtensions keeps what PreFilter wrote up to date while preemption
// tries nodes with Pods removed or nominated Pods added; state is a copy.
type PreFilterExtensions interface {
	Plugin
	AddPod(state *CycleState, pod, added *PodInfo, node *NodeInfo) *Status
	RemovePod(state *CycleState, pod, removed *PodInfo, node *NodeInfo) *Status
}

// PostFilterPlugin is asked when no node fits: it may make room and nominate
// a node. The Status text is appended to the Pod's message.
type PostFilterPlugin interface {
	Plugin
	PostFilter(ctx context.Context, state *CycleState, pod *PodInfo, snapshot *Snapshot, refused map[string]*Status) (nominated string, s *Status)
}

// PreScorePlugin prepares Score with all feasible nodes; Skip leaves its Score out.
type PreScorePlugin interface {
	Plugin
	PreScore(ctx context.Context, state *CycleState, pod *PodInfo, nodes []*NodeInfo) *Status
}

// ScorePlugin rates a feasible node.
type ScorePlugin interface {
	Plugin
	Score(ctx context.Context, state *CycleState, pod *PodInfo, node *NodeInfo) (int64, *Status)
}

// NormalizePlugin brings the scores of all nodes into [MinNodeScore,
// MaxNodeScore], in place. Without it, Score must return values in the range.
type NormalizePlugin interface {
	ScorePlugin
	Normalize(ctx context.Context, state *CycleState, pod *PodInfo, scores []NodeScore) *Status
}

// NodeScore is a node's score.
type NodeScore struct {
	Node  string
	Score int64
}

// ReservePlugin books outside the snapshot what the Pod will use (volumes).
// Unreserve undoes it, in reverse order, may be called without Reserve, and
// must not fail.
type ReservePlugin interface {
	Plugin
	Reserve(ctx context.Context, state *CycleState, pod *corev1.Pod, node string) *Status
	Unreserve(ctx context.Context, state *CycleState, pod *corev1.Pod, node string)
}

// PermitPlugin may refuse a reserved Pod before it is bound.
type PermitPlugin interface {
	Plugin
	Permit(ctx context.Context, state *CycleState, pod *corev1.Pod, node string) *Status
}

// PreBindPlugin does what must be done before binding (provision a volume);
// it may block on the network.
type PreBindPlugin interface {
	Plugin
	PreBind(ctx context.Context, state *CycleState, pod *corev1.Pod, node string) *Status
}

// WakePlugin names the events that may make a Pod it refused schedulable.
// Plugins without it are woken by every event.
type WakePlugin interface {
	Plugin
	Wakes() []Wake
}

// Wake is an event and, optionally, a closer look: Helps returns whether this
// very change may help pod. old is nil on Add, new nil on Delete. nil Helps
// means always.
type Wake struct {
	Event ClusterEvent
	Helps func(pod *corev1.Pod, old, new any) bool
}

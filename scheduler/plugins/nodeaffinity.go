package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

// NodeAffinity honours spec.nodeSelector and spec.affinity.nodeAffinity.
type NodeAffinity struct{}

// NewNodeAffinity makes the plugin.
func NewNodeAffinity() *NodeAffinity { return &NodeAffinity{} }

// Name is NodeAffinity.
func (*NodeAffinity) Name() string { return "NodeAffinity" }

const (
	nodeAffinityFilter = "NodeAffinity/filter"
	nodeAffinityScore  = "NodeAffinity/score"
)

type requiredAffinity struct {
	nodeaffinity.RequiredNodeAffinity
}

// Clone returns the same: it is never changed.
func (r *requiredAffinity) Clone() framework.StateData { return r }

type preferredAffinity struct {
	*nodeaffinity.PreferredSchedulingTerms
}

// Clone returns the same: it is never changed.
func (p *preferredAffinity) Clone() framework.StateData { return p }

// PreFilter compiles the selectors. Terms that name nodes narrow the search to
// those (DaemonSet Pods), when every term does.
func (*NodeAffinity) PreFilter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, _ *framework.Snapshot) (sets.Set[string], *framework.Status) {
	spec := &pod.Pod.Spec
	required := requiredNodeTerms(spec)
	if len(spec.NodeSelector) == 0 && required == nil {
		return nil, framework.NewStatus(framework.Skip)
	}
	state.Write(nodeAffinityFilter, &requiredAffinity{nodeaffinity.GetRequiredNodeAffinity(pod.Pod)})
	if required == nil || len(required.NodeSelectorTerms) == 0 {
		return nil, nil
	}
	nodes := sets.New[string]()
	for i := range required.NodeSelectorTerms {
		names, ok := namesOf(&required.NodeSelectorTerms[i])
		if !ok {
			return nil, nil
		}
		nodes = nodes.Union(names)
	}
	if nodes.Len() == 0 {
		return nil, framework.NewStatus(framework.Unresolvable, reasonNodeAffinity)
	}
	return nodes, nil
}

const reasonNodeAffinity = "node(s) didn't match Pod's node affinity/selector"

func requiredNodeTerms(spec *corev1.PodSpec) *corev1.NodeSelector {
	if spec.Affinity == nil || spec.Affinity.NodeAffinity == nil {
		return nil
	}
	return spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
}

// namesOf returns the nodes a term names by metadata.name; ok is false when it
// does not name any.
func namesOf(term *corev1.NodeSelectorTerm) (names sets.Set[string], ok bool) {
	for _, r := range term.MatchFields {
		if r.Key != metav1.ObjectNameField || r.Operator != corev1.NodeSelectorOpIn {
			continue
		}
		if s := sets.New(r.Values...); names == nil {
			names = s
		} else {
			names = names.Intersection(s)
		}
	}
	return names, names != nil
}

// Filter refuses nodes that the required terms do not match.
func (*NodeAffinity) Filter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	required, ok := framework.ReadState[*requiredAffinity](state, nodeAffinityFilter)
	if !ok {
		required = &requiredAffinity{nodeaffinity.GetRequiredNodeAffinity(pod.Pod)}
	}
	if match, err := required.Match(node.Node); err != nil {
		return framework.NewStatus(framework.Unresolvable, err.Error())
	} else if !match {
		return framework.NewStatus(framework.Unresolvable, reasonNodeAffinity)
	}
	return nil
}

// PreScore compiles the preferred terms.
func (*NodeAffinity) PreScore(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) *framework.Status {
	a := pod.Pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || len(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) == 0 {
		return framework.NewStatus(framework.Skip)
	}
	terms, err := nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	if err != nil {
		return framework.AsStatus(err)
	}
	state.Write(nodeAffinityScore, &preferredAffinity{terms})
	return nil
}

// Score adds the weights of the preferred terms that match.
func (*NodeAffinity) Score(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	terms, ok := framework.ReadState[*preferredAffinity](state, nodeAffinityScore)
	if !ok {
		return 0, nil
	}
	return terms.Score(node.Node), nil
}

// Normalize scales by the highest score.
func (*NodeAffinity) Normalize(_ context.Context, _ *framework.CycleState, _ *framework.PodInfo, scores []framework.NodeScore) *framework.Status {
	maxScaled(scores, false)
	return nil
}

// Wakes when a node comes or is relabelled so that it matches.
func (*NodeAffinity) Wakes() []framework.Wake {
	return []framework.Wake{
		{
			Event: framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.Add | framework.UpdateLabel},
			Helps: func(pod *corev1.Pod, _, new any) bool {
				node, ok := new.(*corev1.Node)
				if !ok {
					return true
				}
				match, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node)
				return match || err != nil
			},
		},
		{Event: framework.ClusterEvent{Kind: framework.WaitingPod, Action: framework.Update}},
	}
}

package plugins

import (
	"context"
	"fmt"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

const (
	spreadFilter = "PodTopologySpread/filter"
	spreadScore  = "PodTopologySpread/score"

	reasonSpread      = "node(s) didn't match pod topology spread constraints"
	reasonSpreadLabel = reasonSpread + " (missing required label)"
)

// Made once, as those of InterPodAffinity.
var (
	refusedSpread      = framework.NewStatus(framework.Unschedulable, reasonSpread).By("PodTopologySpread")
	refusedSpreadLabel = framework.NewStatus(framework.Unresolvable, reasonSpreadLabel).By("PodTopologySpread")
)

// PodTopologySpread honours spec.topologySpreadConstraints, and spreads the
// Pods of one Service or workload that has none over hosts and zones.
type PodTopologySpread struct {
	workloads Workloads
}

// Workloads tells which selectors a Pod's Services and owner have.
type Workloads interface {
	// SelectorOf returns the selector that the Pod's siblings match;
	// labels.Nothing() when there is none.
	SelectorOf(pod *corev1.Pod) labels.Selector
}

// NewPodTopologySpread makes the plugin; without workloads (nil) there is no
// default spreading.
func NewPodTopologySpread(workloads Workloads) *PodTopologySpread {
	return &PodTopologySpread{workloads: workloads}
}

// Name is PodTopologySpread.
func (*PodTopologySpread) Name() string { return "PodTopologySpread" }

// systemDefaults spread Pods whose template says nothing (KEP-895).
var systemDefaults = []corev1.TopologySpreadConstraint{
	{TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 3},
	{TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 5},
}

// spread is a compiled constraint and the Pods it counts.
type spread struct {
	key           string
	maxSkew       int
	minDomains    int
	selector      labels.Selector
	self          int // 1 when the Pod counts itself
	honorAffinity bool
	honorTaints   bool

	pods *framework.DomainCount
	// domains that count; values are numbers of nodes. Shared, read only.
	domains map[string]int
	least   int // smallest count; valid unless stale
	stale   bool
	weight  float64
}

// spreads is the state of both phases.
type spreads struct {
	constraints []*spread
	// labelled: nodes without all keys are out (no default constraints).
	labelled bool
	ignored  sets.Set[string]
}

// Clone copies what preemption changes.
func (s *spreads) Clone() framework.StateData {
	dup := *s
	dup.constraints = make([]*spread, len(s.constraints))
	for i, c := range s.constraints {
		one := *c
		one.pods = c.pods.Clone()
		dup.constraints[i] = &one
	}
	return &dup
}

// compile reads the Pod's constraints of one kind.
func compileSpreads(pod *corev1.Pod, list []corev1.TopologySpreadConstraint, kind corev1.UnsatisfiableConstraintAction) ([]*spread, error) {
	var all []*spread
	for i := range list {
		c := &list[i]
		if c.WhenUnsatisfiable != kind {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(c.LabelSelector)
		if err == nil {
			selector, err = framework.WithLabelKeys(selector, pod, c.MatchLabelKeys, selection.In)
		}
		if err != nil {
			return nil, fmt.Errorf("read spread constraint on %q: %w", c.TopologyKey, err)
		}
		s := &spread{
			key: c.TopologyKey, maxSkew: int(c.MaxSkew), minDomains: 1, selector: selector,
			honorAffinity: c.NodeAffinityPolicy == nil || *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor,
			honorTaints:   c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor,
		}
		if c.MinDomains != nil {
			s.minDomains = int(*c.MinDomains)
		}
		if selector.Matches(labels.Set(pod.Labels)) {
			s.self = 1
		}
		all = append(all, s)
	}
	return all, nil
}

// PreFilter counts the Pods of hard constraints by domain.
func (*PodTopologySpread) PreFilter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, snapshot *framework.Snapshot) (sets.Set[string], *framework.Status) {
	hard, err := compileSpreads(pod.Pod, pod.Pod.Spec.TopologySpreadConstraints, corev1.DoNotSchedule)
	if err != nil {
		return nil, framework.AsStatus(err)
	}
	if len(hard) == 0 {
		return nil, framework.NewStatus(framework.Skip)
	}
	all := &spreads{constraints: hard, labelled: true}
	all.count(pod.Pod, snapshot)
	state.Write(spreadFilter, all)
	return nil, nil
}

// count fills pods and domains of every constraint.
func (s *spreads) count(pod *corev1.Pod, snapshot *framework.Snapshot) {
	required := nodeaffinity.GetRequiredNodeAffinity(pod)
	constrained := len(pod.Spec.NodeSelector) > 0 || requiredNodeTerms(&pod.Spec) != nil
	everywhere := !s.labelled || !slices.ContainsFunc(s.constraints, func(c *spread) bool {
		n := 0
		for _, nodes := range snapshot.Values(c.key) {
			n += nodes
		}
		return n != len(snapshot.Nodes)
	}) || len(s.constraints) == 1
	for _, c := range s.constraints {
		c.pods, c.stale = &framework.DomainCount{}, true
		matching := c.groups(pod, snapshot)
		if everywhere && !c.honorTaints && !(constrained && c.honorAffinity) {
			c.domains = snapshot.Values(c.key)
			for _, g := range matching {
				c.pods.Include(snapshot.Domains(g, c.key))
			}
			c.pods.Settle()
			continue
		}
		c.domains = map[string]int{}
		for _, n := range snapshot.Nodes {
			v, ok := n.Node.Labels[c.key]
			if !ok || !s.counts(c, pod, n, required, constrained) {
				continue
			}
			c.domains[v]++
			for _, g := range matching {
				if pods := g.Nodes[n.Node.Name]; pods > 0 {
					c.pods.Add(v, pods)
				}
			}
		}
	}
}

// counts reports whether the constraint looks at the node.
func (s *spreads) counts(c *spread, pod *corev1.Pod, n *framework.NodeInfo, required nodeaffinity.RequiredNodeAffinity, constrained bool) bool {
	if s.labelled {
		for _, other := range s.constraints {
			if _, ok := n.Node.Labels[other.key]; !ok {
				return false
			}
		}
	}
	if constrained && c.honorAffinity {
		if match, err := required.Match(n.Node); err != nil || !match {
			return false
		}
	}
	return !c.honorTaints || untolerated(pod, n.Node) == nil
}

func (c *spread) groups(pod *corev1.Pod, snapshot *framework.Snapshot) []*framework.Group {
	var matching []*framework.Group
	for g := range snapshot.GroupsIn(pod.Namespace) {
		if like := g.Like.Pod; like.DeletionTimestamp == nil && c.selector.Matches(labels.Set(like.Labels)) {
			matching = append(matching, g)
		}
	}
	return matching
}

// lowest is the count of the emptiest domain, 0 when there are too few domains.
func (c *spread) lowest() int {
	if len(c.domains) < c.minDomains {
		return 0
	}
	if c.stale {
		c.least, c.stale = math.MaxInt, false
		for v := range c.domains {
			if c.least = min(c.least, c.pods.At(v)); c.least == 0 {
				break
			}
		}
	}
	return c.least
}

// Filter refuses a node whose domain would have too many more Pods than the
// emptiest.
func (*PodTopologySpread) Filter(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	all, ok := framework.ReadState[*spreads](state, spreadFilter)
	if !ok {
		return nil
	}
	for _, c := range all.constraints {
		v, ok := node.Node.Labels[c.key]
		if !ok {
			return refusedSpreadLabel
		}
		if len(c.domains) == 0 { // no node counts: nothing to compare with
			continue
		}
		if c.pods.At(v)+c.self-c.lowest() > c.maxSkew {
			return refusedSpread
		}
	}
	return nil
}

// AddPod counts a Pod that preemption tries on the node.
func (*PodTopologySpread) AddPod(state *framework.CycleState, pod, added *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	changeSpread(state, pod, added, node, 1)
	return nil
}

// RemovePod leaves out a Pod that preemption tries to remove.
func (*PodTopologySpread) RemovePod(state *framework.CycleState, pod, removed *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	changeSpread(state, pod, removed, node, -1)
	return nil
}

func changeSpread(state *framework.CycleState, pod, other *framework.PodInfo, node *framework.NodeInfo, n int) {
	all, ok := framework.ReadState[*spreads](state, spreadFilter)
	if !ok || other.Pod.Namespace != pod.Pod.Namespace || other.Pod.DeletionTimestamp != nil {
		return
	}
	for _, c := range all.constraints {
		v, ok := node.Node.Labels[c.key]
		if _, counted := c.domains[v]; ok && counted && c.selector.Matches(labels.Set(other.Pod.Labels)) {
			c.pods.Add(v, n)
			c.stale = true
		}
	}
}

// PreScore counts the Pods of soft constraints by domain.
func (p *PodTopologySpread) PreScore(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) *framework.Status {
	all := &spreads{labelled: true, ignored: sets.New[string]()}
	var err error
	if len(pod.Pod.Spec.TopologySpreadConstraints) > 0 {
		all.constraints, err = compileSpreads(pod.Pod, pod.Pod.Spec.TopologySpreadConstraints, corev1.ScheduleAnyway)
	} else if p.workloads != nil {
		all.labelled = false
		if selector := p.workloads.SelectorOf(pod.Pod); !selector.Empty() && !isNothing(selector) {
			all.constraints, err = compileSpreads(pod.Pod, systemDefaults, corev1.ScheduleAnyway)
			for _, c := range all.constraints {
				c.selector = selector
			}
		}
	}
	if err != nil {
		return framework.AsStatus(err)
	}
	if len(all.constraints) == 0 || state.Snapshot == nil {
		return framework.NewStatus(framework.Skip)
	}
	all.count(pod.Pod, state.Snapshot)
	for _, c := range all.constraints {
		seen := map[string]struct{}{}
		for _, n := range nodes {
			if v, ok := n.Node.Labels[c.key]; ok {
				seen[v] = struct{}{}
			} else if all.labelled {
				all.ignored.Insert(n.Node.Name)
			}
		}
		// More domains make each matter more, or a large one would drown the others.
		c.weight = math.Log(float64(len(seen) + 2))
	}
	state.Write(spreadScore, all)
	return nil
}

func isNothing(s labels.Selector) bool {
	_, selectable := s.Requirements()
	return !selectable
}

// Score is the weighted number of Pods in the node's domains: fewer is better.
func (*PodTopologySpread) Score(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	all, ok := framework.ReadState[*spreads](state, spreadScore)
	if !ok || all.ignored.Has(node.Node.Name) {
		return 0, nil
	}
	var score float64
	for _, c := range all.constraints {
		if v, ok := node.Node.Labels[c.key]; ok {
			score += float64(c.pods.At(v))*c.weight + float64(c.maxSkew-1)
		}
	}
	return int64(math.Round(score)), nil
}

// Normalize turns the scores around; nodes without the labels get none.
func (*PodTopologySpread) Normalize(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, scores []framework.NodeScore) *framework.Status {
	all, ok := framework.ReadState[*spreads](state, spreadScore)
	if !ok {
		return nil
	}
	lowest, highest := int64(math.MaxInt64), int64(0)
	for _, s := range scores {
		if !all.ignored.Has(s.Node) {
			lowest, highest = min(lowest, s.Score), max(highest, s.Score)
		}
	}
	for i := range scores {
		s := &scores[i]
		switch {
		case all.ignored.Has(s.Node):
			s.Score = framework.MinNodeScore
		case highest == 0:
			s.Score = framework.MaxNodeScore
		default:
			s.Score = framework.MaxNodeScore * (highest + lowest - s.Score) / highest
		}
	}
	return nil
}

// Wakes when a sibling comes, goes or is relabelled, or nodes change.
func (*PodTopologySpread) Wakes() []framework.Wake {
	return []framework.Wake{
		{
			Event: framework.ClusterEvent{Kind: framework.AssignedPod, Action: framework.Add | framework.Delete | framework.UpdateLabel},
			Helps: func(pod *corev1.Pod, old, new any) bool { return countedBy(pod, old) || countedBy(pod, new) },
		},
		{Event: framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.Add | framework.Delete | framework.UpdateLabel | framework.UpdateTaint}},
		{Event: framework.ClusterEvent{Kind: framework.WaitingPod, Action: framework.Update}},
	}
}

// countedBy reports whether one of the Pod's hard constraints counts the other.
func countedBy(pod *corev1.Pod, other any) bool {
	o, ok := other.(*corev1.Pod)
	if !ok || o == nil || o.Namespace != pod.Namespace {
		return false
	}
	hard, err := compileSpreads(pod, pod.Spec.TopologySpreadConstraints, corev1.DoNotSchedule)
	return err != nil || slices.ContainsFunc(hard, func(c *spread) bool { return c.selector.Matches(labels.Set(o.Labels)) })
}

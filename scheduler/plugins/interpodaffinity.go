package plugins

import (
	"context"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

const (
	podAffinityFilter = "InterPodAffinity/filter"
	podAffinityScore  = "InterPodAffinity/score"

	// hardPodAffinityWeight is what a required affinity term of a running Pod
	// adds when it matches the new one: affinity is wanted both ways.
	hardPodAffinityWeight = 1

	reasonAffinity     = "node(s) didn't match pod affinity rules"
	reasonAntiAffinity = "node(s) didn't match pod anti-affinity rules"
	reasonExistingAnti = "node(s) didn't satisfy existing pods anti-affinity rules"
)

// Refusals are made once: most nodes of a large cluster may get one in every
// attempt. They carry the plugin's name, so that nobody copies them.
var (
	refusedAffinity     = framework.NewStatus(framework.Unresolvable, reasonAffinity).By("InterPodAffinity")
	refusedAntiAffinity = framework.NewStatus(framework.Unschedulable, reasonAntiAffinity).By("InterPodAffinity")
	refusedExistingAnti = framework.NewStatus(framework.Unschedulable, reasonExistingAnti).By("InterPodAffinity")
)

// InterPodAffinity honours spec.affinity.podAffinity and podAntiAffinity, of
// the Pod and of those that run.
type InterPodAffinity struct {
	namespace framework.NamespaceLabels
}

// NewInterPodAffinity makes the plugin; namespace serves namespace selectors,
// nil when no namespace is known.
func NewInterPodAffinity(namespace framework.NamespaceLabels) *InterPodAffinity {
	if namespace == nil {
		namespace = noNamespaceLabels
	}
	return &InterPodAffinity{namespace: namespace}
}

// Name is InterPodAffinity.
func (*InterPodAffinity) Name() string { return "InterPodAffinity" }

// affinityCounts are the Pods that matter, by domain.
type affinityCounts struct {
	// wanted and unwanted are in the order of the Pod's terms.
	wanted, unwanted []*framework.DomainCount
	// refusing are Pods whose anti-affinity is against the Pod, by topology key.
	refusing map[string]*framework.DomainCount
}

// Clone copies the counts.
func (a *affinityCounts) Clone() framework.StateData {
	dup := &affinityCounts{refusing: make(map[string]*framework.DomainCount, len(a.refusing))}
	for _, c := range a.wanted {
		dup.wanted = append(dup.wanted, c.Clone())
	}
	for _, c := range a.unwanted {
		dup.unwanted = append(dup.unwanted, c.Clone())
	}
	for k, c := range a.refusing {
		dup.refusing[k] = c.Clone()
	}
	return dup
}

// PreFilter finds the Pods that terms are about, by domain.
func (p *InterPodAffinity) PreFilter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, snapshot *framework.Snapshot) (sets.Set[string], *framework.Status) {
	if pod.Terms.Err != nil {
		return nil, framework.NewStatus(framework.Unresolvable, pod.Terms.Err.Error())
	}
	counts := &affinityCounts{refusing: map[string]*framework.DomainCount{}}
	for g := range snapshot.AffinityGroups() {
		for i := range g.Like.Terms.RequiredAnti {
			term := &g.Like.Terms.RequiredAnti[i]
			if term.Matches(pod.Pod, p.namespace) {
				counts.refusedBy(term.TopologyKey).Include(snapshot.Domains(g, term.TopologyKey))
			}
		}
	}
	if len(counts.refusing) == 0 && len(pod.Terms.Required) == 0 && len(pod.Terms.RequiredAnti) == 0 {
		return nil, framework.NewStatus(framework.Skip)
	}
	for range pod.Terms.Required {
		counts.wanted = append(counts.wanted, &framework.DomainCount{})
	}
	for range pod.Terms.RequiredAnti {
		counts.unwanted = append(counts.unwanted, &framework.DomainCount{})
	}
	if len(pod.Terms.Required)+len(pod.Terms.RequiredAnti) > 0 {
		for g := range snapshot.Groups() {
			p.include(counts, pod, g, snapshot)
		}
	}
	counts.settle()
	state.Write(podAffinityFilter, counts)
	return nil, nil
}

func (p *InterPodAffinity) include(counts *affinityCounts, pod *framework.PodInfo, g *framework.Group, snapshot *framework.Snapshot) {
	if p.matchesAll(pod, g.Like.Pod) {
		for i, c := range counts.wanted {
			c.Include(snapshot.Domains(g, pod.Terms.Required[i].TopologyKey))
		}
	}
	for i, c := range counts.unwanted {
		if term := &pod.Terms.RequiredAnti[i]; term.Matches(g.Like.Pod, p.namespace) {
			c.Include(snapshot.Domains(g, term.TopologyKey))
		}
	}
}

// matchesAll reports whether other matches every required affinity term: only
// such Pods satisfy them, each term in its own domain.
func (p *InterPodAffinity) matchesAll(pod *framework.PodInfo, other *corev1.Pod) bool {
	for i := range pod.Terms.Required {
		if !pod.Terms.Required[i].Matches(other, p.namespace) {
			return false
		}
	}
	return len(pod.Terms.Required) > 0
}

func (a *affinityCounts) refusedBy(key string) *framework.DomainCount {
	if a.refusing[key] == nil {
		a.refusing[key] = &framework.DomainCount{}
	}
	return a.refusing[key]
}

func (a *affinityCounts) settle() {
	for _, c := range a.wanted {
		c.Settle()
	}
	for _, c := range a.unwanted {
		c.Settle()
	}
	for _, c := range a.refusing {
		c.Settle()
	}
}

// Filter refuses nodes in domains that terms exclude.
func (p *InterPodAffinity) Filter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	counts, ok := framework.ReadState[*affinityCounts](state, podAffinityFilter)
	if !ok {
		return nil
	}
	if !p.wanted(counts, pod, node.Node) {
		return refusedAffinity
	}
	for i, c := range counts.unwanted {
		if v, ok := node.Node.Labels[pod.Terms.RequiredAnti[i].TopologyKey]; ok && c.At(v) > 0 {
			return refusedAntiAffinity
		}
	}
	for key, c := range counts.refusing {
		if v, ok := node.Node.Labels[key]; ok && c.At(v) > 0 {
			return refusedExistingAnti
		}
	}
	return nil
}

func (p *InterPodAffinity) wanted(counts *affinityCounts, pod *framework.PodInfo, node *corev1.Node) bool {
	all := true
	for i, c := range counts.wanted {
		v, ok := node.Labels[pod.Terms.Required[i].TopologyKey]
		if !ok {
			return false
		}
		all = all && c.At(v) > 0
	}
	if all {
		return true
	}
	// The first of a set of Pods that want each other may go anywhere.
	return p.matchesAll(pod, pod.Pod) &&
		!slices.ContainsFunc(counts.wanted, func(c *framework.DomainCount) bool { return !c.Empty() })
}

// AddPod counts a Pod that preemption tries on the node.
func (p *InterPodAffinity) AddPod(state *framework.CycleState, pod, added *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	p.change(state, pod, added, node.Node, 1)
	return nil
}

// RemovePod leaves out a Pod that preemption tries to remove.
func (p *InterPodAffinity) RemovePod(state *framework.CycleState, pod, removed *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	p.change(state, pod, removed, node.Node, -1)
	return nil
}

func (p *InterPodAffinity) change(state *framework.CycleState, pod, other *framework.PodInfo, node *corev1.Node, n int) {
	counts, ok := framework.ReadState[*affinityCounts](state, podAffinityFilter)
	if !ok {
		return
	}
	for i := range other.Terms.RequiredAnti {
		term := &other.Terms.RequiredAnti[i]
		if v, ok := node.Labels[term.TopologyKey]; ok && term.Matches(pod.Pod, p.namespace) {
			counts.refusedBy(term.TopologyKey).Add(v, n)
		}
	}
	if p.matchesAll(pod, other.Pod) {
		for i, c := range counts.wanted {
			if v, ok := node.Labels[pod.Terms.Required[i].TopologyKey]; ok {
				c.Add(v, n)
			}
		}
	}
	for i, c := range counts.unwanted {
		term := &pod.Terms.RequiredAnti[i]
		if v, ok := node.Labels[term.TopologyKey]; ok && term.Matches(other.Pod, p.namespace) {
			c.Add(v, n)
		}
	}
}

// preference is a weight for every Pod in a domain.
type preference struct {
	key    string
	weight int64
	pods   map[string]int
}

type preferences []preference

// Clone returns the same: it is never changed.
func (p preferences) Clone() framework.StateData { return p }

// PreScore collects the preferred terms of both sides.
func (p *InterPodAffinity) PreScore(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) *framework.Status {
	snapshot := state.Snapshot
	if snapshot == nil {
		return framework.NewStatus(framework.Skip)
	}
	var all preferences
	collect := func(term *framework.AffinityTerm, about *corev1.Pod, g *framework.Group, weight int64) {
		if term.Matches(about, p.namespace) {
			all = append(all, preference{key: term.TopologyKey, weight: weight, pods: snapshot.Domains(g, term.TopologyKey)})
		}
	}
	if len(pod.Terms.Preferred) > 0 {
		for g := range snapshot.Groups() {
			for i := range pod.Terms.Preferred {
				collect(&pod.Terms.Preferred[i], g.Like.Pod, g, pod.Terms.Preferred[i].Weight)
			}
		}
	}
	for g := range snapshot.AffinityGroups() {
		for i := range g.Like.Terms.Preferred {
			collect(&g.Like.Terms.Preferred[i], pod.Pod, g, g.Like.Terms.Preferred[i].Weight)
		}
		for i := range g.Like.Terms.Required {
			collect(&g.Like.Terms.Required[i], pod.Pod, g, hardPodAffinityWeight)
		}
	}
	if len(all) == 0 {
		return framework.NewStatus(framework.Skip)
	}
	state.Write(podAffinityScore, all)
	return nil
}

// Score adds up the preferences for the node's domains; it may be negative.
func (*InterPodAffinity) Score(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	all, ok := framework.ReadState[preferences](state, podAffinityScore)
	if !ok {
		return 0, nil
	}
	var score int64
	for i := range all {
		if v, ok := node.Node.Labels[all[i].key]; ok {
			score += all[i].weight * int64(all[i].pods[v])
		}
	}
	return score, nil
}

// Normalize stretches the scores over the whole range.
func (*InterPodAffinity) Normalize(_ context.Context, _ *framework.CycleState, _ *framework.PodInfo, scores []framework.NodeScore) *framework.Status {
	lowest, highest := int64(math.MaxInt64), int64(math.MinInt64)
	for _, s := range scores {
		lowest, highest = min(lowest, s.Score), max(highest, s.Score)
	}
	for i := range scores {
		if highest == lowest {
			scores[i].Score = 0
			continue
		}
		scores[i].Score = int64(float64(framework.MaxNodeScore) * (float64(scores[i].Score-lowest) / float64(highest-lowest)))
	}
	return nil
}

// Wakes when Pods that terms are about come or go, or nodes change.
func (p *InterPodAffinity) Wakes() []framework.Wake {
	return []framework.Wake{
		{
			Event: framework.ClusterEvent{Kind: framework.AssignedPod, Action: framework.Add | framework.Delete | framework.UpdateLabel},
			Helps: func(pod *corev1.Pod, old, new any) bool { return p.concerns(pod, old) || p.concerns(pod, new) },
		},
		{Event: framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.Add | framework.UpdateLabel}},
		{Event: framework.ClusterEvent{Kind: framework.WaitingPod, Action: framework.Update}},
	}
}

// concerns reports whether a required term of either Pod is about the other.
func (p *InterPodAffinity) concerns(pod *corev1.Pod, other any) bool {
	o, ok := other.(*corev1.Pod)
	if !ok || o == nil {
		return false
	}
	mine, theirs := framework.NewPodInfo(pod).Terms, framework.NewPodInfo(o).Terms
	about := func(terms []framework.AffinityTerm, pod *corev1.Pod) bool {
		return slices.ContainsFunc(terms, func(t framework.AffinityTerm) bool { return t.Matches(pod, p.namespace) })
	}
	return about(mine.Required, o) || about(mine.RequiredAnti, o) || about(theirs.RequiredAnti, pod)
}

package framework

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
)

// Weighted is a plugin with the weight of its scores; 0 counts as 1.
type Weighted struct {
	Plugin
	Weight int64
}

// Runner calls plugins phase by phase. It is immutable after NewRunner and
// safe for concurrent use as far as the plugins are.
type Runner struct {
	preEnqueue []PreEnqueuePlugin
	preFilter  []PreFilterPlugin
	filter     []FilterPlugin
	extensions []PreFilterExtensions
	postFilter []PostFilterPlugin
	preScore   []PreScorePlugin
	score      []ScorePlugin
	weight     []int64
	reserve    []ReservePlugin
	permit     []PermitPlugin
	preBind    []PreBindPlugin
	wakes      map[string][]Wake
	observe    func(phase string, code Code, took time.Duration)
}

// Observed returns a copy that tells observe how long each phase took, by
// upstream's extension point names; Filter is left to the caller, who runs it
// once per node.
func (r *Runner) Observed(observe func(phase string, code Code, took time.Duration)) *Runner {
	dup := *r
	dup.observe = observe
	return &dup
}

// timed starts the clock for a phase; the result is called when it ends.
func (r *Runner) timed(phase string) func(*Status) {
	if r.observe == nil {
		return func(*Status) {}
	}
	started := time.Now()
	return func(s *Status) { r.observe(phase, s.Code(), time.Since(started)) }
}

// NewRunner sorts plugins, in order, into their phases.
func NewRunner(plugins []Weighted) *Runner {
	r := &Runner{wakes: map[string][]Wake{}}
	for _, p := range plugins {
		r.preEnqueue = appendIf(r.preEnqueue, p.Plugin)
		r.preFilter = appendIf(r.preFilter, p.Plugin)
		r.filter = appendIf(r.filter, p.Plugin)
		r.extensions = appendIf(r.extensions, p.Plugin)
		r.postFilter = appendIf(r.postFilter, p.Plugin)
		r.preScore = appendIf(r.preScore, p.Plugin)
		r.reserve = appendIf(r.reserve, p.Plugin)
		r.permit = appendIf(r.permit, p.Plugin)
		r.preBind = appendIf(r.preBind, p.Plugin)
		if s, ok := p.Plugin.(ScorePlugin); ok {
			r.score = append(r.score, s)
			r.weight = append(r.weight, max(p.Weight, 1))
		}
		if w, ok := p.Plugin.(WakePlugin); ok {
			r.wakes[p.Name()] = w.Wakes()
		}
	}
	return r
}

func appendIf[T any](list []T, p Plugin) []T {
	if t, ok := p.(T); ok {
		return append(list, t)
	}
	return list
}

// Wakes returns what may wake a Pod that the named plugin refused: every event
// when the plugin does not say, or is unknown.
func (r *Runner) Wakes(plugin string) []Wake {
	if wakes, ok := r.wakes[plugin]; ok {
		return wakes
	}
	return anyEvent
}

var anyEvent = []Wake{{Event: ClusterEvent{Kind: AnyKind, Action: Any}}}

// PreEnqueue returns the first refusal.
func (r *Runner) PreEnqueue(pod *corev1.Pod) *Status {
	for _, p := range r.preEnqueue {
		if s := p.PreEnqueue(pod); !s.IsSuccess() {
			return s.By(p.Name())
		}
	}
	return nil
}

// PreFilter runs all; the nodes are the intersection of what plugins named,
// nil for all. by names the plugins that narrowed it, for messages.
func (r *Runner) PreFilter(ctx context.Context, state *CycleState, pod *PodInfo, snapshot *Snapshot) (nodes sets.Set[string], by []string, s *Status) {
	ended := r.timed("PreFilter")
	defer func() { ended(s) }()
	state.Snapshot, state.SkipFilter = snapshot, sets.New[string]()
	for _, p := range r.preFilter {
		some, s := p.PreFilter(ctx, state, pod, snapshot)
		switch {
		case s.IsSkip():
			state.SkipFilter.Insert(p.Name())
			continue
		case !s.IsSuccess():
			return nil, nil, s.By(p.Name())
		case some == nil:
			continue
		}
		by = append(by, p.Name())
		if nodes == nil {
			nodes = some
		} else {
			nodes = nodes.Intersection(some)
		}
		if nodes.Len() == 0 {
			text := fmt.Sprintf("node(s) didn't satisfy plugin(s) %v simultaneously", by)
			if len(by) == 1 {
				text = fmt.Sprintf("node(s) didn't satisfy plugin %v", by[0])
			}
			return nil, by, NewStatus(Unresolvable, text).By(p.Name())
		}
	}
	state.filters = make([]FilterPlugin, 0, len(r.filter))
	for _, p := range r.filter {
		if !state.SkipFilter.Has(p.Name()) {
			state.filters = append(state.filters, p)
		}
	}
	return nodes, by, nil
}

// Filter returns the first refusal of a node; PreFilter must have been called
// with the state, or all plugins are asked.
func (r *Runner) Filter(ctx context.Context, state *CycleState, pod *PodInfo, node *NodeInfo) *Status {
	filters := state.filters
	if filters == nil {
		filters = r.filter
	}
	for _, p := range filters {
		if s := p.Filter(ctx, state, pod, node); !s.IsSuccess() {
			if !s.IsRejected() {
				s = AsStatus(fmt.Errorf("run %s on node %s: %s", p.Name(), node.Name(), s.Message()))
			}
			return s.By(p.Name())
		}
	}
	return nil
}

// AddPod tells the plugins' state that added is on node.
func (r *Runner) AddPod(state *CycleState, pod, added *PodInfo, node *NodeInfo) *Status {
	for _, p := range r.extensions {
		if state.SkipFilter.Has(p.Name()) {
			continue
		}
		if s := p.AddPod(state, pod, added, node); !s.IsSuccess() {
			return s.By(p.Name())
		}
	}
	return nil
}

// RemovePod tells the plugins' state that removed left node.
func (r *Runner) RemovePod(state *CycleState, pod, removed *PodInfo, node *NodeInfo) *Status {
	for _, p := range r.extensions {
		if state.SkipFilter.Has(p.Name()) {
			continue
		}
		if s := p.RemovePod(state, pod, removed, node); !s.IsSuccess() {
			return s.By(p.Name())
		}
	}
	return nil
}

// PostFilter asks in order until one nominates a node or fails.
func (r *Runner) PostFilter(ctx context.Context, state *CycleState, pod *PodInfo, snapshot *Snapshot, refused map[string]*Status) (string, *Status) {
	var last *Status
	ended := r.timed("PostFilter")
	defer func() { ended(last) }()
	for _, p := range r.postFilter {
		nominated, s := p.PostFilter(ctx, state, pod, snapshot, refused)
		last = s.By(p.Name())
		if s.IsSuccess() || !s.IsRejected() {
			return nominated, last
		}
	}
	return "", last
}

// Score returns the weighted sum of all plugins for each node, in order.
func (r *Runner) Score(ctx context.Context, state *CycleState, pod *PodInfo, nodes []*NodeInfo) (total []NodeScore, s *Status) {
	ended := r.timed("Score")
	defer func() { ended(s) }()
	state.SkipScore = sets.New[string]()
	for _, p := range r.preScore {
		s := p.PreScore(ctx, state, pod, nodes)
		if s.IsSkip() {
			state.SkipScore.Insert(p.Name())
		} else if !s.IsSuccess() {
			return nil, s.By(p.Name())
		}
	}
	total = make([]NodeScore, len(nodes))
	for i, n := range nodes {
		total[i].Node = n.Name()
	}
	scores := make([]NodeScore, len(nodes))
	for k, p := range r.score {
		if state.SkipScore.Has(p.Name()) {
			continue
		}
		for i, n := range nodes {
			score, s := p.Score(ctx, state, pod, n)
			if !s.IsSuccess() {
				return nil, s.By(p.Name())
			}
			scores[i] = NodeScore{Node: n.Name(), Score: score}
		}
		if normal, ok := p.(NormalizePlugin); ok {
			if s := normal.Normalize(ctx, state, pod, scores); !s.IsSuccess() {
				return nil, s.By(p.Name())
			}
		}
		for i := range scores {
			if scores[i].Score < MinNodeScore || scores[i].Score > MaxNodeScore {
				return nil, AsStatus(fmt.Errorf("%s scored node %s with %d, outside %d to %d", p.Name(), scores[i].Node, scores[i].Score, MinNodeScore, MaxNodeScore))
			}
			total[i].Score += scores[i].Score * r.weight[k]
		}
	}
	return total, nil
}

// Reserve runs all, and undoes all when one fails.
func (r *Runner) Reserve(ctx context.Context, state *CycleState, pod *corev1.Pod, node string) (s *Status) {
	ended := r.timed("Reserve")
	defer func() { ended(s) }()
	for _, p := range r.reserve {
		if s := p.Reserve(ctx, state, pod, node); !s.IsSuccess() {
			r.Unreserve(ctx, state, pod, node)
			return s.By(p.Name())
		}
	}
	return nil
}

// Unreserve undoes Reserve in reverse order.
func (r *Runner) Unreserve(ctx context.Context, state *CycleState, pod *corev1.Pod, node string) {
	for i := len(r.reserve) - 1; i >= 0; i-- {
		r.reserve[i].Unreserve(ctx, state, pod, node)
	}
}

// Permit returns the first refusal.
func (r *Runner) Permit(ctx context.Context, state *CycleState, pod *corev1.Pod, node string) (s *Status) {
	ended := r.timed("Permit")
	defer func() { ended(s) }()
	for _, p := range r.permit {
		if s := p.Permit(ctx, state, pod, node); !s.IsSuccess() {
			return s.By(p.Name())
		}
	}
	return nil
}

// PreBind runs all, in order, until one fails.
func (r *Runner) PreBind(ctx context.Context, state *CycleState, pod *corev1.Pod, node string) (s *Status) {
	ended := r.timed("PreBind")
	defer func() { ended(s) }()
	for _, p := range r.preBind {
		if s := p.PreBind(ctx, state, pod, node); !s.IsSuccess() {
			return s.By(p.Name())
		}
	}
	return nil
}

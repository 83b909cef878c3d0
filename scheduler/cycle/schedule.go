package cycle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

// How many feasible nodes are enough to choose from (upstream's
// percentageOfNodesToScore): all of up to 100, then 50 % less 1 % per 125
// nodes, but not below 5 %.
const (
	minFeasible       = 100
	startPercentage   = 50
	nodesPerPercent   = 125
	minimalPercentage = 5
)

func (s *Scheduler) enough(nodes int) int {
	if nodes < minFeasible || s.PercentageOfNodes >= 100 {
		return nodes
	}
	percentage := s.PercentageOfNodes
	if percentage == 0 {
		percentage = max(startPercentage-nodes/nodesPerPercent, minimalPercentage)
	}
	return max(nodes*percentage/100, minFeasible)
}

// schedule returns the node to bind to, or a *FitError.
func (s *Scheduler) schedule(ctx context.Context, runner *framework.Runner, state *framework.CycleState, pod *framework.PodInfo) (string, error) {
	if len(s.snapshot.Nodes) == 0 {
		return "", &FitError{}
	}
	feasible, err := s.feasible(ctx, runner, state, pod)
	if err != nil {
		return "", err
	}
	if len(feasible) == 1 {
		return feasible[0].Name(), nil
	}
	scores, status := runner.Score(ctx, state, pod, feasible)
	if !status.IsSuccess() {
		return "", fmt.Errorf("score: %s: %s", status.Plugin(), status.Message())
	}
	return best(scores), nil
}

// feasible looks for nodes that pass all filters, from where the last search
// ended, until there are enough. None is a *FitError.
func (s *Scheduler) feasible(ctx context.Context, runner *framework.Runner, state *framework.CycleState, pod *framework.PodInfo) ([]*framework.NodeInfo, error) {
	all := s.snapshot.Nodes
	unfit := &FitError{All: len(all), Nodes: map[string]*framework.Status{}}
	only, by, status := runner.PreFilter(ctx, state, pod, &s.snapshot)
	if !status.IsSuccess() {
		if !status.IsRejected() {
			return nil, fmt.Errorf("%s: %s", status.Plugin(), status.Message())
		}
		unfit.Before = status
		return nil, unfit
	}
	unfit.excludedBy = by
	if node := s.snapshot.ByName[s.Queue.Nominated(pod.Pod.UID)]; node != nil && (only == nil || only.Has(node.Name())) {
		// Room was made for it there.
		if s.filter(ctx, runner, state, pod, node).IsSuccess() {
			return []*framework.NodeInfo{node}, nil
		}
	}
	want := s.enough(len(all))
	found := make([]*framework.NodeInfo, 0, min(want, 128))
	var refused []refusal
	seen := 0
	for ; seen < len(all) && len(found) < want; seen++ {
		node := all[(s.next+seen)%len(all)]
		if only != nil && !only.Has(node.Name()) {
			unfit.excluded++
			continue
		}
		status := s.filter(ctx, runner, state, pod, node)
		switch {
		case status.IsSuccess():
			found = append(found, node)
		case status.IsRejected():
			refused = append(refused, refusal{node.Name(), status})
		default:
			return nil, errors.Join(status.Err(), ctx.Err())
		}
	}
	s.next = (s.next + seen) % len(all)
	if len(found) == 0 {
		for _, r := range refused {
			unfit.Nodes[r.node] = r.status
		}
		return nil, unfit
	}
	return found, nil
}

type refusal struct {
	node   string
	status *framework.Status
}

// best picks one of the nodes with the highest score at random, so that equal
// nodes share.
func best(scores []framework.NodeScore) string {
	top := scores[0]
	ties := 1
	for _, s := range scores[1:] {
		switch {
		case s.Score > top.Score:
			top, ties = s, 1
		case s.Score == top.Score:
			ties++
			if rand.IntN(ties) == 0 {
				top = s
			}
		}
	}
	return top.Node
}

// FitError says that no node fits, and why each was refused. Its text is what
// upstream's scheduler writes into the Pod's condition.
type FitError struct {
	// All is the number of nodes.
	All int
	// Before is the refusal of a plugin that did not look at single nodes.
	Before *framework.Status
	// Nodes holds the refusal of each node.
	Nodes map[string]*framework.Status
	// After is what preemption said; may be "".
	After string

	excluded   int // nodes that the PreFilter of excludedBy left out
	excludedBy []string
}

// Error counts the nodes per reason.
func (e *FitError) Error() string {
	if e.All == 0 {
		return "no nodes available to schedule pods"
	}
	text := fmt.Sprintf("0/%d nodes are available:", e.All)
	if e.Before != nil {
		text += " " + e.Before.Message() + "."
	} else {
		counts := map[string]int{}
		for _, s := range e.Nodes {
			for _, reason := range s.Reasons() {
				counts[reason]++
			}
		}
		if e.excluded > 0 {
			counts[fmt.Sprintf("node(s) didn't satisfy plugin(s) %v", e.excludedBy)] += e.excluded
		}
		var reasons []string
		for reason, n := range counts {
			reasons = append(reasons, fmt.Sprintf("%d %s", n, reason))
		}
		slices.Sort(reasons)
		if len(reasons) > 0 {
			text += " " + strings.Join(reasons, ", ") + "."
		}
	}
	if e.After != "" {
		text += " " + e.After
	}
	return text
}

// plugins names who refused: they know what may lift it.
func (e *FitError) plugins() sets.Set[string] {
	by := sets.New(e.excludedBy...)
	if e.All == 0 {
		by.Insert(noNodes)
	}
	if e.Before != nil {
		by.Insert(e.Before.Plugin())
	}
	for s := range maps.Values(e.Nodes) {
		by.Insert(s.Plugin())
	}
	return by
}

// noNodes stands for the empty cluster where plugins are named as refusing. No
// plugin has this name, so every event wakes the Pod.
const noNodes = "no nodes"

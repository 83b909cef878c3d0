package cycle

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/scheduler/framework"
	"github.com/skeg-dev/skeg/scheduler/queue"
)

// How many candidates are enough to choose from (upstream's
// minCandidateNodesPercentage and minCandidateNodesAbsolute).
const (
	candidatePercentage = 10
	minCandidates       = 100
)

// candidate is a node with those that would have to go.
type candidate struct {
	node       string
	victims    []*framework.PodInfo // most important first
	violations int                  // disruption budgets that would be broken
}

// verdict is the outcome of looking for room.
type verdict struct {
	// chosen is nil when nothing helps.
	chosen *candidate
	// keep says that an earlier nomination still holds.
	keep    bool
	message string
}

// preempt looks for Pods of lower priority whose removal would make room. It
// changes nothing.
func (s *Scheduler) preempt(ctx context.Context, runner *framework.Runner, state *framework.CycleState, p *queue.Pod, unfit *FitError) (verdict, error) {
	if reason := s.ineligible(p, unfit); reason != "" {
		return verdict{keep: true, message: "preemption: " + reason}, nil
	}
	why := &FitError{All: unfit.All, Nodes: map[string]*framework.Status{}}
	var found []candidate
	want := max(unfit.All*candidatePercentage/100, minCandidates)
	nodes := s.snapshot.Nodes
	for i := 0; i < len(nodes) && len(found) < want; i++ {
		node := nodes[(s.next+i)%len(nodes)]
		if status := unfit.Nodes[node.Name()]; unfit.Before != nil || status.Code() != framework.Unschedulable {
			why.Nodes[node.Name()] = framework.NewStatus(framework.Unresolvable, "Preemption is not helpful for scheduling")
			continue
		}
		c, status, err := s.tryNode(ctx, runner, state, p.PodInfo, node)
		switch {
		case err != nil:
			return verdict{}, err
		case status != nil:
			why.Nodes[node.Name()] = status
		default:
			found = append(found, c)
		}
	}
	if len(found) == 0 {
		return verdict{message: "preemption: " + why.Error()}, nil
	}
	chosen := slices.MinFunc(found, cheaper)
	return verdict{chosen: &chosen}, nil
}

// ineligible says why the Pod may not preempt, "" when it may.
func (s *Scheduler) ineligible(p *queue.Pod, unfit *FitError) string {
	if policy := p.Pod.Spec.PreemptionPolicy; policy != nil && *policy == corev1.PreemptNever {
		return "not eligible due to preemptionPolicy=Never."
	}
	name := s.Queue.Nominated(p.Pod.UID)
	node := s.snapshot.ByName[name]
	if node == nil || unfit.Nodes[name].Code() == framework.Unresolvable {
		return ""
	}
	for _, other := range node.Pods {
		if other.Pod.DeletionTimestamp != nil && priority(other.Pod) < priority(p.Pod) {
			return "not eligible due to a terminating pod on the nominated node."
		}
	}
	return ""
}

// tryNode returns the fewest victims on a copy of node, or a status that says
// why none would help.
func (s *Scheduler) tryNode(ctx context.Context, runner *framework.Runner, state *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) (candidate, *framework.Status, error) {
	none := candidate{}
	trial, there := state.Clone(), node.Clone()
	var lower []*framework.PodInfo
	for _, other := range node.Pods {
		if priority(other.Pod) < priority(pod.Pod) {
			lower = append(lower, other)
		}
	}
	if len(lower) == 0 {
		return none, framework.NewStatus(framework.Unresolvable, "No preemption victims found for incoming pod"), nil
	}
	for _, victim := range lower {
		there.RemovePod(victim.Pod.UID)
		if status := runner.RemovePod(trial, pod, victim, there); !status.IsSuccess() {
			return none, nil, fmt.Errorf("try without pod %s: %s", victim.Pod.Name, status.Message())
		}
	}
	if status := s.filter(ctx, runner, trial, pod, there); !status.IsSuccess() {
		if !status.IsRejected() {
			return none, nil, status.Err()
		}
		return none, status, nil
	}
	slices.SortStableFunc(lower, byImportance)
	violating, fine, err := s.splitByBudget(lower)
	if err != nil {
		return none, nil, err
	}
	c := candidate{node: node.Name()}
	reprieve := func(other *framework.PodInfo) (bool, error) {
		there.AddPod(other)
		if status := runner.AddPod(trial, pod, other, there); !status.IsSuccess() {
			return false, fmt.Errorf("try with pod %s: %s", other.Pod.Name, status.Message())
		}
		if s.filter(ctx, runner, trial, pod, there).IsSuccess() {
			return true, nil
		}
		there.RemovePod(other.Pod.UID)
		if status := runner.RemovePod(trial, pod, other, there); !status.IsSuccess() {
			return false, fmt.Errorf("try without pod %s: %s", other.Pod.Name, status.Message())
		}
		c.victims = append(c.victims, other)
		return false, nil
	}
	for i, other := range append(violating, fine...) {
		stays, err := reprieve(other)
		if err != nil {
			return none, nil, err
		}
		if !stays && i < len(violating) {
			c.violations++
		}
	}
	slices.SortStableFunc(c.victims, byImportance)
	return c, nil, nil
}

// splitByBudget separates those whose removal would break a disruption budget.
func (s *Scheduler) splitByBudget(pods []*framework.PodInfo) (violating, fine []*framework.PodInfo, err error) {
	left := map[types.UID]int32{}
	for _, p := range pods {
		var budgets []*policyv1.PodDisruptionBudget
		if s.Budgets != nil {
			if budgets, err = s.Budgets(p.Pod.Namespace); err != nil {
				return nil, nil, fmt.Errorf("list disruption budgets: %w", err)
			}
		}
		breaks := false
		for _, b := range budgets {
			if !covers(b, p.Pod) {
				continue
			}
			if _, seen := left[b.UID]; !seen {
				left[b.UID] = b.Status.DisruptionsAllowed
			}
			left[b.UID]--
			breaks = breaks || left[b.UID] < 0
		}
		if breaks {
			violating = append(violating, p)
		} else {
			fine = append(fine, p)
		}
	}
	return violating, fine, nil
}

func covers(b *policyv1.PodDisruptionBudget, pod *corev1.Pod) bool {
	if len(pod.Labels) == 0 {
		return false
	}
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil || selector.Empty() || !selector.Matches(labels.Set(pod.Labels)) {
		return false
	}
	_, processed := b.Status.DisruptedPods[pod.Name] // counted already
	return !processed
}

// byImportance puts higher priority first, then who has run for longer.
func byImportance(a, b *framework.PodInfo) int {
	return cmp.Or(cmp.Compare(priority(b.Pod), priority(a.Pod)), started(a.Pod).Compare(started(b.Pod)))
}

func started(pod *corev1.Pod) time.Time {
	if pod.Status.StartTime == nil {
		return time.Now()
	}
	return pod.Status.StartTime.Time
}

// cheaper orders candidates as upstream does: fewest broken budgets, lowest
// top priority, lowest sum, fewest victims, most recently started.
func cheaper(a, b candidate) int {
	top := func(c candidate) int64 {
		if len(c.victims) == 0 {
			return math.MinInt64
		}
		return int64(priority(c.victims[0].Pod))
	}
	sum := func(c candidate) (n int64) {
		for _, v := range c.victims { // shifted, so that few do not lose against many negative ones
			n += int64(priority(v.Pod)) + math.MaxInt32 + 1
		}
		return n
	}
	earliest := func(c candidate) time.Time {
		var t time.Time
		for _, v := range c.victims {
			if s := started(v.Pod); priority(v.Pod) == priority(c.victims[0].Pod) && (t.IsZero() || s.Before(t)) {
				t = s
			}
		}
		return t
	}
	return cmp.Or(cmp.Compare(a.violations, b.violations), cmp.Compare(top(a), top(b)), cmp.Compare(sum(a), sum(b)),
		cmp.Compare(len(a.victims), len(b.victims)), earliest(b).Compare(earliest(a)))
}

// evict removes the victims, telling why in their condition and an event.
func (s *Scheduler) evict(ctx context.Context, pod *corev1.Pod, c *candidate) error {
	var errs []error
	for _, v := range c.victims {
		victim := v.Pod
		if victim.DeletionTimestamp != nil {
			continue
		}
		if err := s.evictOne(ctx, pod, victim); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("preempt pod %s/%s: %w", victim.Namespace, victim.Name, err))
			continue
		}
		s.Logger.Info("pod preempted", "pod", victim.Namespace+"/"+victim.Name, "by", pod.Namespace+"/"+pod.Name, "node", c.node)
		if recorder := s.Events[pod.Spec.SchedulerName]; recorder != nil {
			recorder.Eventf(victim, pod, corev1.EventTypeNormal, "Preempted", "Preempting", "Preempted by pod %v on node %v", pod.UID, c.node)
		}
	}
	return errors.Join(errs...)
}

func (s *Scheduler) evictOne(ctx context.Context, pod, victim *corev1.Pod) error {
	condition := corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler,
		Message:            pod.Spec.SchedulerName + ": preempting to accommodate a higher priority pod",
		ObservedGeneration: victim.Generation, LastTransitionTime: metav1.Now(),
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": victim.UID},
		"status":   map[string]any{"conditions": []corev1.PodCondition{condition}},
	})
	if err != nil {
		return fmt.Errorf("encode condition: %w", err)
	}
	pods := s.Client.CoreV1().Pods(victim.Namespace)
	if _, err := pods.Patch(ctx, victim.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		return err
	}
	return pods.Delete(ctx, victim.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &victim.UID}})
}

// filter is Runner.Filter with the Pods for which room is being made on the
// node counted in, and again without them, for they may never come (and the
// Pod may need one of them beside it).
func (s *Scheduler) filter(ctx context.Context, runner *framework.Runner, state *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if before := s.nominees[node.Name()]; len(before) > 0 {
		trial, there := state.Clone(), node.Clone()
		for _, p := range before {
			there.AddPod(p)
			if status := runner.AddPod(trial, pod, p, there); !status.IsSuccess() {
				return status
			}
		}
		if status := runner.Filter(ctx, trial, pod, there); !status.IsSuccess() {
			return status
		}
	}
	return runner.Filter(ctx, state, pod, node)
}

func priority(pod *corev1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

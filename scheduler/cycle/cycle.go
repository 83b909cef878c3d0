// Package cycle places Pods: it takes one from the queue, looks for a node in
// a snapshot of the cache with the plugins' help, counts it there (assumes)
// and binds it. Run is the one loop; bindings and reports to the user run on
// goroutines of their own, and Run waits for those under way before it returns.
//
//	queue.Pop → schedule (PreFilter, Filter, Score) → assume → Reserve, Permit
//	   ▲            │ no node fits                                  │
//	   └─ Requeue ◄─┴─ refuse: PostFilter, condition, event         ▼
//	   ▲                                                 go bind: PreBind, Bind
//	   └──────────────── forget ◄───────────────────────────────────┘ fails
package cycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/events"

	"github.com/skeg-dev/skeg/scheduler/cache"
	"github.com/skeg-dev/skeg/scheduler/framework"
	"github.com/skeg-dev/skeg/scheduler/queue"
)

// maxBindings bounds the bindings under way at once.
const maxBindings = 256

// Config of a Scheduler. Latest, Budgets and the
// Observe functions are optional.
type Config struct {
	Client kubernetes.Interface
	Queue  *queue.Queue
	Cache  *cache.Cache
	// Runners by scheduler name (a Pod's spec.schedulerName).
	Runners map[string]*framework.Runner
	// Events records what happens to Pods, by scheduler name.
	Events map[string]events.EventRecorder
	Logger *slog.Logger
	// Latest returns the Pod as the informers know it now, nil when it is
	// gone. nil means the Pod in the queue is the latest.
	Latest func(types.NamespacedName) *corev1.Pod
	// Observe is told the scheduler name, result ("scheduled", "unschedulable"
	// or "error") and duration of each attempt, for metrics.
	Observe func(profile, result string, took time.Duration)
	// ObserveAlgorithm is told how long finding a node took, ObserveBound how
	// a bound Pod fared, ObservePreemption how many Pods had to go.
	ObserveAlgorithm  func(took time.Duration)
	ObserveBound      func(attempts int, waited time.Duration)
	ObservePreemption func(victims int)
	// Budgets lists the disruption budgets of a namespace; nil means none.
	Budgets func(namespace string) ([]*policyv1.PodDisruptionBudget, error)
	// PercentageOfNodes to find feasible before scoring; 0 adapts.
	PercentageOfNodes int
}

// Scheduler runs the cycle. Use New.
type Scheduler struct {
	Config
	snapshot framework.Snapshot
	nominees map[string][]*framework.PodInfo // of the attempt, by node
	next     int                             // where the search for nodes goes on
	slots    chan struct{}
	bindings sync.WaitGroup
}

// New makes a Scheduler.
func New(c Config) *Scheduler {
	if c.Observe == nil {
		c.Observe = func(string, string, time.Duration) {}
	}
	if c.ObserveAlgorithm == nil {
		c.ObserveAlgorithm = func(time.Duration) {}
	}
	if c.ObserveBound == nil {
		c.ObserveBound = func(int, time.Duration) {}
	}
	if c.ObservePreemption == nil {
		c.ObservePreemption = func(int) {}
	}
	return &Scheduler{Config: c, slots: make(chan struct{}, maxBindings)}
}

// Run schedules until ctx ends and then waits for bindings under way.
func (s *Scheduler) Run(ctx context.Context) error {
	defer s.bindings.Wait()
	for {
		pod, err := s.Queue.Pop(ctx)
		if err != nil {
			return nil // ctx ended
		}
		s.attempt(ctx, pod)
	}
}

// attempt is one try to place one Pod.
func (s *Scheduler) attempt(ctx context.Context, p *queue.Pod) {
	started := time.Now()
	profile := p.Pod.Spec.SchedulerName
	runner, ok := s.Runners[profile]
	if !ok || p.Pod.DeletionTimestamp != nil || s.Cache.Has(p.Pod.UID) {
		s.Queue.Done(p.Pod.UID)
		return
	}
	s.Cache.Update(&s.snapshot)
	s.nominees = s.Queue.Nominees(p.PodInfo)
	state := &framework.CycleState{}
	node, err := s.schedule(ctx, runner, state, p.PodInfo)
	var unfit *FitError
	switch {
	case errors.As(err, &unfit):
		s.refuse(ctx, runner, state, p, unfit)
		s.ObserveAlgorithm(time.Since(started))
		s.Observe(profile, "unschedulable", time.Since(started))
		return
	case err != nil:
		s.abort(ctx, p, started, err)
		return
	}
	s.ObserveAlgorithm(time.Since(started))
	if err := s.reserve(ctx, runner, state, p, node); err != nil {
		s.abort(ctx, p, started, err)
		return
	}
	s.beside(func() { s.bind(ctx, runner, state, p, node, started) })
}

func (s *Scheduler) abort(ctx context.Context, p *queue.Pod, started time.Time, err error) {
	profile := p.Pod.Spec.SchedulerName
	report := s.fail(p, err)
	s.Observe(profile, "error", time.Since(started))
	s.beside(func() { report(ctx) })
}

// beside runs what talks to the API on a goroutine of its own, so that the
// next attempt can begin.
func (s *Scheduler) beside(do func()) {
	s.slots <- struct{}{} // bounds the goroutines, each of which ends by itself
	s.bindings.Go(func() {
		defer func() { <-s.slots }()
		do()
	})
}

// reserve counts the Pod on the node, so that the next attempt sees it there.
func (s *Scheduler) reserve(ctx context.Context, runner *framework.Runner, state *framework.CycleState, p *queue.Pod, node string) error {
	if err := s.Cache.Assume(p.PodInfo, node); err != nil {
		return err
	}
	status := runner.Reserve(ctx, state, p.Pod, node)
	if status.IsSuccess() {
		status = runner.Permit(ctx, state, p.Pod, node)
		if status.IsSuccess() {
			return nil
		}
		runner.Unreserve(ctx, state, p.Pod, node)
	}
	s.Cache.Forget(p.Pod.UID)
	return fmt.Errorf("%s: %s", status.Plugin(), status.Message())
}

// refuse records that no node fits, makes room if it may, and puts the Pod back.
func (s *Scheduler) refuse(ctx context.Context, runner *framework.Runner, state *framework.CycleState, p *queue.Pod, unfit *FitError) {
	by := unfit.plugins()
	nominated, chosen := s.makeRoom(ctx, runner, state, p, unfit)
	message := unfit.Error()
	info, pod := p.PodInfo, p.Pod // the queue may replace them once it is back
	s.Logger.Info("pod is unschedulable", "pod", pod.Namespace+"/"+pod.Name, "message", message)
	s.Queue.Requeue(p, by)
	s.beside(func() {
		s.report(ctx, pod, nominated, corev1.PodReasonUnschedulable, message)
		if chosen == nil {
			return
		}
		if err := s.evict(ctx, pod, chosen); err != nil {
			s.Logger.Error("make room for pod", "pod", pod.Namespace+"/"+pod.Name, "node", chosen.node, "error", err)
			s.Queue.Nominate(info, "")
			s.Queue.Notify(framework.ClusterEvent{Kind: framework.AnyKind, Action: framework.Any, Label: "PreemptionFailed"}, nil, nil)
		}
	})
}

// makeRoom runs the PostFilter plugins and preemption. nominated is nil when
// the Pod's nominated node stays as it is.
func (s *Scheduler) makeRoom(ctx context.Context, runner *framework.Runner, state *framework.CycleState, p *queue.Pod, unfit *FitError) (nominated *string, chosen *candidate) {
	if unfit.All == 0 {
		return nil, nil
	}
	node, status := runner.PostFilter(ctx, state, p.PodInfo, &s.snapshot, unfit.Nodes)
	unfit.After = status.Message()
	if status.IsSuccess() && node != "" {
		s.Queue.Nominate(p.PodInfo, node)
		return &node, nil
	}
	v, err := s.preempt(ctx, runner, state, p, unfit)
	if err != nil {
		s.Logger.Error("look for pods to preempt", "pod", p.Pod.Namespace+"/"+p.Pod.Name, "error", err)
		return nil, nil
	}
	unfit.After = strings.TrimSpace(unfit.After + " " + v.message)
	switch {
	case v.keep:
		return nil, nil
	case v.chosen != nil:
		node = v.chosen.node
		s.ObservePreemption(len(v.chosen.victims))
	}
	s.Queue.Nominate(p.PodInfo, node)
	return &node, v.chosen
}

// fail puts the Pod back for another attempt after an internal error.
func (s *Scheduler) fail(p *queue.Pod, err error) (report func(context.Context)) {
	pod := p.Pod
	s.Logger.Error("schedule pod", "pod", pod.Namespace+"/"+pod.Name, "error", err)
	s.Queue.Requeue(p, sets.New[string]())
	return func(ctx context.Context) { s.report(ctx, pod, nil, corev1.PodReasonSchedulerError, err.Error()) }
}

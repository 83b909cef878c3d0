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
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
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

// Config of a Scheduler. All fields but Latest and Observe are required.
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
	// Observe is told the result and duration of each attempt, for metrics:
	// "scheduled", "unschedulable" or "error".
	Observe func(result string, took time.Duration)
	// PercentageOfNodes to find feasible before scoring; 0 adapts.
	PercentageOfNodes int
}

// Scheduler runs the cycle. Use New.
type Scheduler struct {
	Config
	snapshot framework.Snapshot
	next     int // where the search for nodes goes on
	slots    chan struct{}
	bindings sync.WaitGroup
}

// New makes a Scheduler.
func New(c Config) *Scheduler {
	if c.Observe == nil {
		c.Observe = func(string, time.Duration) {}
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
	runner, ok := s.Runners[p.Pod.Spec.SchedulerName]
	if !ok || p.Pod.DeletionTimestamp != nil || s.Cache.Has(p.Pod.UID) {
		s.Queue.Done(p.Pod.UID)
		return
	}
	s.Cache.Update(&s.snapshot)
	state := &framework.CycleState{}
	node, err := s.schedule(ctx, runner, state, p.PodInfo)
	var unfit *FitError
	switch {
	case errors.As(err, &unfit):
		s.refuse(ctx, runner, state, p, unfit)
		s.Observe("unschedulable", time.Since(started))
		return
	case err != nil:
		s.fail(ctx, p, err)
		s.Observe("error", time.Since(started))
		return
	}
	if err := s.reserve(ctx, runner, state, p, node); err != nil {
		s.fail(ctx, p, err)
		s.Observe("error", time.Since(started))
		return
	}
	s.beside(func() { s.bind(ctx, runner, state, p, node, started) })
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

// refuse records that no node fits and puts the Pod back.
func (s *Scheduler) refuse(ctx context.Context, runner *framework.Runner, state *framework.CycleState, p *queue.Pod, unfit *FitError) {
	nominated, status := runner.PostFilter(ctx, state, p.PodInfo, &s.snapshot, unfit.Nodes)
	unfit.After = status.Message()
	message := unfit.Error()
	by := unfit.plugins()
	if status.IsRejected() && status.Plugin() != "" {
		by.Insert(status.Plugin())
	}
	pod := p.Pod // the queue may replace it once it is back
	s.Logger.Info("pod is unschedulable", "pod", pod.Namespace+"/"+pod.Name, "message", message)
	s.Queue.Requeue(p, by)
	s.beside(func() { s.report(ctx, pod, nominated, corev1.PodReasonUnschedulable, message) })
}

// fail records an internal error and puts the Pod back for another attempt.
func (s *Scheduler) fail(ctx context.Context, p *queue.Pod, err error) {
	pod := p.Pod
	s.Logger.Error("schedule pod", "pod", pod.Namespace+"/"+pod.Name, "error", err)
	s.Queue.Requeue(p, sets.New[string]())
	s.report(ctx, pod, "", corev1.PodReasonSchedulerError, err.Error())
}

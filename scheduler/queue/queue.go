// Package queue holds the Pods that wait to be scheduled and decides which is
// next and which event wakes whom. Informer handlers feed it, the scheduling
// cycle takes from it and returns what it could not place. Run starts no
// further goroutines; all methods are safe for concurrent use.
//
//	            Add                        Pop
//	(new) ─────────────► active ─────────────────► in flight ── Done ──► (placed)
//	  │ PreEnqueue          ▲  ▲                      │
//	  ▼ refuses             │  │ back-off over        │ Requeue
//	gated ──────────────────┤  └────── backing off ◄──┤ (error, or an event came
//	         an event helps │               ▲         │  meanwhile that helps)
//	                        └───────────────┴── unschedulable ◄┘
//	                          Notify: an event helps; or 5 minutes
package queue

import (
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/utils/clock"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

// Upstream's defaults (KubeSchedulerConfiguration podInitialBackoffSeconds,
// podMaxBackoffSeconds) and its safety net for events that were missed.
const (
	DefaultInitialBackoff = time.Second
	DefaultMaxBackoff     = 10 * time.Second
	maxUnschedulable      = 5 * time.Minute
	leftoverInterval      = 30 * time.Second
)

// Pod is a Pod in the queue. The queue owns it, except between Pop and Done or
// Requeue, when the caller does.
type Pod struct {
	*framework.PodInfo
	// Attempts so far, the current one included.
	Attempts int
	// Since is when it entered the queue first; Queued when last.
	Since, Queued time.Time
	// RefusedBy names the plugins that refused it in the last attempt.
	RefusedBy sets.Set[string]
	// failures in a row, for the back-off.
	failures int
	ready    time.Time // end of the back-off
	place    place
	index    int         // in its heap
	order    uint64      // of arrival, among those of the same moment
	newer    *corev1.Pod // arrived during the attempt; taken over by Requeue
}

type place uint8

const (
	nowhere place = iota
	active
	backingOff
	unschedulable
	gated
	inFlight
)

// Config of a Queue.
type Config struct {
	// Framework says whether a Pod may enter, and what wakes it. Required.
	Framework Waker
	// Clock is the real one when nil.
	Clock clock.WithTicker
	// InitialBackoff and MaxBackoff: 0 means the defaults.
	InitialBackoff, MaxBackoff time.Duration
	// Incoming is told which part of the queue a Pod entered ("active",
	// "backoff", "unschedulable", "gated") and which event put it there, for
	// metrics; it must not call the queue. Optional.
	Incoming func(queue, event string)
}

// Waker is the part of framework.Runner the queue needs.
type Waker interface {
	PreEnqueue(pod *corev1.Pod) *framework.Status
	Wakes(plugin string) []framework.Wake
}

// Queue of Pods. Use New.
type Queue struct {
	config Config
	clock  clock.WithTicker

	mu      sync.Mutex // guards all below
	pods    map[types.UID]*Pod
	active  heap
	backoff heap
	events  []event           // since the oldest Pod in flight was taken
	flights map[types.UID]int // position in events (counted from base) at Pop
	base    int
	order   uint64
	parked  map[*Pod]struct{} // those that events may wake: unschedulable or gated
	// nominees are Pods for which preemption makes room, by node; nominated is
	// where each is.
	nominees  map[string]map[types.UID]*framework.PodInfo
	nominated map[types.UID]string
	wake      chan struct{} // closed and replaced when active gains a Pod
	retime    chan struct{} // size 1: the earliest back-off changed
}

type event struct {
	framework.ClusterEvent
	old, new any
}

// New makes an empty queue.
func New(c Config) *Queue {
	if c.InitialBackoff == 0 {
		c.InitialBackoff = DefaultInitialBackoff
	}
	if c.MaxBackoff == 0 {
		c.MaxBackoff = DefaultMaxBackoff
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Incoming == nil {
		c.Incoming = func(string, string) {}
	}
	return &Queue{
		config: c, clock: c.Clock,
		pods: map[types.UID]*Pod{}, flights: map[types.UID]int{},
		parked: map[*Pod]struct{}{}, nominees: map[string]map[types.UID]*framework.PodInfo{}, nominated: map[types.UID]string{},
		active: heap{less: byPriority}, backoff: heap{less: byReady},
		wake: make(chan struct{}), retime: make(chan struct{}, 1),
	}
}

// byPriority orders by priority, then by who waits longest.
func byPriority(a, b *Pod) bool {
	pa, pb := priority(a.Pod), priority(b.Pod)
	if pa != pb {
		return pa > pb
	}
	if !a.Queued.Equal(b.Queued) {
		return a.Queued.Before(b.Queued)
	}
	return a.order < b.order
}

func byReady(a, b *Pod) bool { return a.ready.Before(b.ready) }

func priority(pod *corev1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

// Add takes in a Pod that has no node. One that is known is updated.
func (q *Queue) Add(pod *corev1.Pod) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, known := q.pods[pod.UID]; known {
		q.update(pod)
		return
	}
	q.take(pod)
}

// Update replaces the Pod. If it was refused and its own change may help, it
// is tried again. One that is not here is taken in if add.
func (q *Queue) Update(pod *corev1.Pod, add bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, known := q.pods[pod.UID]; known {
		q.update(pod)
	} else if add {
		q.take(pod)
	}
}

func (q *Queue) take(pod *corev1.Pod) {
	now := q.clock.Now()
	q.order++
	p := &Pod{PodInfo: framework.NewPodInfo(pod), Since: now, Queued: now, order: q.order}
	q.pods[pod.UID] = p
	q.nominate(p.PodInfo, pod.Status.NominatedNodeName)
	q.enter(p, "PodAdd")
}

func (q *Queue) update(pod *corev1.Pod) {
	p := q.pods[pod.UID]
	if p.place == inFlight {
		// The attempt goes on with what it saw; Requeue looks at the change.
		p.newer = pod
		return
	}
	old := p.Pod
	p.PodInfo = framework.NewPodInfo(pod)
	if node := q.nominated[pod.UID]; node != "" {
		q.nominate(p.PodInfo, node)
	}
	switch p.place {
	case active:
		q.active.fix(p)
	case gated:
		if q.config.Framework.PreEnqueue(pod).IsSuccess() {
			q.enter(p, "PodUpdate")
		}
	case unschedulable:
		if q.ownChangeHelps(p, old, pod) {
			q.retry(p, "PodUpdate")
		}
	}
}

// ownChangeHelps reports whether a refused Pod's own change may help it.
func (q *Queue) ownChangeHelps(p *Pod, old, new *corev1.Pod) bool {
	e := framework.ClusterEvent{Kind: framework.WaitingPod, Action: framework.Update, Label: "PodUpdate"}
	return specChanged(old, new) && q.helps(p, event{e, old, new})
}

// Delete forgets the Pod.
func (q *Queue) Delete(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unnominate(uid)
	if p, ok := q.pods[uid]; ok {
		q.leave(p)
		delete(q.pods, uid)
		q.land(uid)
	}
}

// Pop returns the next Pod, waiting for one until ctx ends. The caller ends
// the attempt with Done or Requeue.
func (q *Queue) Pop(ctx context.Context) (*Pod, error) {
	for {
		q.mu.Lock()
		if p := q.active.pop(); p != nil {
			p.place = inFlight
			p.Attempts++
			q.flights[p.Pod.UID] = q.base + len(q.events)
			q.mu.Unlock()
			return p, nil
		}
		wake := q.wake
		q.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-wake:
		}
	}
}

// Done ends an attempt that placed the Pod, or one that is pointless.
func (q *Queue) Done(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p, ok := q.pods[uid]; ok && p.place == inFlight {
		delete(q.pods, uid)
		q.unnominate(uid)
	}
	q.land(uid)
}

// Requeue returns a Pod after a failed attempt. refusedBy names the plugins
// that refused it; empty means an internal error, which is tried again after
// the back-off.
func (q *Queue) Requeue(p *Pod, refusedBy sets.Set[string]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	uid := p.Pod.UID
	start, flying := q.flights[uid]
	if q.pods[uid] != p || !flying {
		q.land(uid) // deleted during the attempt
		return
	}
	p.RefusedBy = refusedBy
	p.failures++
	p.Queued = q.clock.Now()
	p.ready = p.Queued.Add(q.backoffOf(p.failures))
	again := refusedBy.Len() == 0 ||
		slices.ContainsFunc(q.events[start-q.base:], func(e event) bool { return q.helps(p, e) })
	if p.newer != nil {
		again = again || q.ownChangeHelps(p, p.Pod, p.newer)
		p.PodInfo, p.newer = framework.NewPodInfo(p.newer), nil
	}
	q.land(uid)
	if again {
		q.retry(p, "ScheduleAttemptFailure")
	} else {
		q.park(p, unschedulable, "ScheduleAttemptFailure")
	}
}

// backoffOf doubles from the initial to the maximal back-off.
func (q *Queue) backoffOf(failures int) time.Duration {
	d := q.config.InitialBackoff
	for range failures - 1 {
		if d *= 2; d >= q.config.MaxBackoff {
			return q.config.MaxBackoff
		}
	}
	return d
}

// Notify wakes the Pods that the change may help. old is nil for an addition,
// new for a deletion.
func (q *Queue) Notify(e framework.ClusterEvent, old, new any) {
	q.mu.Lock()
	defer q.mu.Unlock()
	ev := event{e, old, new}
	q.record(ev)
	for p := range q.parked {
		switch {
		case p.place == unschedulable && q.helps(p, ev):
			q.retry(p, e.Label)
		case p.place == gated && q.config.Framework.PreEnqueue(p.Pod).IsSuccess():
			q.enter(p, e.Label)
		}
	}
}

// helps reports whether one of the plugins that refused p wants to see e.
func (q *Queue) helps(p *Pod, e event) bool {
	if pod, ok := e.new.(*corev1.Pod); ok && e.Kind == framework.WaitingPod && pod.UID != p.Pod.UID {
		return false // another waiting Pod's change
	}
	for plugin := range p.RefusedBy {
		for _, w := range q.config.Framework.Wakes(plugin) {
			if w.Event.Matches(e.ClusterEvent) && (w.Helps == nil || w.Helps(p.Pod, e.old, e.new)) {
				return true
			}
		}
	}
	return false
}

// Len counts the Pods by place, for metrics.
func (q *Queue) Len() (activePods, backoffPods, unschedulablePods, gatedPods int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range q.pods {
		switch p.place {
		case active:
			activePods++
		case backingOff:
			backoffPods++
		case unschedulable:
			unschedulablePods++
		case gated:
			gatedPods++
		}
	}
	return activePods, backoffPods, unschedulablePods, gatedPods
}

package queue

import (
	stdheap "container/heap"
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
)

// enter makes p active, or gated when a plugin refuses it entry.
func (q *Queue) enter(p *Pod, why string) {
	q.leave(p)
	if s := q.config.Framework.PreEnqueue(p.Pod); !s.IsSuccess() {
		q.park(p, gated, why)
		return
	}
	p.place = active
	q.active.push(p)
	q.config.Incoming("active", why)
	close(q.wake)
	q.wake = make(chan struct{})
}

// retry makes p active once its back-off is over.
func (q *Queue) retry(p *Pod, why string) {
	if !p.ready.After(q.clock.Now()) {
		q.enter(p, why)
		return
	}
	q.leave(p)
	p.place = backingOff
	q.backoff.push(p)
	q.config.Incoming("backoff", why)
	select {
	case q.retime <- struct{}{}:
	default:
	}
}

func (q *Queue) leave(p *Pod) {
	switch p.place {
	case active:
		q.active.remove(p)
	case backingOff:
		q.backoff.remove(p)
	case unschedulable, gated:
		delete(q.parked, p)
	}
	p.place = nowhere
}

func (q *Queue) park(p *Pod, where place, why string) {
	name := "unschedulable"
	if where == gated {
		name = "gated"
	}
	q.config.Incoming(name, why)
	p.place = where
	q.parked[p] = struct{}{}
}

// record keeps an event for the Pods in flight, which may be refused for a
// reason that the event has just lifted.
func (q *Queue) record(e event) {
	if len(q.flights) > 0 {
		q.events = append(q.events, e)
	}
}

// land ends a flight and drops the events that nobody needs any more.
func (q *Queue) land(uid types.UID) {
	if _, ok := q.flights[uid]; !ok {
		return
	}
	delete(q.flights, uid)
	oldest := q.base + len(q.events)
	for _, start := range q.flights {
		oldest = min(oldest, start)
	}
	q.events = append(q.events[:0], q.events[oldest-q.base:]...)
	q.base = oldest
}

// Run moves Pods whose back-off ends, and retries once in a while what was
// refused long ago, in case an event was missed. It blocks until ctx ends.
func (q *Queue) Run(ctx context.Context) error {
	leftovers := q.clock.NewTicker(leftoverInterval)
	defer leftovers.Stop()
	timer := q.clock.NewTimer(leftoverInterval)
	defer timer.Stop()
	for {
		next := q.flushBackoff()
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return nil
		case <-q.retime:
		case <-timer.C():
		case <-leftovers.C():
			q.flushLeftovers()
		}
	}
}

func (q *Queue) flushBackoff() (next time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock.Now()
	for {
		p := q.backoff.peek()
		if p == nil {
			return leftoverInterval
		}
		if p.ready.After(now) {
			return p.ready.Sub(now)
		}
		q.enter(p, "BackoffComplete")
	}
}

func (q *Queue) flushLeftovers() {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock.Now()
	for p := range q.parked {
		if p.place == unschedulable && now.Sub(p.Queued) > maxUnschedulable {
			q.retry(p, "UnschedulableTimeout")
		}
	}
}

// specChanged leaves out what the scheduler and the node write themselves.
func specChanged(old, new *corev1.Pod) bool {
	return old.Generation != new.Generation ||
		!equality.Semantic.DeepEqual(old.Labels, new.Labels) ||
		!equality.Semantic.DeepEqual(old.Annotations, new.Annotations) ||
		!equality.Semantic.DeepEqual(&old.Spec, &new.Spec) ||
		(old.DeletionTimestamp == nil) != (new.DeletionTimestamp == nil) ||
		!equality.Semantic.DeepEqual(old.Status.ResourceClaimStatuses, new.Status.ResourceClaimStatuses)
}

// heap of Pods that can be removed and re-ordered in the middle.
type heap struct {
	less  func(a, b *Pod) bool
	items items
}

func (h *heap) sorted() *ordered { return &ordered{h} }

func (h *heap) push(p *Pod) { stdheap.Push(h.sorted(), p) }

func (h *heap) pop() *Pod {
	if len(h.items) == 0 {
		return nil
	}
	return stdheap.Pop(h.sorted()).(*Pod)
}

func (h *heap) peek() *Pod {
	if len(h.items) == 0 {
		return nil
	}
	return h.items[0]
}

func (h *heap) remove(p *Pod) { stdheap.Remove(h.sorted(), p.index) }
func (h *heap) fix(p *Pod)    { stdheap.Fix(h.sorted(), p.index) }

type items []*Pod

// ordered is the heap as container/heap wants it.
type ordered struct{ *heap }

func (o *ordered) Len() int           { return len(o.items) }
func (o *ordered) Less(i, j int) bool { return o.less(o.items[i], o.items[j]) }

func (o *ordered) Swap(i, j int) {
	o.items[i], o.items[j] = o.items[j], o.items[i]
	o.items[i].index, o.items[j].index = i, j
}

func (o *ordered) Push(x any) {
	p := x.(*Pod)
	p.index = len(o.items)
	o.items = append(o.items, p)
}

func (o *ordered) Pop() any {
	last := len(o.items) - 1
	p := o.items[last]
	o.items[last] = nil
	o.items = o.items[:last]
	return p
}

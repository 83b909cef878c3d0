package queue

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	clocktesting "k8s.io/utils/clock/testing"
	"pgregory.net/rapid"

	"github.com/skeg-dev/skeg/internal/testkit"
	"github.com/skeg-dev/skeg/scheduler/framework"
)

// waker: plugin "room" is lifted by nodes, "self" by the Pod's own change; a
// Pod labelled gate=closed may not enter.
type waker struct{}

func (waker) PreEnqueue(pod *corev1.Pod) *framework.Status {
	if pod.Labels["gate"] == "closed" {
		return framework.NewStatus(framework.Unresolvable, "closed")
	}
	return nil
}

func (waker) Wakes(plugin string) []framework.Wake {
	switch plugin {
	case "room":
		return []framework.Wake{{
			Event: framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.Add | framework.UpdateAllocatable},
			Helps: func(_ *corev1.Pod, _, new any) bool { return new.(*corev1.Node).Name != "small" },
		}}
	case "self":
		return []framework.Wake{{Event: framework.ClusterEvent{Kind: framework.WaitingPod, Action: framework.Update}}}
	}
	return nil
}

var nodeAdd = framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.Add, Label: "NodeAdd"}

func withPriority(n int32) testkit.PodOption {
	return func(p *corev1.Pod) { p.Spec.Priority = &n }
}

func pop(t *testing.T, q *Queue) *Pod {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	p, err := q.Pop(ctx)
	if err != nil {
		t.Fatalf("Pop: %v", err)
	}
	return p
}

func counts(q *Queue) string {
	a, b, u, g := q.Len()
	return fmt.Sprintf("active %d backoff %d unschedulable %d gated %d", a, b, u, g)
}

func wantCounts(t *testing.T, q *Queue, want string) {
	t.Helper()
	if got := counts(q); got != want {
		t.Fatalf("queue has %s, want %s", got, want)
	}
}

func TestOrder(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Unix(0, 0))
	q := New(Config{Framework: waker{}, Clock: clk})
	for _, p := range []*corev1.Pod{
		testkit.Pod("a", "first"), testkit.Pod("a", "second"), testkit.Pod("a", "urgent", withPriority(10)), testkit.Pod("a", "third"), testkit.Pod("a", "idle", withPriority(-1)),
	} {
		q.Add(p)
	}
	for _, want := range []string{"urgent", "first", "second", "third", "idle"} {
		if got := pop(t, q); got.Pod.Name != want {
			t.Errorf("Pop returned %s, want %s", got.Pod.Name, want)
		}
	}
}

func TestWaking(t *testing.T) {
	big, small := testkit.Node("big", "4", "4Gi", 10), testkit.Node("small", "1", "1Gi", 10)
	cases := map[string]struct {
		refusedBy sets.Set[string]
		before    func(q *Queue) // during the attempt
		after     func(q *Queue)
		want      string
	}{
		"refused stays":                 {refusedBy: sets.New("room"), want: "active 0 backoff 0 unschedulable 1 gated 0"},
		"error is retried":              {want: "active 0 backoff 1 unschedulable 0 gated 0"},
		"helpful event":                 {refusedBy: sets.New("room"), after: func(q *Queue) { q.Notify(nodeAdd, nil, big) }, want: "active 0 backoff 1 unschedulable 0 gated 0"},
		"event that does not help":      {refusedBy: sets.New("room"), after: func(q *Queue) { q.Notify(nodeAdd, nil, small) }, want: "active 0 backoff 0 unschedulable 1 gated 0"},
		"event of another kind":         {refusedBy: sets.New("self"), after: func(q *Queue) { q.Notify(nodeAdd, nil, big) }, want: "active 0 backoff 0 unschedulable 1 gated 0"},
		"one of two plugins":            {refusedBy: sets.New("self", "room"), after: func(q *Queue) { q.Notify(nodeAdd, nil, big) }, want: "active 0 backoff 1 unschedulable 0 gated 0"},
		"event during the attempt":      {refusedBy: sets.New("room"), before: func(q *Queue) { q.Notify(nodeAdd, nil, big) }, want: "active 0 backoff 1 unschedulable 0 gated 0"},
		"useless event during attempt":  {refusedBy: sets.New("room"), before: func(q *Queue) { q.Notify(nodeAdd, nil, small) }, want: "active 0 backoff 0 unschedulable 1 gated 0"},
		"own change":                    {refusedBy: sets.New("self"), after: func(q *Queue) { q.Update(testkit.Pod("a", "p", testkit.WithLabels("x", "y")), true) }, want: "active 0 backoff 1 unschedulable 0 gated 0"},
		"own change during the attempt": {refusedBy: sets.New("self"), before: func(q *Queue) { q.Update(testkit.Pod("a", "p", testkit.WithLabels("x", "y")), true) }, want: "active 0 backoff 1 unschedulable 0 gated 0"},
		"own status only":               {refusedBy: sets.New("self"), after: func(q *Queue) { q.Update(testkit.Pod("a", "p", testkit.InPhase(corev1.PodPending)), true) }, want: "active 0 backoff 0 unschedulable 1 gated 0"},
		"deleted during the attempt":    {before: func(q *Queue) { q.Delete("a-p-uid") }, want: "active 0 backoff 0 unschedulable 0 gated 0"},
		"gate closed during attempt":    {before: func(q *Queue) { q.Update(testkit.Pod("a", "p", testkit.WithLabels("gate", "closed")), true) }, want: "active 0 backoff 1 unschedulable 0 gated 0"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			q := New(Config{Framework: waker{}, Clock: clocktesting.NewFakeClock(time.Unix(0, 0))})
			q.Add(testkit.Pod("a", "p"))
			p := pop(t, q)
			if c.before != nil {
				c.before(q)
			}
			q.Requeue(p, c.refusedBy)
			if c.after != nil {
				c.after(q)
			}
			wantCounts(t, q, c.want)
			if len(q.events) != 0 || len(q.flights) != 0 {
				t.Errorf("%d events and %d flights are kept with nothing in flight", len(q.events), len(q.flights))
			}
		})
	}
}

func TestGate(t *testing.T) {
	q := New(Config{Framework: waker{}})
	q.Add(testkit.Pod("a", "p", testkit.WithLabels("gate", "closed")))
	wantCounts(t, q, "active 0 backoff 0 unschedulable 0 gated 1")
	q.Update(testkit.Pod("a", "p"), true)
	if p := pop(t, q); p.Pod.Labels["gate"] != "" {
		t.Error("the Pod from before the change was returned")
	}
}

func TestUpdateTakesInOnlyIfTold(t *testing.T) {
	q := New(Config{Framework: waker{}})
	q.Update(testkit.Pod("a", "bound"), false)
	wantCounts(t, q, "active 0 backoff 0 unschedulable 0 gated 0")
	q.Update(testkit.Pod("a", "new"), true)
	wantCounts(t, q, "active 1 backoff 0 unschedulable 0 gated 0")
}

func TestPopEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(Config{Framework: waker{}}).Pop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Pop: %v, want canceled", err)
	}
}

func TestBackoffDoublesUpToMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		q := New(Config{Framework: waker{}})
		go func() { _ = q.Run(ctx) }() // always nil
		q.Add(testkit.Pod("a", "p"))
		p, err := q.Pop(ctx)
		for _, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
			start := time.Now()
			q.Requeue(p, nil)
			if p, err = q.Pop(ctx); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(start); got != want*time.Second {
				t.Errorf("attempt %d after %v, want %v", p.Attempts, got, want*time.Second)
			}
		}
		if p.Attempts != 7 {
			t.Errorf("%d attempts were counted, want 7", p.Attempts)
		}
	})
}

func TestForgottenIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		q := New(Config{Framework: waker{}})
		go func() { _ = q.Run(ctx) }() // always nil
		q.Add(testkit.Pod("a", "p"))
		p, err := q.Pop(ctx)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		q.Requeue(p, sets.New("room"))
		if _, err := q.Pop(ctx); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited < maxUnschedulable || waited > maxUnschedulable+2*leftoverInterval {
			t.Errorf("retried after %v, want about %v", waited, maxUnschedulable)
		}
	})
}

func TestNominees(t *testing.T) {
	q := New(Config{Framework: waker{}})
	info := func(name string, prio int32) *framework.PodInfo {
		pod := testkit.Pod("a", name, withPriority(prio))
		q.Add(pod)
		return framework.NewPodInfo(pod)
	}
	high, middle, low := info("high", 10), info("middle", 5), info("low", 1)
	q.Nominate(middle, "n1")
	if got := q.Nominees(high); len(got) != 0 {
		t.Errorf("a Pod of higher priority gives way to %v", got)
	}
	if got := q.Nominees(middle); len(got) != 0 {
		t.Errorf("a Pod gives way to itself: %v", got)
	}
	if got := q.Nominees(low)["n1"]; len(got) != 1 || got[0].Pod.Name != "middle" {
		t.Errorf("low gives way to %v on n1, want middle", got)
	}
	q.Nominate(middle, "n2")
	if got := q.Nominees(low); len(got["n1"]) != 0 || len(got["n2"]) != 1 {
		t.Errorf("after moving to n2: %v", got)
	}
	q.Delete(middle.Pod.UID)
	if got := q.Nominees(low); len(got) != 0 || q.Nominated(middle.Pod.UID) != "" {
		t.Errorf("after deletion: %v", got)
	}
	q.Nominate(middle, "n1")
	if q.Nominated(middle.Pod.UID) != "" {
		t.Error("a Pod that does not wait was nominated")
	}
	restarted := testkit.Pod("a", "restarted")
	restarted.Status.NominatedNodeName = "n3"
	q.Add(restarted)
	if q.Nominated(restarted.UID) != "n3" {
		t.Error("the nomination of an earlier scheduler was not taken over")
	}
}

// machine drives a queue at random and checks that no Pod is lost, none is in
// flight twice, and a Pod that an event helps does not stay parked.
type machine struct {
	q      *Queue
	clk    *clocktesting.FakeClock
	alive  map[types.UID]bool // added, neither placed nor deleted
	flying map[types.UID]*Pod
	helped map[types.UID]bool // an event that helps came during its flight
	serial int
}

func (m *machine) pick(t *rapid.T) types.UID {
	uids := sets.List(sets.KeySet(m.alive))
	if len(uids) == 0 {
		t.Skip("no pods")
	}
	return rapid.SampledFrom(uids).Draw(t, "uid")
}

func (m *machine) flight(t *rapid.T) *Pod {
	uids := sets.List(sets.KeySet(m.flying))
	if len(uids) == 0 {
		t.Skip("nothing flies")
	}
	return m.flying[rapid.SampledFrom(uids).Draw(t, "uid")]
}

func (m *machine) add(t *rapid.T) {
	m.serial++
	pod := testkit.Pod("a", fmt.Sprint(m.serial), withPriority(rapid.Int32Range(0, 3).Draw(t, "priority")))
	m.q.Add(pod)
	m.alive[pod.UID] = true
}

func (m *machine) take(t *rapid.T) {
	if a, _, _, _ := m.q.Len(); a == 0 {
		t.Skip("nothing active")
	}
	p, err := m.q.Pop(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	uid := p.Pod.UID
	if !m.alive[uid] || m.flying[uid] != nil {
		t.Fatalf("Pop returned %s: alive %v, in flight %v", uid, m.alive[uid], m.flying[uid] != nil)
	}
	m.flying[uid], m.helped[uid] = p, false
}

func (m *machine) requeue(t *rapid.T) {
	p := m.flight(t)
	uid := p.Pod.UID
	m.q.Requeue(p, sets.New("room"))
	if m.alive[uid] && m.helped[uid] && p.place == unschedulable {
		t.Fatalf("%s stays refused although an event during its flight helps", uid)
	}
	delete(m.flying, uid)
}

func (m *machine) done(t *rapid.T) {
	uid := m.flight(t).Pod.UID
	m.q.Done(uid)
	delete(m.flying, uid)
	delete(m.alive, uid)
}

func (m *machine) forget(t *rapid.T) {
	uid := m.pick(t)
	if m.flying[uid] != nil {
		t.Skip("checked by TestWaking")
	}
	m.q.Delete(uid)
	delete(m.alive, uid)
}

func (m *machine) notify(*rapid.T) {
	m.q.Notify(nodeAdd, nil, testkit.Node("big", "4", "4Gi", 10))
	for uid := range m.flying {
		m.helped[uid] = true
	}
}

func (m *machine) wait(t *rapid.T) {
	m.clk.Step(time.Duration(rapid.IntRange(1, 20).Draw(t, "seconds")) * time.Second)
	m.q.flushBackoff()
}

func (m *machine) check(t *rapid.T) {
	a, b, u, g := m.q.Len()
	if a+b+u+g+len(m.flying) != len(m.alive) {
		t.Fatalf("%d pods: %s, %d in flight", len(m.alive), counts(m.q), len(m.flying))
	}
	if len(m.q.flights) != len(m.flying) || (len(m.flying) == 0 && len(m.q.events) != 0) {
		t.Fatalf("%d flights and %d events are kept, %d fly", len(m.q.flights), len(m.q.events), len(m.flying))
	}
	if len(m.q.parked) != u+g || len(m.q.active.items) != a || len(m.q.backoff.items) != b {
		t.Fatalf("places disagree: %s", counts(m.q))
	}
}

func TestNothingIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clk := clocktesting.NewFakeClock(time.Unix(0, 0))
		m := &machine{
			q: New(Config{Framework: waker{}, Clock: clk}), clk: clk,
			alive: map[types.UID]bool{}, flying: map[types.UID]*Pod{}, helped: map[types.UID]bool{},
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": m.add, "pop": m.take, "requeue": m.requeue, "done": m.done, "delete": m.forget, "notify": m.notify, "wait": m.wait, "": m.check,
		})
	})
}

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// counter is a reconciler on keys of its own that fails a number of times.
type counter struct {
	fail  int32
	again time.Duration
	runs  atomic.Int32
	at    []time.Duration
	start time.Time
}

func (*counter) Name() string               { return "counter-controller" }
func (*counter) Watches() []reconcile.Watch { return nil }
func (*counter) StartKeys() []string        { return []string{"key"} }
func (c *counter) Reconcile(context.Context, string) (reconcile.Result, error) {
	c.at = append(c.at, time.Since(c.start))
	if n := c.runs.Add(1); n <= c.fail {
		return reconcile.Result{RequeueAfter: time.Hour}, errors.New("not yet")
	}
	return reconcile.Result{RequeueAfter: c.again}, nil
}

func TestRunRetriesWithBackoffAndRequeues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := &counter{fail: 3, again: time.Minute, start: time.Now()}
		done := make(chan error)
		go func() { done <- reconcile.Run(ctx, c, 2) }()
		<-time.After(2*time.Minute + time.Second)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run ends with %v", err)
		}
		// 5, 10 and 20 ms of back-off, then each minute.
		want := []time.Duration{0, 5 * time.Millisecond, 15 * time.Millisecond, 35 * time.Millisecond, time.Minute + 35*time.Millisecond, 2*time.Minute + 35*time.Millisecond}
		if fmt.Sprint(c.at) != fmt.Sprint(want) {
			t.Errorf("runs at %v, want %v", c.at, want)
		}
	})
}

func TestExpectations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var e reconcile.Expectations
		if !e.Satisfied("a") {
			t.Error("nothing expected is satisfied")
		}
		e.ExpectCreations("a", 2)
		e.ExpectDeletions("a", []string{"x"})
		e.Created("a", 1)
		e.Deleted("a", "x")
		e.Deleted("a", "x") // seen twice, as going and as gone
		if e.Satisfied("a") {
			t.Error("one creation is still missing")
		}
		if !e.Satisfied("b") {
			t.Error("another owner waits too")
		}
		e.Created("a", 1)
		e.Created("a", 5)
		if !e.Satisfied("a") {
			t.Error("all is seen")
		}
		e.ExpectCreations("a", 1)
		<-time.After(5*time.Minute + time.Second)
		if !e.Satisfied("a") {
			t.Error("waits for ever for an event that was lost")
		}
	})
}

func TestSlowStartStopsAtTheFirstBadBatch(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	done, err := reconcile.SlowStart(100, func(i int) error {
		calls.Add(1)
		if i >= 3 {
			return errors.New("quota")
		}
		return nil
	})
	if done != 3 || err == nil || calls.Load() != 7 { // batches of 1, 2 and 4
		t.Errorf("%d done, %d calls, error %v", done, calls.Load(), err)
	}
	if done, err := reconcile.SlowStart(0, nil); done != 0 || err != nil {
		t.Errorf("nothing to do: %d, %v", done, err)
	}
}

func TestClaim(t *testing.T) {
	t.Parallel()
	owner := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "owner", UID: "me"}}
	pod := func(name, controller string, matches bool) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
		if matches {
			p.Labels = map[string]string{"app": "x"}
		}
		if controller != "" {
			yes := true
			p.OwnerReferences = []metav1.OwnerReference{{UID: types.UID(controller), Controller: &yes}}
		}
		return p
	}
	ended := pod("ended", "", true)
	ended.Status.Phase = corev1.PodSucceeded
	var patched []string
	claim := reconcile.Claim[*corev1.Pod]{
		Owner: owner, Kind: corev1.SchemeGroupVersion.WithKind("ReplicationController"),
		Selector: labels.SelectorFromSet(labels.Set{"app": "x"}),
		Fresh:    func(context.Context) (metav1.Object, error) { return owner, nil },
		Patch: func(_ context.Context, p *corev1.Pod, _ types.PatchType, _ []byte) error {
			patched = append(patched, p.Name)
			return nil
		},
		Adoptable: func(p *corev1.Pod) bool { return p.Status.Phase != corev1.PodSucceeded },
	}
	all := []*corev1.Pod{pod("mine", "me", true), pod("strayed", "me", false), pod("free", "", true), pod("foreign", "other", true), pod("unrelated", "", false), ended}
	owned, err := claim.Own(t.Context(), all)
	var names []string
	for _, p := range owned {
		names = append(names, p.Name)
	}
	if err != nil || fmt.Sprint(names) != "[mine free]" || fmt.Sprint(patched) != "[strayed free]" {
		t.Errorf("owned %v, patched %v, %v", names, patched, err)
	}
	replaced := claim
	replaced.Fresh = func(context.Context) (metav1.Object, error) {
		return &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{UID: "new"}}, nil
	}
	if owned, err := replaced.Own(t.Context(), all); err == nil || len(owned) != 1 {
		t.Errorf("an owner that was replaced adopts: %v, %v", owned, err)
	}
}

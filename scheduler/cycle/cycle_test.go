package cycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/events"

	"github.com/skeg-dev/skeg/internal/testkit"
	"github.com/skeg-dev/skeg/scheduler/cache"
	"github.com/skeg-dev/skeg/scheduler/framework"
	"github.com/skeg-dev/skeg/scheduler/plugins"
	"github.com/skeg-dev/skeg/scheduler/queue"
)

const ours = "default-scheduler"

// rig is a scheduler on client-go's fake, fed by hand.
type rig struct {
	*Scheduler
	client *fake.Clientset
	events *recorder

	mu    sync.Mutex // guards bound
	bound map[string]string
}

// recorder keeps events as "type reason message", by Pod name.
type recorder struct {
	mu   sync.Mutex // guards seen
	seen map[string][]string
}

func (r *recorder) Eventf(about, _ runtime.Object, kind, reason, _, note string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := about.(*corev1.Pod).Name
	r.seen[name] = append(r.seen[name], kind+" "+reason+" "+fmt.Sprintf(note, args...))
}

func (r *recorder) has(pod, event string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.seen[pod] {
		if e == event {
			return nil
		}
	}
	return fmt.Errorf("pod %s has events %q, want %q", pod, r.seen[pod], event)
}

func newRig(t *testing.T, objects ...runtime.Object) *rig {
	runner := framework.NewRunner(plugins.Registry(plugins.Config{}))
	r := &rig{client: fake.NewClientset(objects...), events: &recorder{seen: map[string][]string{}}, bound: map[string]string{}}
	r.client.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		create, ok := a.(clienttesting.CreateAction)
		if !ok || a.GetSubresource() != "binding" {
			return false, nil, nil
		}
		binding := create.GetObject().(*corev1.Binding)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.bound[binding.Name] = binding.Target.Name
		return true, binding, nil
	})
	logger, _ := testkit.NewLogger(t)
	r.Scheduler = New(Config{
		Client: r.client, Logger: logger, Cache: cache.New(), Queue: queue.New(queue.Config{Framework: runner}),
		Runners: map[string]*framework.Runner{ours: runner, "second": runner},
		Events:  map[string]events.EventRecorder{ours: r.events, "second": r.events},
	})
	return r
}

// start runs the loops until the test ends.
func (r *rig) start(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	loops.Go(func() { _ = r.Queue.Run(ctx) }) // always nil
	loops.Go(func() { _ = r.Scheduler.Run(ctx) })
	t.Cleanup(func() { cancel(); loops.Wait() })
}

func (r *rig) create(t *testing.T, pods ...*corev1.Pod) {
	t.Helper()
	for _, pod := range pods {
		if _, err := r.client.CoreV1().Pods(pod.Namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if pod.Spec.NodeName == "" {
			r.Queue.Add(pod)
		} else {
			r.Cache.SetPod(pod)
		}
	}
}

func (r *rig) addNode(node *corev1.Node) {
	r.Cache.SetNode(node)
	r.Queue.Notify(framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.Add, Label: "NodeAdd"}, nil, node)
}

func (r *rig) boundTo(pod, node string) func() error {
	return func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if got := r.bound[pod]; got != node {
			return fmt.Errorf("pod %s is bound to %q, want %q", pod, got, node)
		}
		return nil
	}
}

func (r *rig) condition(t *testing.T, pod, reason, message string) func() error {
	return func() error {
		p, err := r.client.CoreV1().Pods("a").Get(t.Context(), pod, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == reason && c.Message == message {
				return nil
			}
		}
		return fmt.Errorf("conditions are %+v, want reason %s, message %q", p.Status.Conditions, reason, message)
	}
}

func waiting(name string, options ...testkit.PodOption) *corev1.Pod {
	pod := testkit.Pod("a", name, options...)
	pod.Spec.SchedulerName = ours
	return pod
}

func withPriority(n int32) testkit.PodOption {
	return func(p *corev1.Pod) { p.Spec.Priority = &n }
}

func TestBind(t *testing.T) {
	r := newRig(t)
	r.addNode(testkit.Node("n1", "4", "4Gi", 10))
	r.start(t)
	r.create(t, waiting("p"))
	testkit.Eventually(t, "binding", r.boundTo("p", "n1"))
	testkit.Eventually(t, "event", func() error { return r.events.has("p", "Normal Scheduled Successfully assigned a/p to n1") })
}

func TestUnschedulableUntilANodeFits(t *testing.T) {
	r := newRig(t)
	tainted := testkit.Node("tainted", "8", "8Gi", 10)
	tainted.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}
	r.addNode(testkit.Node("small", "1", "1Gi", 10))
	r.addNode(tainted)
	r.start(t)
	r.create(t, waiting("p", testkit.WithRequests("2", "2Gi")))
	message := "0/2 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 node(s) had untolerated taint(s). " +
		"preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
	testkit.Eventually(t, "condition", r.condition(t, "p", corev1.PodReasonUnschedulable, message))
	testkit.Eventually(t, "event", func() error { return r.events.has("p", "Warning FailedScheduling "+message) })
	r.addNode(testkit.Node("big", "4", "4Gi", 10))
	testkit.Eventually(t, "binding", r.boundTo("p", "big"))
}

func TestNoNodes(t *testing.T) {
	r := newRig(t)
	r.start(t)
	r.create(t, waiting("p"))
	testkit.Eventually(t, "condition", r.condition(t, "p", corev1.PodReasonUnschedulable, "no nodes available to schedule pods"))
	r.addNode(testkit.Node("n", "4", "4Gi", 10))
	testkit.Eventually(t, "binding", r.boundTo("p", "n"))
}

func TestBindFailures(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	cases := map[string]struct {
		err   error
		again bool
	}{
		"conflict":    {apierrors.NewConflict(pods, "p", errors.New("changed")), true},
		"server gone": {errors.New("connection refused"), true},
		"pod deleted": {apierrors.NewNotFound(pods, "p"), false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			var calls atomic.Int32
			r.client.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
				if a.GetSubresource() == "binding" && calls.Add(1) == 1 {
					return true, nil, c.err
				}
				return false, nil, nil
			})
			r.addNode(testkit.Node("n1", "1", "1Gi", 10))
			r.start(t)
			r.create(t, waiting("p", testkit.WithRequests("1", "1Gi")))
			if c.again {
				testkit.Eventually(t, "binding", r.boundTo("p", "n1"))
				return
			}
			// Its room must be free again.
			testkit.Eventually(t, "first binding", func() error {
				if calls.Load() == 0 {
					return errors.New("none yet")
				}
				return nil
			})
			r.create(t, waiting("q", testkit.WithRequests("1", "1Gi")))
			testkit.Eventually(t, "binding of the next", r.boundTo("q", "n1"))
			if a, b, u, g := r.Queue.Len(); a+b+u+g != 0 {
				t.Error("the deleted Pod is still queued")
			}
		})
	}
}

func TestSchedulerNames(t *testing.T) {
	r := newRig(t)
	r.addNode(testkit.Node("n1", "4", "4Gi", 10))
	r.start(t)
	foreign, second := waiting("foreign"), waiting("second")
	foreign.Spec.SchedulerName, second.Spec.SchedulerName = "somebody-else", "second"
	r.create(t, foreign, second)
	testkit.Eventually(t, "binding of second", r.boundTo("second", "n1"))
	if err := r.boundTo("foreign", "")(); err != nil {
		t.Error(err)
	}
}

func TestPreemption(t *testing.T) {
	r := newRig(t)
	r.addNode(testkit.Node("n1", "2", "4Gi", 10))
	r.addNode(testkit.Node("n2", "2", "4Gi", 10))
	r.create(t,
		waiting("low1", testkit.OnNode("n1"), testkit.WithRequests("2", "1Gi"), withPriority(1)),
		waiting("low2", testkit.OnNode("n2"), testkit.WithRequests("2", "1Gi"), withPriority(5)))
	r.start(t)
	r.create(t, waiting("urgent", testkit.WithRequests("1", "1Gi"), withPriority(100)))
	gone := func() error {
		if _, err := r.client.CoreV1().Pods("a").Get(t.Context(), "low1", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("get victim: %v, want not found", err)
		}
		return nil
	}
	testkit.Eventually(t, "victim deleted", gone)
	if err := r.events.has("low1", "Normal Preempted Preempted by pod a-urgent-uid on node n1"); err != nil {
		t.Error(err)
	}
	marked := false
	for _, a := range r.client.Actions() {
		if p, ok := a.(clienttesting.PatchAction); ok && p.GetName() == "low1" {
			marked = strings.Contains(string(p.GetPatch()), `"DisruptionTarget"`) && strings.Contains(string(p.GetPatch()), `"PreemptionByScheduler"`)
		}
	}
	if !marked {
		t.Error("the victim has no DisruptionTarget condition")
	}
	urgent, err := r.client.CoreV1().Pods("a").Get(t.Context(), "urgent", metav1.GetOptions{})
	if err != nil || urgent.Status.NominatedNodeName != "n1" {
		t.Errorf("nominated node is %q (%v), want n1", urgent.Status.NominatedNodeName, err)
	}
	// The room is kept from Pods of lower priority.
	r.Cache.RemovePod("a-low1-uid")
	r.create(t, waiting("thief", testkit.WithRequests("2", "1Gi"), withPriority(1)))
	testkit.Eventually(t, "thief refused", func() error {
		if _, _, refused, _ := r.Queue.Len(); refused != 2 {
			return fmt.Errorf("%d refused, want urgent and thief", refused)
		}
		return nil
	})
	victim := testkit.Pod("a", "low1", testkit.OnNode("n1"))
	r.Queue.Notify(framework.ClusterEvent{Kind: framework.AssignedPod, Action: framework.Delete, Label: "AssignedPodDelete"}, victim, nil)
	testkit.Eventually(t, "urgent bound", r.boundTo("urgent", "n1"))
	if err := r.boundTo("thief", "")(); err != nil {
		t.Error(err)
	}
}

func TestPreemptionNever(t *testing.T) {
	r := newRig(t)
	r.addNode(testkit.Node("n1", "2", "4Gi", 10))
	r.create(t, waiting("low", testkit.OnNode("n1"), testkit.WithRequests("2", "1Gi"), withPriority(1)))
	r.start(t)
	polite := waiting("polite", testkit.WithRequests("1", "1Gi"), withPriority(100))
	never := corev1.PreemptNever
	polite.Spec.PreemptionPolicy = &never
	r.create(t, polite)
	testkit.Eventually(t, "condition", r.condition(t, "polite", corev1.PodReasonUnschedulable,
		"0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."))
}

// TestVictims looks at who is chosen, without doing it.
func TestVictims(t *testing.T) {
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b", UID: "b"},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "guarded"}}},
	}
	guarded := testkit.WithLabels("app", "guarded")
	cases := map[string]struct {
		running []*corev1.Pod
		node    string
		victims string
		message string
	}{
		"only as many as needed": {
			running: []*corev1.Pod{waiting("x", testkit.OnNode("n1"), testkit.WithRequests("1", ""), withPriority(1)), waiting("y", testkit.OnNode("n1"), testkit.WithRequests("1", ""), withPriority(2)), waiting("z", testkit.OnNode("n2"), testkit.WithRequests("2", ""), withPriority(50))},
			node:    "n1", victims: "x",
		},
		"budget is spared": {
			running: []*corev1.Pod{waiting("x", guarded, testkit.OnNode("n1"), testkit.WithRequests("2", ""), withPriority(1)), waiting("z", testkit.OnNode("n2"), testkit.WithRequests("2", ""), withPriority(50))},
			node:    "n2", victims: "z",
		},
		"budget is broken when nothing else helps": {
			running: []*corev1.Pod{waiting("x", guarded, testkit.OnNode("n1"), testkit.WithRequests("2", ""), withPriority(1)), waiting("z", testkit.OnNode("n2"), testkit.WithRequests("2", ""), withPriority(100))},
			node:    "n1", victims: "x",
		},
		"fewer victims": {
			running: []*corev1.Pod{waiting("x", testkit.OnNode("n1"), testkit.WithRequests("600m", ""), withPriority(1)), waiting("y", testkit.OnNode("n1"), testkit.WithRequests("600m", ""), withPriority(1)), waiting("w", testkit.OnNode("n1"), testkit.WithRequests("800m", ""), withPriority(1)), waiting("z", testkit.OnNode("n2"), testkit.WithRequests("2", ""), withPriority(1))},
			node:    "n2", victims: "z",
		},
		"nobody is lower": {
			running: []*corev1.Pod{waiting("x", testkit.OnNode("n1"), testkit.WithRequests("2", ""), withPriority(100)), waiting("z", testkit.OnNode("n2"), testkit.WithRequests("2", ""), withPriority(200))},
			message: "preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.Budgets = func(string) ([]*policyv1.PodDisruptionBudget, error) {
				return []*policyv1.PodDisruptionBudget{budget}, nil
			}
			r.addNode(testkit.Node("n1", "2", "4Gi", 10))
			r.addNode(testkit.Node("n2", "2", "4Gi", 10))
			for _, p := range c.running {
				r.Cache.SetPod(p)
			}
			r.Cache.Update(&r.snapshot)
			p := &queue.Pod{PodInfo: framework.NewPodInfo(waiting("urgent", testkit.WithRequests("1", ""), withPriority(100)))}
			state, runner := &framework.CycleState{}, r.Runners[ours]
			_, err := r.schedule(t.Context(), runner, state, p.PodInfo)
			var unfit *FitError
			if !errors.As(err, &unfit) {
				t.Fatalf("schedule: %v, want a FitError", err)
			}
			v, err := r.preempt(t.Context(), runner, state, p, unfit)
			if err != nil {
				t.Fatal(err)
			}
			if v.message != c.message {
				t.Errorf("message is %q, want %q", v.message, c.message)
			}
			if v.chosen == nil {
				if c.node != "" {
					t.Errorf("nothing chosen, want %s on %s", c.victims, c.node)
				}
				return
			}
			var victims []string
			for _, one := range v.chosen.victims {
				victims = append(victims, one.Pod.Name)
			}
			if got := strings.Join(victims, " "); v.chosen.node != c.node || got != c.victims {
				t.Errorf("victims %q on %s, want %q on %s", got, v.chosen.node, c.victims, c.node)
			}
		})
	}
}

func TestEnough(t *testing.T) {
	for _, c := range []struct{ percentage, nodes, want int }{
		{0, 50, 50}, {0, 100, 100}, {0, 1000, 420}, {0, 5000, 500}, {0, 20000, 1000}, {100, 5000, 5000}, {1, 5000, 100}, {30, 1000, 300},
	} {
		s := &Scheduler{Config: Config{PercentageOfNodes: c.percentage}}
		if got := s.enough(c.nodes); got != c.want {
			t.Errorf("%d%% of %d nodes: %d, want %d", c.percentage, c.nodes, got, c.want)
		}
	}
}

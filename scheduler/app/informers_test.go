package app

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/skeg-dev/skeg/internal/testkit"
	schedcache "github.com/skeg-dev/skeg/scheduler/cache"
	"github.com/skeg-dev/skeg/scheduler/framework"
	"github.com/skeg-dev/skeg/scheduler/plugins"
	"github.com/skeg-dev/skeg/scheduler/queue"
)

func TestNodeAction(t *testing.T) {
	cases := map[string]struct {
		change func(*corev1.Node)
		want   framework.Action
	}{
		"heartbeat": {func(n *corev1.Node) {
			n.Status.Conditions[0].LastHeartbeatTime = metav1.NewTime(time.Unix(1, 0))
			n.ResourceVersion = "2"
		}, 0},
		"ready":       {func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse }, framework.UpdateCondition},
		"condition":   {func(n *corev1.Node) { n.Status.Conditions = nil }, framework.UpdateCondition},
		"allocatable": {func(n *corev1.Node) { n.Status.Allocatable = testkit.Resources("8", "8Gi") }, framework.UpdateAllocatable},
		"labels":      {func(n *corev1.Node) { n.Labels = nil }, framework.UpdateLabel},
		"taints":      {func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "k"}} }, framework.UpdateTaint},
		"cordon":      {func(n *corev1.Node) { n.Spec.Unschedulable = true }, framework.UpdateTaint},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			old := testkit.Node("n", "4", "4Gi", 10)
			changed := old.DeepCopy()
			c.change(changed)
			if got := nodeAction(old, changed); got != c.want {
				t.Errorf("got %b, want %b", got, c.want)
			}
		})
	}
}

func TestPodAction(t *testing.T) {
	old := testkit.Pod("a", "p", testkit.OnNode("n"), testkit.WithRequests("1", "1Gi"))
	cases := map[string]struct {
		new  *corev1.Pod
		want framework.Action
	}{
		"status":  {testkit.Pod("a", "p", testkit.OnNode("n"), testkit.WithRequests("1", "1Gi"), testkit.Running("10.0.0.1")), 0},
		"labels":  {testkit.Pod("a", "p", testkit.OnNode("n"), testkit.WithRequests("1", "1Gi"), testkit.WithLabels("a", "b")), framework.UpdateLabel},
		"shrunk":  {testkit.Pod("a", "p", testkit.OnNode("n"), testkit.WithRequests("500m", "1Gi")), framework.ScaleDown},
		"grew":    {testkit.Pod("a", "p", testkit.OnNode("n"), testkit.WithRequests("2", "1Gi")), 0},
		"resized": {testkit.Pod("a", "p", testkit.OnNode("n"), testkit.WithRequests("2", "512Mi"), testkit.WithLabels("a", "b")), framework.UpdateLabel | framework.ScaleDown},
	}
	for name, c := range cases {
		if got := podAction(old, c.new); got != c.want {
			t.Errorf("%s: got %b, want %b", name, got, c.want)
		}
	}
}

// newFeed returns a feed for Pods of the default scheduler.
func newFeed() *feed {
	runner := framework.NewRunner(plugins.Registry(plugins.Config{}))
	return &feed{
		cache: schedcache.New(), queue: queue.New(queue.Config{Framework: runner}),
		ours: func(p *corev1.Pod) bool { return p.Spec.SchedulerName == DefaultSchedulerName },
	}
}

func waiting(name string, options ...testkit.PodOption) *corev1.Pod {
	pod := testkit.Pod("a", name, options...)
	pod.Spec.SchedulerName = DefaultSchedulerName
	return pod
}

func TestFeed(t *testing.T) {
	queued := func(f *feed) int { a, b, u, g := f.queue.Len(); return a + b + u + g }
	placed := func(f *feed) int { _, pods, _ := f.cache.Len(); return pods }
	cases := map[string]struct {
		do             func(f *feed)
		queued, placed int
	}{
		"waiting":         {func(f *feed) { f.podChanged(nil, waiting("p")) }, 1, 0},
		"somebody else's": {func(f *feed) { f.podChanged(nil, testkit.Pod("a", "p")) }, 0, 0},
		"placed":          {func(f *feed) { f.podChanged(nil, testkit.Pod("a", "p", testkit.OnNode("n"))) }, 0, 1},
		"bound": {func(f *feed) {
			f.podChanged(nil, waiting("p"))
			f.podChanged(waiting("p"), waiting("p", testkit.OnNode("n")))
		}, 0, 1},
		"seen late": {func(f *feed) {
			_ = f.cache.Assume(framework.NewPodInfo(waiting("p")), "n")
			f.podChanged(nil, waiting("p"))
		}, 0, 1},
		"deleted while waiting": {func(f *feed) { f.podChanged(nil, waiting("p")); f.podGone(waiting("p")) }, 0, 0},
		"deleted while placed": {func(f *feed) {
			f.podChanged(nil, waiting("p", testkit.OnNode("n")))
			f.podHandler().OnDelete(cache.DeletedFinalStateUnknown{Obj: waiting("p", testkit.OnNode("n"))})
		}, 0, 0},
		"replaced by its namesake": {func(f *feed) {
			old, namesake := waiting("p", testkit.OnNode("n")), waiting("p")
			namesake.UID = "other"
			f.podChanged(nil, old)
			f.podChanged(old, namesake)
		}, 1, 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFeed()
			c.do(f)
			if queued(f) != c.queued || placed(f) != c.placed {
				t.Errorf("%d queued and %d placed, want %d and %d", queued(f), placed(f), c.queued, c.placed)
			}
		})
	}
}

func TestSelectorOf(t *testing.T) {
	web := map[string]string{"app": "web"}
	client := fake.NewClientset(
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web"}, Spec: corev1.ServiceSpec{Selector: web}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "bare"}},
		&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web-1"}, Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"hash": "1"}}}})
	factory := informers.NewSharedInformerFactory(client, 0)
	known := newLookups(factory)
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
	owned := testkit.Pod("a", "p", testkit.WithLabels("app", "web", "hash", "1"))
	owned.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-1", Controller: ptr.To(true)}}
	for want, pod := range map[string]*corev1.Pod{
		"app=web,hash=1": owned,
		"app=web":        testkit.Pod("a", "q", testkit.WithLabels("app", "web")),
		"":               testkit.Pod("b", "r", testkit.WithLabels("app", "web")),
	} {
		if got := known.SelectorOf(pod).String(); got != want {
			t.Errorf("pod %s: %q, want %q", pod.Name, got, want)
		}
	}
}

func TestOptions(t *testing.T) {
	cases := map[string]struct {
		change func(*Options)
		faults int
	}{
		"defaults":       {func(o *Options) { o.Kubeconfig = "f" }, 0},
		"no api server":  {func(*Options) {}, 1},
		"no name":        {func(o *Options) { o.Master, o.SchedulerName = "x", "" }, 1},
		"bad percentage": {func(o *Options) { o.Master, o.PercentageOfNodes = "x", 101 }, 1},
		"all faults":     {func(o *Options) { o.SchedulerName, o.PercentageOfNodes = "", -1 }, 3},
	}
	for name, c := range cases {
		o := DefaultOptions()
		c.change(o)
		if errs := o.Validate(); len(errs) != c.faults {
			t.Errorf("%s: %d faults %v, want %d", name, len(errs), errs, c.faults)
		}
	}
}

package cycle

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/skeg-dev/skeg/internal/testkit"
	"github.com/skeg-dev/skeg/scheduler/cache"
	"github.com/skeg-dev/skeg/scheduler/framework"
	"github.com/skeg-dev/skeg/scheduler/plugins"
	"github.com/skeg-dev/skeg/scheduler/queue"
)

// byApp is what the default spreading sees of a Deployment.
type byApp struct{}

func (byApp) SelectorOf(pod *corev1.Pod) labels.Selector {
	return labels.SelectorFromSet(labels.Set{"app": pod.Labels["app"]})
}

var web = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}

// loads are the kinds of Pods; apps is into how many workloads they divide.
var loads = map[string]struct {
	apps   int
	change func(*corev1.Pod)
}{
	"plain": {apps: 50},
	"antiaffinity": {apps: 1, change: func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelHostname, LabelSelector: web}},
		}}
	}},
	"spread": {apps: 1, change: func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{
			{TopologyKey: corev1.LabelTopologyZone, MaxSkew: 1, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: web},
			{TopologyKey: corev1.LabelHostname, MaxSkew: 1, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: web},
		}
	}},
}

// BenchmarkSchedule places as many Pods as there are nodes, each iteration on
// an empty cluster; the API is a function call away, so it measures the
// scheduler alone.
func BenchmarkSchedule(b *testing.B) {
	for _, nodes := range []int{1000, 5000} {
		for _, name := range []string{"plain", "antiaffinity", "spread"} {
			b.Run(fmt.Sprintf("%s/nodes=%d", name, nodes), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					place(b, name, nodes)
				}
				b.ReportMetric(float64(nodes*b.N)/b.Elapsed().Seconds(), "pods/s")
			})
		}
	}
}

// place schedules count Pods on count nodes.
func place(b *testing.B, name string, count int) {
	b.StopTimer()
	runner := framework.NewRunner(plugins.Registry(plugins.Config{Workloads: byApp{}}))
	q, c := queue.New(queue.Config{Framework: runner}), cache.New()
	for i := range count {
		node := testkit.Node(fmt.Sprintf("node-%d", i), "16", "64Gi", 110)
		node.Labels[corev1.LabelTopologyZone] = fmt.Sprint("zone-", i%3)
		c.SetNode(node)
	}
	pods := make(map[string]*corev1.Pod, count)
	load := loads[name]
	for i := range count {
		app := "web"
		if load.apps > 1 {
			app = fmt.Sprint("web-", i%load.apps)
		}
		pod := waiting(fmt.Sprint("pod-", i), testkit.WithLabels("app", app), testkit.WithRequests("100m", "128Mi"))
		if load.change != nil {
			load.change(pod)
		}
		pods[pod.Name] = pod
		q.Add(pod)
	}
	var left sync.WaitGroup
	left.Add(count)
	client := &fake.Clientset{}
	client.AddReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		binding := a.(clienttesting.CreateAction).GetObject().(*corev1.Binding)
		bound := *pods[binding.Name]
		bound.Spec.NodeName = binding.Target.Name
		c.SetPod(&bound)
		q.Delete(bound.UID)
		q.Notify(framework.ClusterEvent{Kind: framework.AssignedPod, Action: framework.Add, Label: "AssignedPodAdd"}, nil, &bound)
		left.Done()
		return true, binding, nil
	})
	s := New(Config{
		Client: client, Queue: q, Cache: c, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Runners: map[string]*framework.Runner{ours: runner},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	b.StartTimer()
	loop.Go(func() { _ = s.Run(ctx) }) // always nil
	left.Wait()
	b.StopTimer()
	cancel()
	loop.Wait()
	b.StartTimer()
}

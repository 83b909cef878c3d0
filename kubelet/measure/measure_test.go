package measure

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-base/metrics"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/kubelet/checkpoint"
	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/container/containertest"
	"github.com/skeg-dev/skeg/kubelet/lifecycle"
	"github.com/skeg-dev/skeg/kubelet/lifecycle/lifecycletest"
	"github.com/skeg-dev/skeg/kubelet/podworker"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// registered is a Set and what it would serve.
func registered() (*Set, metrics.KubeRegistry) {
	set, registry := New(clock.RealClock{}), metrics.NewKubeRegistry()
	set.Register("node-a", registry.MustRegister, registry.CustomMustRegister)
	return set, registry
}

// value is that of a gauge or counter, or a histogram's count; -1 without one.
// labels is "name=value".
func value(t *testing.T, registry metrics.KubeRegistry, name string, labels ...string) float64 {
	t.Helper()
	families, err := registry.Gather()
	must(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && matches(m, labels) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return -1
}

func matches(m *dto.Metric, labels []string) bool {
	var have []string
	for _, pair := range m.GetLabel() {
		have = append(have, pair.GetName()+"="+pair.GetValue())
	}
	return strings.Join(have, ",") == strings.Join(labels, ",")
}

func TestRuntimeCounts(t *testing.T) {
	set, registry := registered()
	fake := containertest.NewFake()
	runtime := set.Runtime(fake)
	ctx := t.Context()
	id := container.ID{Pod: "u", Name: "c"}
	must(t, runtime.EnsureSandbox(ctx, container.SandboxSpec{Pod: "u"}))
	must(t, runtime.Create(ctx, container.Spec{ID: id, Args: []string{"serve"}}))
	must(t, runtime.Start(ctx, id))
	if _, err := runtime.Stats(ctx, "u"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := runtime.Start(ctx, container.ID{Pod: "u", Name: "other"}); !errors.Is(err, container.ErrNotFound) {
			t.Fatalf("start of what is not there: %v", err)
		}
	}
	must(t, runtime.Stop(ctx, id, 0))
	must(t, runtime.Remove(ctx, id))
	if all, err := runtime.ListSandboxes(ctx); err != nil || len(all) != 1 {
		t.Fatalf("sandboxes: %v, %v", all, err)
	}
	must(t, runtime.RemoveSandbox(ctx, "u"))
	for operation, want := range map[string]float64{
		"run_podsandbox": 1, "create_container": 1, "start_container": 3, "podsandbox_stats": 1, "stop_container": 1,
		"remove_container": 1, "list_podsandbox": 1, "remove_podsandbox": 1,
	} {
		label := "operation_type=" + operation
		if got := value(t, registry, "kubelet_runtime_operations_total", label); got != want {
			t.Errorf("%s: %v operations, want %v", operation, got, want)
		}
		if got := value(t, registry, "kubelet_runtime_operations_duration_seconds", label); got != want {
			t.Errorf("%s: %v durations, want %v", operation, got, want)
		}
	}
	if got := value(t, registry, "kubelet_runtime_operations_errors_total", "operation_type=start_container"); got != 2 {
		t.Errorf("%v errors of start, want 2", got)
	}
	if got := value(t, registry, "kubelet_runtime_operations_errors_total", "operation_type=stop_container"); got != -1 {
		t.Errorf("%v errors of stop, want none", got)
	}
}

func TestFullListsAreTimed(t *testing.T) {
	set, registry := registered()
	runtime := set.Runtime(containertest.NewFake())
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		events := runtime.Subscribe(ctx)
		if first := <-events; first.Full == nil {
			t.Fatalf("first event is no full list: %+v", first)
		}
		cancel()
		for range events { // closed once ctx ended
		}
	}
	if got := value(t, registry, "kubelet_pleg_relist_duration_seconds"); got != 2 {
		t.Errorf("%v durations, want 2", got)
	}
	if got := value(t, registry, "kubelet_pleg_relist_interval_seconds"); got != 1 {
		t.Errorf("%v intervals, want 1", got)
	}
}

func testPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", UID: "a-uid", Generation: 1},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: ptr.To[int64](30),
			Containers: []corev1.Container{{Name: "web", Image: "web:1", ImagePullPolicy: corev1.PullIfNotPresent}},
			Volumes:    []corev1.Volume{{Name: "scratch"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBestEffort},
	}
}

// sink takes statuses and forgets them.
type sink struct{}

func (sink) Set(*corev1.Pod, corev1.PodStatus) {}
func (sink) Finish(*corev1.Pod)                {}
func (sink) Forget(types.UID)                  {}

// newPool is a pool of Pods on fakes, measured as in app/.
func newPool(t *testing.T, set *Set, fake container.Runtime) *podworker.Pool {
	checkpoints, err := checkpoint.New(t.TempDir())
	must(t, err)
	node, runtime := lifecycletest.NewNode(), set.Runtime(fake)
	hostIPs := func() []string { return []string{"192.0.2.1"} }
	api := &corev1.Node{Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourcePods: resource.MustParse("10"),
	}}}
	images := set.Images(node)
	puller := &lifecycle.Puller{Images: images, Recorder: node, Clock: clock.RealClock{}}
	root := t.TempDir()
	parts := lifecycle.Parts{
		Admit:      &lifecycle.Admit{Node: func() (*corev1.Node, error) { return api, nil }},
		Dirs:       &lifecycle.Dirs{Root: root, LogRoot: root + "/log"},
		Cgroup:     &lifecycle.Cgroup{Cgroups: set.Cgroups(node)},
		Networking: &lifecycle.Networking{Network: node, Environment: node, HostIPs: hostIPs},
		Mounting:   &lifecycle.Mounting{Volumes: set.Volumes(node)}, Images: puller,
		Containers: &lifecycle.Containers{
			Runtime: runtime, Images: images, Puller: puller, Volumes: node, Environment: node, Recorder: node, Clock: clock.RealClock{},
		},
		Probing: &lifecycle.Probing{Probes: node},
	}
	return podworker.NewPool(podworker.Config{
		Hooks: lifecycle.Registry(parts), Resizer: lifecycle.NewResizer(parts), Containers: parts.Containers, Dirs: parts.Dirs,
		Runtime: runtime, Probes: node, Status: set.Statuses(sink{}), Looked: set.Looked, Checkpoints: checkpoints, Recorder: node,
		Clock: clock.RealClock{}, Logger: slog.New(slog.DiscardHandler), Restore: parts.Admit.Restore, HostIPs: hostIPs, BootID: "boot",
		ResetSandbox: func(context.Context, types.UID) error { return nil },
	})
}

func TestPodIsSeenOnMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, registry := registered()
		fake := containertest.NewFake()
		pool := newPool(t, set, fake)
		set.Watch(Sources{
			Sandboxes: fake.ListSandboxes, Pods: pool.Pods, Logger: slog.New(slog.DiscardHandler),
			Driver:       func(*corev1.Volume) string { return "kubernetes.io/empty-dir" },
			ServerExpiry: func() time.Time { return time.Now().Add(time.Hour) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- pool.Run(ctx) }()
		synctest.Wait()
		pod := testPod()
		pool.Apply(pod)
		synctest.Wait()
		set.Evicted("memory.available")
		driver := "plugin_name=kubernetes.io/empty-dir"
		for series, want := range map[string]float64{
			"kubelet_node_name node=node-a":                                            1,
			"kubelet_running_pods":                                                     1,
			"kubelet_running_containers container_state=running":                       1,
			"kubelet_running_containers container_state=exited":                        0,
			"kubelet_runtime_operations_total operation_type=start_container":          1,
			"kubelet_runtime_operations_total operation_type=pull_image":               1,
			"kubelet_pod_start_duration_seconds":                                       1,
			"kubelet_pod_worker_duration_seconds operation_type=create":                1,
			"kubelet_pleg_relist_duration_seconds":                                     1,
			"kubelet_pleg_relist_interval_seconds":                                     0,
			"kubelet_cgroup_manager_duration_seconds operation_type=create":            1,
			"kubelet_evictions eviction_signal=memory.available":                       1,
			"kubelet_node_config_error":                                                0,
			"kubelet_server_expiration_renew_errors":                                   0,
			"kubelet_certificate_manager_client_expiration_renew_errors":               0,
			"kubelet_certificate_manager_server_ttl_seconds":                           3600,
			"volume_manager_total_volumes " + driver + " state=desired_state_of_world": 1,
			"volume_manager_total_volumes " + driver + " state=actual_state_of_world":  1,
		} {
			fields := strings.Fields(series)
			if got := value(t, registry, fields[0], fields[1:]...); got != want {
				t.Errorf("%s is %v, want %v", series, got, want)
			}
		}
		if got := value(t, registry, "kubelet_certificate_manager_client_ttl_seconds"); got < 1e300 {
			t.Errorf("a client certificate that is not kept ends in %v s", got)
		}
		gone := pod.DeepCopy()
		gone.DeletionTimestamp, gone.DeletionGracePeriodSeconds = ptr.To(metav1.Now()), ptr.To[int64](30)
		pool.Apply(gone)
		synctest.Wait()
		if got := value(t, registry, "volume_manager_total_volumes", driver, "state=actual_state_of_world"); got != -1 {
			t.Errorf("%v volumes after the pod", got)
		}
		if got := value(t, registry, "kubelet_running_containers", "container_state=running"); got != 0 {
			t.Errorf("%v containers run after the pod", got)
		}
		cancel()
		must(t, <-done)
	})
}

func TestRuntimeIsARuntime(t *testing.T) {
	t.Parallel()
	containertest.Suite(t, func(*testing.T) containertest.Fixture {
		set, _ := registered()
		fake := containertest.NewFake()
		return containertest.Fixture{
			Runtime: set.Runtime(fake),
			Sandbox: func(_ *testing.T, spec container.SandboxSpec) container.SandboxSpec { return spec },
			Reopen:  func(*testing.T) container.Runtime { return set.Runtime(fake) },
		}
	})
}

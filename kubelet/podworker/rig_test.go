package podworker

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/kubelet/checkpoint"
	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/container/containertest"
	"github.com/skeg-dev/skeg/kubelet/lifecycle"
	"github.com/skeg-dev/skeg/kubelet/lifecycle/lifecycletest"
)

// sink keeps what the workers report.
type sink struct {
	mu       sync.Mutex
	statuses map[types.UID]corev1.PodStatus
	finished map[types.UID]bool
	history  []corev1.PodStatus
}

func (s *sink) Set(pod *corev1.Pod, status corev1.PodStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statuses[pod.UID] = *status.DeepCopy()
	s.history = append(s.history, *status.DeepCopy())
}

func (s *sink) Finish(pod *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished[pod.UID] = true
}

func (s *sink) Forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.statuses, uid)
}

// rig is a node without a network, disk or processes.
type rig struct {
	t       *testing.T
	root    string
	runtime *containertest.Fake
	node    *lifecycletest.Node
	api     *corev1.Node
	sink    *sink
	pool    *Pool
	boot    string
	cancel  context.CancelFunc
	done    chan error
}

func newRig(t *testing.T) *rig {
	r := &rig{
		t: t, root: t.TempDir(), runtime: containertest.NewFake(), node: lifecycletest.NewNode(), boot: "boot-1",
		sink: &sink{statuses: map[types.UID]corev1.PodStatus{}, finished: map[types.UID]bool{}},
		api: &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"disk": "ssd"}},
			Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("1Gi"),
				corev1.ResourcePods: resource.MustParse("10"),
			}},
		},
	}
	r.start()
	t.Cleanup(func() {
		r.stop()
		list, err := r.runtime.ListSandboxes(context.Background())
		if err != nil {
			t.Error(err)
		}
		for _, sandbox := range list {
			if err := r.runtime.RemoveSandbox(context.Background(), sandbox.Pod); err != nil {
				t.Error(err)
			}
		}
	})
	return r
}

// start runs a kubelet core on what is there.
func (r *rig) start() {
	checkpoints, err := checkpoint.New(r.root + "/checkpoint")
	if err != nil {
		r.t.Fatal(err)
	}
	dirs := &lifecycle.Dirs{Root: r.root, LogRoot: r.root + "/log"}
	admit := &lifecycle.Admit{Node: func() (*corev1.Node, error) { return r.api, nil }}
	networking := &lifecycle.Networking{Network: r.node, Environment: r.node, HostIPs: func() []string { return []string{"192.0.2.1"} }}
	puller := &lifecycle.Puller{Images: r.node, Recorder: r.node, Clock: clock.RealClock{}}
	containers := &lifecycle.Containers{
		Runtime: r.runtime, Images: r.node, Puller: puller, Volumes: r.node, Environment: r.node, Recorder: r.node,
		Clock: clock.RealClock{},
	}
	parts := lifecycle.Parts{
		Admit: admit, Dirs: dirs, Cgroup: &lifecycle.Cgroup{Cgroups: r.node}, Networking: networking,
		Mounting: &lifecycle.Mounting{Volumes: r.node}, Images: puller, Containers: containers,
		Probing: &lifecycle.Probing{Probes: r.node},
	}
	r.pool = NewPool(Config{
		Hooks: lifecycle.Registry(parts), Resizer: lifecycle.NewResizer(parts),
		Containers: containers, Dirs: dirs, Runtime: r.runtime, Probes: r.node, Status: r.sink, Checkpoints: checkpoints,
		Recorder: r.node, Clock: clock.RealClock{}, Logger: slog.New(slog.DiscardHandler), Restore: admit.Restore,
		ResetSandbox: func(ctx context.Context, uid types.UID) error {
			return errors.Join(containers.Cleanup(ctx, uid), networking.Cleanup(ctx, uid))
		},
		HostIPs: func() []string { return []string{"192.0.2.1"} },
		BootID:  r.boot,
	})
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.done = cancel, make(chan error, 1)
	go func() { r.done <- r.pool.Run(ctx) }()
	synctest.Wait()
}

func (r *rig) stop() {
	r.cancel()
	if err := <-r.done; err != nil {
		r.t.Errorf("pool ended: %v", err)
	}
	r.cancel, r.done = func() {}, make(chan error, 1)
	r.done <- nil
}

func (r *rig) status(uid types.UID) corev1.PodStatus {
	synctest.Wait()
	r.sink.mu.Lock()
	defer r.sink.mu.Unlock()
	return r.sink.statuses[uid]
}

func (r *rig) finished(uid types.UID) bool {
	synctest.Wait()
	r.sink.mu.Lock()
	defer r.sink.mu.Unlock()
	return r.sink.finished[uid]
}

func (r *rig) hasEvent(part string) bool {
	return slices.ContainsFunc(r.node.Events(), func(e string) bool { return strings.Contains(e, part) })
}

func testPod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name + "-uid"), Generation: 1, ResourceVersion: "1"},
		Spec: corev1.PodSpec{
			RestartPolicy:                 corev1.RestartPolicyAlways,
			TerminationGracePeriodSeconds: ptr.To[int64](30),
			Containers:                    []corev1.Container{{Name: "web", Image: "web:1", ImagePullPolicy: corev1.PullIfNotPresent}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBestEffort},
	}
	for _, c := range change {
		c(pod)
	}
	return pod
}

func id(pod *corev1.Pod, name string, attempt int) container.ID {
	return container.ID{Pod: pod.UID, Name: name, Attempt: attempt}
}

func deleted(pod *corev1.Pod, grace int64) *corev1.Pod {
	gone := pod.DeepCopy()
	gone.DeletionTimestamp = ptr.To(metav1.Now())
	gone.DeletionGracePeriodSeconds = &grace
	gone.ResourceVersion = "9"
	return gone
}

func conditionOf(status corev1.PodStatus, kind corev1.PodConditionType) corev1.ConditionStatus {
	if c := findCondition(status.Conditions, kind); c != nil {
		return c.Status
	}
	return ""
}

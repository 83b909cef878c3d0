package eviction

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
)

// host is a node whose levels a test sets.
type host struct {
	levels    map[Signal]Level
	pods      []*corev1.Pod
	usage     map[types.UID]Usage
	evicted   []string
	messages  []string
	reclaimed int
	onReclaim func()
	changes   int
}

func (h *host) manager(now *testclock.FakeClock) *Manager {
	return New(Config{
		Thresholds: []Threshold{{Signal: NodeFSAvailable, Percent: 10}, {Signal: MemoryAvailable, Amount: 100 << 20}},
		Observe:    func() (map[Signal]Level, error) { return h.levels, nil },
		Pods:       func() []*corev1.Pod { return h.pods },
		Usage:      func(_ context.Context, uid types.UID) (Usage, error) { return h.usage[uid], nil },
		Evict: func(uid types.UID, reason, message string, _ time.Duration) bool {
			h.evicted = append(h.evicted, string(uid)+" "+reason)
			h.messages = append(h.messages, message)
			return true
		},
		ReclaimDisk: func(context.Context) error {
			h.reclaimed++
			if h.onReclaim != nil {
				h.onReclaim()
			}
			return nil
		},
		Changed: func() { h.changes++ }, Clock: now, Logger: slog.New(slog.DiscardHandler),
	})
}

func pod(uid string, priority int32, memory string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: uid, UID: types.UID(uid)},
		Spec: corev1.PodSpec{Priority: ptr.To(priority), Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)},
		}}}},
	}
}

func TestMemoryPressureEvictsTheRightPod(t *testing.T) {
	t.Parallel()
	now := testclock.NewFakeClock(time.Unix(1000, 0))
	h := &host{
		levels: map[Signal]Level{MemoryAvailable: {Available: 50 << 20, Capacity: 1 << 30}},
		pods: []*corev1.Pod{
			pod("modest", 0, "200Mi"), pod("important", 100, "10Mi"), pod("greedy", 0, "10Mi"), pod("greediest", 0, "10Mi"),
			pod("critical", 2_000_001_000, "10Mi"),
		},
		usage: map[types.UID]Usage{
			"modest": {MemoryBytes: 100 << 20}, "important": {MemoryBytes: 400 << 20}, "greedy": {MemoryBytes: 50 << 20},
			"greediest": {MemoryBytes: 80 << 20}, "critical": {MemoryBytes: 900 << 20},
		},
	}
	m := h.manager(now)
	var order []string
	for _, p := range m.rank(t.Context(), MemoryAvailable) {
		order = append(order, p.Name)
	}
	if got := strings.Join(order, " "); got != "greediest greedy important modest" {
		t.Errorf("order %s", got)
	}
	if err := m.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if strings.Join(h.evicted, ",") != "greediest Evicted" || h.reclaimed != 0 {
		t.Errorf("evicted %v, reclaimed %d times", h.evicted, h.reclaimed)
	}
	if want := "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "; h.messages[0] != want {
		t.Errorf("message %q", h.messages[0])
	}
	if !m.Pressure(corev1.NodeMemoryPressure) || m.Pressure(corev1.NodeDiskPressure) || h.changes != 1 {
		t.Errorf("pressure is wrong after %d changes", h.changes)
	}
	h.levels[MemoryAvailable] = Level{Available: 500 << 20, Capacity: 1 << 30}
	now.Step(settle - time.Second)
	if err := m.sync(t.Context()); err != nil || !m.Pressure(corev1.NodeMemoryPressure) {
		t.Errorf("pressure ended too early: %v", err)
	}
	now.Step(time.Second)
	if err := m.sync(t.Context()); err != nil || m.Pressure(corev1.NodeMemoryPressure) || h.changes != 2 {
		t.Errorf("pressure did not end: %v, %d changes", err, h.changes)
	}
}

func TestDiskPressureRemovesImagesFirst(t *testing.T) {
	t.Parallel()
	h := &host{
		levels: map[Signal]Level{NodeFSAvailable: {Available: 5, Capacity: 100}},
		pods:   []*corev1.Pod{pod("a", 0, "1Mi")}, usage: map[types.UID]Usage{},
	}
	h.onReclaim = func() { h.levels[NodeFSAvailable] = Level{Available: 50, Capacity: 100} }
	m := h.manager(testclock.NewFakeClock(time.Unix(1000, 0)))
	if err := m.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h.reclaimed != 1 || len(h.evicted) != 0 || !m.Pressure(corev1.NodeDiskPressure) {
		t.Errorf("reclaimed %d times, evicted %v", h.reclaimed, h.evicted)
	}
	h.onReclaim = nil
	h.levels[NodeFSAvailable] = Level{Available: 5, Capacity: 100}
	if err := m.sync(t.Context()); err != nil || len(h.evicted) != 1 {
		t.Errorf("evicted %v, %v", h.evicted, err)
	}
}

func TestObserveHost(t *testing.T) {
	t.Parallel()
	levels, err := ObserveHost(os.TempDir(), os.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, signal := range []Signal{MemoryAvailable, NodeFSAvailable, ImageFSAvailable, PIDAvailable} {
		if level := levels[signal]; level.Available <= 0 || level.Capacity < level.Available {
			t.Errorf("%s: %+v", signal, level)
		}
	}
}

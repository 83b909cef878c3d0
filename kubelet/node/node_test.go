package node

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"
)

func testMachine() *Machine {
	return &Machine{
		capacity: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi")},
		info:     corev1.NodeSystemInfo{BootID: "b", KubeletVersion: "v1.37.2"},
	}
}

// state is what a test changes while the node runs.
type state struct {
	mu       sync.Mutex
	notReady error
	pressure Pressure
}

func (s *state) set(change func(*state)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func startNode(t *testing.T, client *fake.Clientset, s *state) *Node {
	t.Helper()
	n, err := New(Config{
		Name: "n1", Client: client, Machine: testMachine(), Labels: map[string]string{"disk": "ssd"},
		Taints:   []corev1.Taint{{Key: "dedicated", Value: "x", Effect: corev1.TaintEffectNoSchedule}},
		Register: true, IPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, MaxPods: 110,
		Reserved: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}, ServerPort: 10250,
		Pressure: func() Pressure { s.mu.Lock(); defer s.mu.Unlock(); return s.pressure },
		NotReady: func() error { s.mu.Lock(); defer s.mu.Unlock(); return s.notReady },
		Images: func(context.Context) ([]corev1.ContainerImage, error) {
			return []corev1.ContainerImage{{Names: []string{"a:1"}, SizeBytes: 1}}, nil
		},
		Every: 10 * time.Second, Report: 5 * time.Minute, Clock: clock.RealClock{}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, n.Run)
	return n
}

func run(t *testing.T, part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- part(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func getNode(t *testing.T, client *fake.Clientset) *corev1.Node {
	t.Helper()
	synctest.Wait()
	node, err := client.CoreV1().Nodes().Get(context.Background(), "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return node
}

func conditionOf(node *corev1.Node, kind corev1.NodeConditionType) corev1.NodeCondition {
	for _, c := range node.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.NodeCondition{}
}

func TestRegistersAndReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		s := &state{notReady: errors.New("network not ready")}
		n := startNode(t, client, s)
		node := getNode(t, client)
		if node.Labels["disk"] != "ssd" || node.Labels[corev1.LabelHostname] != "n1" || len(node.Spec.Taints) != 1 {
			t.Errorf("node: %+v", node.ObjectMeta)
		}
		if cpu := node.Status.Allocatable[corev1.ResourceCPU]; cpu.MilliValue() != 3500 {
			t.Errorf("allocatable cpu %s", cpu.String())
		}
		if c := conditionOf(node, corev1.NodeReady); c.Status != corev1.ConditionFalse || c.Reason != "KubeletNotReady" || c.Message != "network not ready" {
			t.Errorf("ready: %+v", c)
		}
		s.set(func(s *state) { s.notReady = nil })
		time.Sleep(time.Second)
		if c := conditionOf(getNode(t, client), corev1.NodeReady); c.Status != corev1.ConditionTrue || c.Reason != "KubeletReady" {
			t.Errorf("ready: %+v", c)
		}
		if err := n.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		s.set(func(s *state) { s.pressure.Memory = true })
		n.Changed()
		if c := conditionOf(getNode(t, client), corev1.NodeMemoryPressure); c.Status != corev1.ConditionTrue {
			t.Errorf("memory pressure: %+v", c)
		}
	})
}

func TestReportsOnlyChangesAndHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		startNode(t, client, &state{})
		time.Sleep(30 * time.Second)
		patches := func() (count int) {
			synctest.Wait()
			for _, action := range client.Actions() {
				if _, ok := action.(clienttesting.PatchAction); ok {
					count++
				}
			}
			return count
		}
		if before := patches(); before != 0 {
			t.Errorf("%d patches without a change", before)
		}
		beat := conditionOf(getNode(t, client), corev1.NodeReady).LastHeartbeatTime
		time.Sleep(5 * time.Minute)
		if count := patches(); count != 1 {
			t.Errorf("%d patches in five minutes, want 1", count)
		}
		if c := conditionOf(getNode(t, client), corev1.NodeReady); !c.LastHeartbeatTime.After(beat.Time) || c.LastTransitionTime.After(beat.Time) {
			t.Errorf("ready: %+v", c)
		}
	})
}

func TestTakesOverAndRegistersAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "old", Labels: map[string]string{"mine": "kept"}},
			Spec:       corev1.NodeSpec{Unschedulable: true, PodCIDR: "10.1.0.0/24"},
		})
		startNode(t, client, &state{})
		node := getNode(t, client)
		if node.Labels["mine"] != "kept" || node.Labels[corev1.LabelHostname] != "n1" || !node.Spec.Unschedulable || len(node.Status.Addresses) != 2 {
			t.Errorf("node: %+v", node)
		}
		if err := client.CoreV1().Nodes().Delete(t.Context(), "n1", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if node := getNode(t, client); node.Spec.Unschedulable {
			t.Errorf("node is not new: %+v", node)
		}
	})
}

func TestRestartKeepsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "old"},
			Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
		})
		startNode(t, client, &state{notReady: errors.New("just starting")})
		if c := conditionOf(getNode(t, client), corev1.NodeReady); c.Status != corev1.ConditionTrue {
			t.Errorf("ready at start: %+v", c)
		}
		time.Sleep(startGrace + time.Second)
		if c := conditionOf(getNode(t, client), corev1.NodeReady); c.Status != corev1.ConditionFalse {
			t.Errorf("ready later: %+v", c)
		}
	})
}

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		owner := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "u"}}
		lease := &Lease{
			Client: client, Name: "n1", Duration: 40 * time.Second, Owner: func() (*corev1.Node, error) { return owner, nil },
			Clock: clock.RealClock{}, Logger: slog.New(slog.DiscardHandler),
		}
		run(t, lease.Run)
		get := func() *coordinationv1.Lease {
			synctest.Wait()
			got, err := client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(context.Background(), "n1", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		first := get()
		if *first.Spec.LeaseDurationSeconds != 40 || *first.Spec.HolderIdentity != "n1" || first.OwnerReferences[0].UID != "u" {
			t.Errorf("lease: %+v", first)
		}
		time.Sleep(11 * time.Second)
		if second := get(); !second.Spec.RenewTime.After(first.Spec.RenewTime.Time) {
			t.Error("not renewed")
		}
		if err := client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Delete(t.Context(), "n1", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		get()
		if err := lease.Ready(); err != nil {
			t.Error(err)
		}
	})
}

func TestReadMachine(t *testing.T) {
	t.Parallel()
	m, err := ReadMachine(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	info := m.Info()
	if m.MemoryBytes() == 0 || info.BootID == "" || info.KernelVersion == "" || info.OSImage == "" {
		t.Errorf("machine: %+v", m)
	}
}

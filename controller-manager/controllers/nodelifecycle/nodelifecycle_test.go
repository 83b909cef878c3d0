package nodelifecycle

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
	"github.com/skeg-dev/skeg/controller-manager/reconcile/reconciletest"
)

func node(name string, ready corev1.ConditionStatus, taints ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if ready != "" {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, LastHeartbeatTime: metav1.Now()}}
	}
	for _, t := range taints {
		key, effect, _ := strings.Cut(t, ":")
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffect(effect)})
	}
	return n
}

func texts(taints []corev1.Taint) string {
	var all []string
	for _, t := range taints {
		all = append(all, strings.TrimPrefix(t.Key, "node.kubernetes.io/")+":"+string(t.Effect))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestFollowConditions(t *testing.T) {
	t.Parallel()
	const prefix = "node.kubernetes.io/"
	cordoned := node("n", corev1.ConditionTrue)
	cordoned.Spec.Unschedulable = true
	pressed := node("n", corev1.ConditionTrue)
	pressed.Status.Conditions = append(pressed.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue})
	cases := []struct {
		name   string
		node   *corev1.Node
		want   string
		differ bool
	}{
		{"ready", node("n", corev1.ConditionTrue), "", false},
		{"never reported", node("n", "", prefix+"not-ready:NoSchedule"), "", true},
		{"not ready", node("n", corev1.ConditionFalse), "not-ready:NoSchedule", true},
		{"lost", node("n", corev1.ConditionUnknown), "unreachable:NoSchedule", true},
		{"back", node("n", corev1.ConditionTrue, prefix+"unreachable:NoSchedule", prefix+"unreachable:NoExecute"), "", true},
		{"given up for another reason", node("n", corev1.ConditionUnknown, prefix+"not-ready:NoExecute"), "unreachable:NoExecute unreachable:NoSchedule", true},
		{"right already", node("n", corev1.ConditionUnknown, prefix+"unreachable:NoExecute", prefix+"unreachable:NoSchedule"), "unreachable:NoExecute unreachable:NoSchedule", false},
		{"others stay", node("n", corev1.ConditionTrue, "mine:NoExecute", "mine:NoSchedule"), "mine:NoExecute mine:NoSchedule", false},
		{"cordoned", cordoned, "unschedulable:NoSchedule", true},
		{"disk pressure", pressed, "disk-pressure:NoSchedule", true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			taints, differ := followConditions(tc.node, time.Now())
			if got := texts(taints); got != tc.want || differ != tc.differ {
				t.Errorf("taints %q differ %v, want %q %v", got, differ, tc.want, tc.differ)
			}
		})
	}
}

func TestJudgeZone(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		ready, lost int
		want        zoneState
	}{{0, 0, zoneNormal}, {1, 1, zoneNormal}, {0, 1, zoneFull}, {1, 2, zoneNormal}, {2, 3, zonePartial}, {6, 3, zoneNormal}} {
		if got := judgeZone(tc.ready, tc.lost, 0.55); got != tc.want {
			t.Errorf("%d ready %d lost: %v, want %v", tc.ready, tc.lost, got, tc.want)
		}
	}
}

// A silent node becomes Unknown after the grace period, is tainted, and its
// pods leave their Services; the node that renews its lease stays as it is.
func TestSilentNodeIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := reconciletest.New(t, node("silent", corev1.ConditionTrue), node("alive", corev1.ConditionTrue),
			&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: "alive"}},
			&corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}, Spec: corev1.PodSpec{NodeName: "silent"},
				Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
			})
		controller, err := New(c.Env, Defaults())
		if err != nil {
			t.Fatal(err)
		}
		c.Start(controller)
		renew := func() {
			lease, err := c.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(t.Context(), "alive", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			now := metav1.NowMicro()
			lease.Spec.RenewTime = &now
			if _, err := c.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Update(t.Context(), lease, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		get := func(name string) *corev1.Node {
			n, err := c.Client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		for range 4 { // 40 s: within the grace
			<-time.After(10 * time.Second)
			renew()
		}
		if got := condition(get("silent"), corev1.NodeReady).Status; got != corev1.ConditionTrue {
			t.Errorf("before the grace is over the node is %s", got)
		}
		for range 3 {
			<-time.After(10 * time.Second)
			renew()
		}
		synctest.Wait()
		silent := get("silent")
		if got := condition(silent, corev1.NodeReady); got.Status != corev1.ConditionUnknown || got.Reason != "NodeStatusUnknown" {
			t.Errorf("after it the node is %+v", got)
		}
		if got := texts(silent.Spec.Taints); got != "unreachable:NoExecute unreachable:NoSchedule" {
			t.Errorf("taints of the silent node: %s", got)
		}
		if alive := get("alive"); condition(alive, corev1.NodeReady).Status != corev1.ConditionTrue || len(alive.Spec.Taints) > 0 {
			t.Errorf("the node that is alive: %+v", alive)
		}
		pod, err := c.Client.CoreV1().Pods("default").Get(t.Context(), "p", metav1.GetOptions{})
		if err != nil || podcontrol.Ready(pod) {
			t.Errorf("pod of the silent node is still ready (%v)", err)
		}
	})
}

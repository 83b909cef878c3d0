package podcontrol_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
)

func TestSortForDeletion(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	pod := func(name, node string, phase corev1.PodPhase, readyFor time.Duration, restarts int32, cost string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(now.Add(-time.Hour))}}
		p.Spec.NodeName, p.Status.Phase = node, phase
		if readyFor > 0 {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-readyFor))}}
		}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: restarts}}
		if cost != "" {
			p.Annotations = map[string]string{corev1.PodDeletionCost: cost}
		}
		return p
	}
	pods := []*corev1.Pod{
		pod("long-ready", "n", corev1.PodRunning, time.Hour, 0, ""),
		pod("short-ready", "n", corev1.PodRunning, time.Minute, 0, ""),
		pod("crowded", "m", corev1.PodRunning, time.Hour, 0, ""),
		pod("expensive", "n", corev1.PodRunning, time.Hour, 0, "10"),
		pod("cheap", "n", corev1.PodRunning, time.Hour, 0, "-5"),
		pod("unready", "n", corev1.PodRunning, 0, 0, ""),
		pod("crashing", "n", corev1.PodRunning, 0, 9, ""),
		pod("pending", "n", corev1.PodPending, 0, 0, ""),
		pod("unassigned", "", corev1.PodPending, 0, 0, ""),
	}
	podcontrol.SortForDeletion(pods, func(p *corev1.Pod) int { return len(p.Spec.NodeName) + strings.Count(p.Spec.NodeName, "m") }, now)
	var names []string
	for _, p := range pods {
		names = append(names, p.Name)
	}
	want := "unassigned pending crashing unready cheap crowded short-ready long-ready expensive"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("order\n got %s\nwant %s", got, want)
	}
}

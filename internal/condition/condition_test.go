package condition

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSet(t *testing.T) {
	first, later := metav1.NewTime(time.Unix(100, 0)), metav1.NewTime(time.Unix(200, 0))
	var list []corev1.PodCondition
	set := func(status corev1.ConditionStatus, reason string) bool {
		return Pod.Set(&list, corev1.PodCondition{Type: corev1.PodReady, Status: status, Reason: reason}, later)
	}
	if !Pod.Set(&list, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse}, first) || len(list) != 1 || !list[0].LastTransitionTime.Equal(&first) {
		t.Fatalf("added: %v", list)
	}
	if set(corev1.ConditionFalse, "") {
		t.Error("the same again is no change")
	}
	if !set(corev1.ConditionFalse, "because") || !list[0].LastTransitionTime.Equal(&first) {
		t.Errorf("another reason is a change without transition: %v", list)
	}
	if !set(corev1.ConditionTrue, "") || !list[0].LastTransitionTime.Equal(&later) || !Pod.IsTrue(list, string(corev1.PodReady)) {
		t.Errorf("another status is a transition: %v", list)
	}
	if Pod.Find(list, "Other") != nil || Pod.Remove(&list, "Other") || !Pod.Remove(&list, string(corev1.PodReady)) || len(list) != 0 {
		t.Errorf("find and remove: %v", list)
	}
}

func TestNodeHeartbeatIsAChange(t *testing.T) {
	now := metav1.Now()
	var list []corev1.NodeCondition
	c := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: now}
	if !Node.Set(&list, c, now) || !Node.Set(&list, c, now) {
		t.Error("a heartbeat is a change")
	}
}

package tainteviction

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestDeadline(t *testing.T) {
	t.Parallel()
	now := time.Unix(10_000, 0)
	taint := func(key string, ago time.Duration) corev1.Taint {
		return corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute, TimeAdded: ptr.To(metav1.NewTime(now.Add(-ago)))}
	}
	tolerate := func(key string, seconds *int64) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: seconds}
	}
	cases := []struct {
		name        string
		tolerations []corev1.Toleration
		taints      []corev1.Taint
		podAge      time.Duration
		in          time.Duration
		evicted     bool
	}{
		{"no taint", nil, nil, time.Hour, 0, false},
		{"not tolerated", nil, []corev1.Taint{taint("a", time.Minute)}, time.Hour, 0, true},
		{"tolerated for ever", []corev1.Toleration{tolerate("a", nil)}, []corev1.Taint{taint("a", time.Hour)}, time.Hour, 0, false},
		{"for a while", []corev1.Toleration{tolerate("a", ptr.To[int64](300))}, []corev1.Taint{taint("a", time.Minute)}, time.Hour, 4 * time.Minute, true},
		{"pod younger than the taint", []corev1.Toleration{tolerate("a", ptr.To[int64](300))}, []corev1.Taint{taint("a", time.Hour)}, 10 * time.Second, 290 * time.Second, true},
		{"least of two", []corev1.Toleration{tolerate("a", ptr.To[int64](300)), tolerate("b", ptr.To[int64](30))},
			[]corev1.Taint{taint("a", 0), taint("b", 0)}, time.Hour, 30 * time.Second, true},
		{"one of two not tolerated", []corev1.Toleration{tolerate("a", nil)}, []corev1.Taint{taint("a", 0), taint("b", 0)}, time.Hour, 0, true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(now.Add(-tc.podAge))}, Spec: corev1.PodSpec{Tolerations: tc.tolerations}}
			at, evicted := deadline(pod, tc.taints, now)
			if evicted != tc.evicted || (evicted && at.Sub(now) != tc.in) {
				t.Errorf("evicted %v in %v, want %v in %v", evicted, at.Sub(now), tc.evicted, tc.in)
			}
		})
	}
}

package core

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// podRowCase is a Pod and the cells that show its state.
type podRowCase struct {
	change                  func(*corev1.Pod)
	ready, status, restarts string
}

func podRowCases(now metav1.Time) map[string]podRowCase {
	ago := func(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
	ended := func(code int32, reason string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason}}
	}
	always := corev1.ContainerRestartPolicyAlways
	return map[string]podRowCase{
		"pending": {func(*corev1.Pod) {}, "0/1", "Pending", "0"},
		"gated": {func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{gatedCondition}
		}, "0/1", "SchedulingGated", "0"},
		"creating": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: waiting("ContainerCreating")}}
		}, "0/1", "ContainerCreating", "0"},
		"running": {func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Ready: true, State: running}}
		}, "1/1", "Running", "0"},
		"crashing": {func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{
				RestartCount: 3, State: waiting("CrashLoopBackOff"),
				LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: ago(5 * time.Minute)}},
			}}
		}, "0/1", "CrashLoopBackOff", "3 (5m ago)"},
		"completed": {func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodSucceeded
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: ended(0, "Completed")}}
		}, "0/1", "Completed", "0"},
		"failed without reason": {func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodFailed
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: ended(7, "")}}
		}, "0/1", "ExitCode:7", "0"},
		"init running": {func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i"}, {Name: "j"}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i", State: ended(0, "Completed")}, {Name: "j", State: running}}
		}, "0/1", "Init:1/2", "0"},
		"init failed": {func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i"}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i", RestartCount: 2, State: ended(1, "Error")}}
		}, "0/1", "Init:Error", "2"},
		"init image": {func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i"}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i", State: waiting("ErrImagePull")}}
		}, "0/1", "Init:ErrImagePull", "0"},
		"sidecar": {func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "s", RestartPolicy: &always}}
			p.Status.Phase = corev1.PodRunning
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "s", Ready: true, Started: ptr.To(true), RestartCount: 1, State: running}}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Ready: true, State: running}}
		}, "2/2", "Running", "1"},
		"one completed, one runs": {func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d"})
			p.Status.Phase = corev1.PodRunning
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: ended(0, "Completed")}, {Ready: true, State: running}}
		}, "1/2", "NotReady", "0"},
		"terminating": {func(p *corev1.Pod) {
			p.DeletionTimestamp = &now
			p.Status.Phase = corev1.PodRunning
		}, "0/1", "Terminating", "0"},
		"deleted when done": {func(p *corev1.Pod) {
			p.DeletionTimestamp = &now
			p.Status.Phase = corev1.PodSucceeded
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: ended(0, "Completed")}}
		}, "0/1", "Completed", "0"},
		"evicted": {func(p *corev1.Pod) {
			p.Status.Phase, p.Status.Reason = corev1.PodFailed, "Evicted"
		}, "0/1", "Evicted", "0"},
	}
}

func TestPodRow(t *testing.T) {
	t.Parallel()
	now := metav1.NewTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	for name, test := range podRowCases(now) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}, Status: corev1.PodStatus{Phase: corev1.PodPending}}
			p.CreationTimestamp = metav1.NewTime(now.Add(-90 * time.Second))
			test.change(p)
			row := podRow(p, now)
			if row[1] != test.ready || row[2] != test.status || row[3] != test.restarts || row[4] != "90s" {
				t.Errorf("row %v, want %s %s %s 90s", row, test.ready, test.status, test.restarts)
			}
		})
	}
}

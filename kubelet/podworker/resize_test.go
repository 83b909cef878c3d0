package podworker

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// sized gives the Pod's container a CPU request and limit.
func sized(cpu string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list, Limits: list}
	}
}

func resized(pod *corev1.Pod, cpu string) *corev1.Pod {
	changed := pod.DeepCopy()
	changed.Generation++
	sized(cpu)(changed)
	return changed
}

func shown(status corev1.PodStatus) string {
	return status.ContainerStatuses[0].Resources.Limits.Cpu().String()
}

func TestResizeInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		pod := testPod("a", sized("100m"))
		r.pool.Apply(pod)
		if got := shown(r.status(pod.UID)); got != "100m" {
			t.Fatalf("resources before: %s", got)
		}
		pod = resized(pod, "200m")
		r.pool.Apply(pod)
		status := r.status(pod.UID)
		if shown(status) != "200m" || status.ContainerStatuses[0].RestartCount != 0 || status.ObservedGeneration != pod.Generation ||
			conditionOf(status, corev1.PodResizeInProgress) != "" || conditionOf(status, corev1.PodResizePending) != "" {
			t.Errorf("after resize: %+v", status)
		}
		if got := r.node.Resized[id(pod, "web", 0)]; got.CPUQuotaMicros != 20_000 || got.CPUShares != 204 {
			t.Errorf("limits set: %+v", got)
		}
	})
}

func TestResizeByRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		pod := testPod("a", sized("100m"), func(p *corev1.Pod) {
			p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.RestartContainer}}
		})
		r.pool.Apply(pod)
		r.status(pod.UID)
		pod = resized(pod, "200m")
		r.pool.Apply(pod)
		time.Sleep(time.Minute) // of the test's own clock: past the back-off
		status := r.status(pod.UID)
		if shown(status) != "200m" || status.ContainerStatuses[0].RestartCount != 1 || conditionOf(status, corev1.PodResizeInProgress) != "" {
			t.Errorf("after resize: %+v %v", status.ContainerStatuses[0], r.node.Events())
		}
	})
}

func TestResizeThatMustWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		other := testPod("b", sized("1500m"))
		r.pool.Apply(other)
		pod := testPod("a", sized("100m"))
		r.pool.Apply(pod)
		r.status(pod.UID)
		for cpu, reason := range map[string]string{"3": corev1.PodReasonInfeasible, "1": corev1.PodReasonDeferred} {
			pod = resized(pod, cpu)
			r.pool.Apply(pod)
			status := r.status(pod.UID)
			condition := findCondition(status.Conditions, corev1.PodResizePending)
			if condition == nil || condition.Reason != reason || shown(status) != "100m" {
				t.Errorf("%s CPUs: %+v", cpu, status)
			}
		}
		pod = resized(pod, "1")
		r.pool.Apply(pod)
		r.pool.Apply(deleted(other, 1))
		time.Sleep(time.Minute)
		if status := r.status(pod.UID); shown(status) != "1" || conditionOf(status, corev1.PodResizePending) != "" {
			t.Errorf("after the other has gone: %+v", status)
		}
	})
}

func TestResizeThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		pod := testPod("a", sized("100m"))
		r.pool.Apply(pod)
		synctest.Wait()
		r.node.ResizeError = errors.New("memory in use")
		pod = resized(pod, "200m")
		r.pool.Apply(pod)
		status := r.status(pod.UID)
		condition := findCondition(status.Conditions, corev1.PodResizeInProgress)
		if condition == nil || condition.Reason != corev1.PodReasonError || shown(status) != "100m" {
			t.Errorf("while it fails: %+v", status)
		}
		r.node.Lock()
		r.node.ResizeError = nil
		r.node.Unlock()
		time.Sleep(time.Minute)
		if status := r.status(pod.UID); shown(status) != "200m" || conditionOf(status, corev1.PodResizeInProgress) != "" {
			t.Errorf("after it works again: %+v", status)
		}
	})
}

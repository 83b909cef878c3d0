package podworker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/lifecycle"
)

func TestPodRunsAndIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		pod := testPod("a")
		r.pool.Apply(pod)
		status := r.status(pod.UID)
		if status.Phase != corev1.PodRunning || status.PodIP != "10.0.0.1" || status.HostIP != "192.0.2.1" {
			t.Fatalf("status: %+v", status)
		}
		for _, kind := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady, corev1.PodInitialized, corev1.PodReadyToStartContainers} {
			if conditionOf(status, kind) != corev1.ConditionTrue {
				t.Errorf("condition %s is not true: %+v", kind, status.Conditions)
			}
		}
		for _, part := range []string{"Pulling web", "Pulled web", "Created web", "Started web"} {
			if !r.hasEvent(part) {
				t.Errorf("no event %q in %v", part, r.node.Events())
			}
		}
		r.pool.Apply(deleted(pod, 30))
		status = r.status(pod.UID)
		if status.Phase != corev1.PodFailed || status.ContainerStatuses[0].State.Terminated.ExitCode != 143 {
			t.Fatalf("status after deletion: %+v", status)
		}
		if !r.finished(pod.UID) {
			t.Fatal("not finished")
		}
		if left := r.node.Leftovers(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		r.pool.Remove(pod)
		synctest.Wait()
		if pods := r.pool.Pods(); len(pods) > 0 {
			t.Errorf("pods left: %d", len(pods))
		}
	})
}

func TestCrashLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		pod := testPod("a")
		r.pool.Apply(pod)
		synctest.Wait()
		r.runtime.Exit(id(pod, "web", 0), 1)
		status := r.status(pod.UID).ContainerStatuses[0]
		if status.RestartCount != 1 || status.State.Running == nil || status.LastTerminationState.Terminated == nil {
			t.Fatalf("after the first crash: %+v", status)
		}
		for attempt, delay := range []time.Duration{1: 10, 2: 20, 3: 40, 4: 80, 5: 160, 6: 300, 7: 300} {
			if delay == 0 {
				continue
			}
			delay *= time.Second
			r.runtime.Exit(id(pod, "web", attempt), 1)
			status = r.status(pod.UID).ContainerStatuses[0]
			want := fmt.Sprintf("back-off %s restarting failed container=web pod=a_default(a-uid)", delay)
			if status.State.Waiting == nil || status.State.Waiting.Reason != "CrashLoopBackOff" || status.State.Waiting.Message != want {
				t.Fatalf("attempt %d: %+v, want %q", attempt, status.State.Waiting, want)
			}
			if phase := r.status(pod.UID).Phase; phase != corev1.PodRunning {
				t.Fatalf("phase %s", phase)
			}
			time.Sleep(delay - time.Second)
			if status = r.status(pod.UID).ContainerStatuses[0]; status.State.Waiting == nil {
				t.Fatalf("attempt %d started too early", attempt+1)
			}
			time.Sleep(2 * time.Second)
			if status = r.status(pod.UID).ContainerStatuses[0]; status.State.Running == nil || status.RestartCount != int32(attempt+1) {
				t.Fatalf("attempt %d: %+v", attempt+1, status)
			}
		}
		time.Sleep(crashForget + crashMax + time.Minute)
		r.runtime.Exit(id(pod, "web", 8), 1)
		if status = r.status(pod.UID).ContainerStatuses[0]; status.State.Running == nil {
			t.Fatalf("back-off was not forgotten: %+v", status.State)
		}
		if !r.hasEvent("BackOff web: Back-off restarting failed container web in pod a_default(a-uid)") {
			t.Errorf("no event: %v", r.node.Events())
		}
	})
}

func TestKubeletRestartTouchesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		pod := testPod("a", func(p *corev1.Pod) { p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{} })
		r.pool.Apply(pod)
		synctest.Wait()
		r.node.SetProbe(id(pod, "web", 0), lifecycle.ProbeResults{Started: true, Ready: true})
		r.pool.Wake(pod.UID)
		before := r.status(pod.UID)
		if conditionOf(before, corev1.PodReady) != corev1.ConditionTrue {
			t.Fatalf("not ready: %+v", before)
		}
		r.stop()
		r.node.Forget(id(pod, "web", 0))
		calls := len(r.runtime.Calls())
		r.sink.history = nil
		r.start()
		again := pod.DeepCopy()
		again.Status = before
		r.pool.Apply(again)
		r.pool.Synced()
		after := r.status(pod.UID)
		for _, call := range r.runtime.Calls()[calls:] {
			if !strings.HasPrefix(call, "EnsureSandbox") {
				t.Errorf("restart called %s", call)
			}
		}
		for _, status := range r.sink.history {
			if conditionOf(status, corev1.PodReady) != corev1.ConditionTrue {
				t.Errorf("not ready for a while: %+v", status.Conditions)
			}
		}
		if after.ContainerStatuses[0].RestartCount != 0 || after.ContainerStatuses[0].ContainerID != before.ContainerStatuses[0].ContainerID {
			t.Errorf("container changed: %+v", after.ContainerStatuses[0])
		}
	})
}

func TestKubeletRestartEndsUnwanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		pod := testPod("a")
		r.pool.Apply(pod)
		synctest.Wait()
		r.stop()
		r.start()
		r.pool.Synced()
		synctest.Wait()
		if list, err := r.runtime.ListSandboxes(t.Context()); err != nil || len(list) > 0 {
			t.Errorf("sandboxes left: %v, %v", list, err)
		}
		if left := r.node.Leftovers(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		pod := testPod("a")
		r.pool.Apply(pod)
		before := r.status(pod.UID)
		r.stop()
		r.boot = "boot-2"
		r.start()
		again := pod.DeepCopy()
		again.Status = before
		r.pool.Apply(again)
		r.pool.Synced()
		status := r.status(pod.UID).ContainerStatuses[0]
		if status.RestartCount != 1 || status.State.Running == nil || status.LastTerminationState.Terminated == nil {
			t.Fatalf("after reboot: %+v", status)
		}
	})
}

func TestInitContainersAndSidecars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		pod := testPod("a", func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			p.Spec.InitContainers = []corev1.Container{
				{Name: "one", Image: "i", ImagePullPolicy: corev1.PullIfNotPresent},
				{Name: "side", Image: "i", ImagePullPolicy: corev1.PullIfNotPresent, RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)},
				{Name: "two", Image: "i", ImagePullPolicy: corev1.PullIfNotPresent},
			}
		})
		r.pool.Apply(pod)
		status := r.status(pod.UID)
		if status.Phase != corev1.PodPending || status.ContainerStatuses[0].State.Waiting.Reason != "PodInitializing" {
			t.Fatalf("initializing: %+v", status)
		}
		r.runtime.Exit(id(pod, "one", 0), 0)
		synctest.Wait()
		r.runtime.Exit(id(pod, "side", 0), 1)
		synctest.Wait()
		r.runtime.Exit(id(pod, "two", 0), 0)
		status = r.status(pod.UID)
		if status.Phase != corev1.PodRunning || conditionOf(status, corev1.PodInitialized) != corev1.ConditionTrue {
			t.Fatalf("running: %+v", status)
		}
		if side := status.InitContainerStatuses[1]; side.RestartCount != 1 || !side.Ready {
			t.Fatalf("sidecar: %+v", side)
		}
		r.runtime.Exit(id(pod, "web", 0), 0)
		status = r.status(pod.UID)
		if status.Phase != corev1.PodSucceeded || status.InitContainerStatuses[1].State.Terminated == nil {
			t.Fatalf("completed: %+v", status)
		}
		if left := r.node.Leftovers(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		calls := r.runtime.Calls()
		order := []int{slices.Index(calls, "Start one/0"), slices.Index(calls, "Start side/0"), slices.Index(calls, "Start two/0"), slices.Index(calls, "Start web/0")}
		if !slices.IsSorted(order) || order[0] < 0 {
			t.Errorf("order %v of %v", order, calls)
		}
	})
}

func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name    string
		arrange func(*rig, *corev1.Pod)
		waiting string
		event   string
	}{
		{"image", func(r *rig, _ *corev1.Pod) {
			r.node.PullError = func(string) error { return errors.New("no such image") }
		}, "ErrImagePull", `Warning Failed web: Failed to pull image "web:1": no such image`},
		{"name", func(_ *rig, p *corev1.Pod) { p.Spec.Containers[0].Image = "NOT A NAME" }, "InvalidImageName", "Warning InspectFailed web"},
		{"never", func(_ *rig, p *corev1.Pod) { p.Spec.Containers[0].ImagePullPolicy = corev1.PullNever }, "ErrImageNeverPull",
			"Warning ErrImageNeverPull web"},
		{"env", func(r *rig, _ *corev1.Pod) {
			r.node.EnvError = func(*corev1.Pod, *corev1.Container) error {
				return fmt.Errorf("configmap %q not found: %w", "c", lifecycle.ErrConfig)
			}
		}, "CreateContainerConfigError", `Warning Failed web: Error: configmap "c" not found`},
		{"root", func(_ *rig, p *corev1.Pod) {
			p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true)}
		}, "CreateContainerConfigError", "image will run as root"},
		{"command", func(_ *rig, p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"/no-such"} }, "CrashLoopBackOff",
			"no such file or directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				pod := testPod("a")
				test.arrange(r, pod)
				r.pool.Apply(pod)
				status := r.status(pod.UID).ContainerStatuses[0]
				if status.State.Waiting == nil || status.State.Waiting.Reason != test.waiting {
					t.Errorf("state: %+v", status.State)
				}
				if !r.hasEvent(test.event) {
					t.Errorf("no event %q in %q", test.event, r.node.Events())
				}
			})
		})
	}
}

func TestImagePullBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		broken := true
		r.node.PullError = func(string) error {
			if broken {
				return errors.New("unreachable")
			}
			return nil
		}
		pod := testPod("a")
		r.pool.Apply(pod)
		synctest.Wait()
		time.Sleep(2 * time.Second)
		status := r.status(pod.UID).ContainerStatuses[0]
		if status.State.Waiting.Reason != "ImagePullBackOff" || !strings.Contains(status.State.Waiting.Message, `Back-off pulling image "web:1": ErrImagePull: unreachable`) {
			t.Fatalf("state: %+v", status.State.Waiting)
		}
		broken = false
		time.Sleep(10 * time.Second)
		if status = r.status(pod.UID).ContainerStatuses[0]; status.State.Running == nil {
			t.Fatalf("state: %+v", status.State)
		}
	})
}

func TestVolumesHoldUpThenRecover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		broken := true
		r.node.SetupError = func(*corev1.Pod) error {
			if broken {
				return errors.New(`MountVolume.SetUp failed for volume "c" : configmap "c" not found`)
			}
			return nil
		}
		pod := testPod("a")
		r.pool.Apply(pod)
		status := r.status(pod.UID)
		if status.Phase != corev1.PodPending || status.ContainerStatuses[0].State.Waiting.Reason != "ContainerCreating" || !r.hasEvent("Warning FailedMount") {
			t.Fatalf("status %+v, events %v", status, r.node.Events())
		}
		broken = false
		time.Sleep(time.Minute)
		if status = r.status(pod.UID); status.Phase != corev1.PodRunning {
			t.Fatalf("status %+v", status)
		}
	})
}

func TestRejection(t *testing.T) {
	for _, test := range []struct {
		name, reason string
		arrange      func(*corev1.Pod)
	}{
		{"cpu", "OutOfcpu", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}
		}},
		{"labels", "NodeAffinity", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "tape"} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				pod := testPod("a", test.arrange)
				r.pool.Apply(pod)
				status := r.status(pod.UID)
				if status.Phase != corev1.PodFailed || status.Reason != test.reason || !strings.HasPrefix(status.Message, "Pod was rejected: ") {
					t.Errorf("status: %+v", status)
				}
			})
		})
	}
}

func TestGraceAndOrderOfTermination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var graces []string
		r.runtime.OnStop = func(id container.ID, grace time.Duration) {
			graces = append(graces, fmt.Sprintf("%s %s", id.Name, grace.Round(time.Second)))
		}
		pod := testPod("a", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{
				Name: "side", Image: "i", ImagePullPolicy: corev1.PullIfNotPresent, RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways),
			}}
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 5}}}
		})
		r.pool.Apply(pod)
		synctest.Wait()
		r.pool.Apply(deleted(pod, 30))
		if status := r.status(pod.UID); status.Phase != corev1.PodRunning || conditionOf(status, corev1.PodReady) != corev1.ConditionTrue {
			t.Fatalf("during preStop: %+v", status)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if want := []string{"web 25s", "side 25s"}; !slices.Equal(graces, want) {
			t.Errorf("stopped %v, want %v", graces, want)
		}
		if !r.finished(pod.UID) {
			t.Error("not finished")
		}
	})
}

func TestShorterGraceTakesEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		pod := testPod("a", func(p *corev1.Pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 25}}}
		})
		r.pool.Apply(pod)
		synctest.Wait()
		r.pool.Apply(deleted(pod, 30))
		synctest.Wait()
		r.pool.Apply(deleted(pod, 1))
		time.Sleep(5 * time.Second)
		if !r.finished(pod.UID) {
			t.Error("not finished")
		}
	})
}

func TestLivenessRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		pod := testPod("a", func(p *corev1.Pod) { p.Spec.Containers[0].LivenessProbe = &corev1.Probe{} })
		r.pool.Apply(pod)
		synctest.Wait()
		r.node.SetProbe(id(pod, "web", 0), lifecycle.ProbeResults{Started: true, Ready: true, LivenessFailed: true})
		r.pool.Wake(pod.UID)
		status := r.status(pod.UID).ContainerStatuses[0]
		if status.RestartCount != 1 || status.State.Running == nil {
			t.Fatalf("status: %+v", status)
		}
		if !r.hasEvent("Normal Killing web: Container web failed liveness probe, will be restarted") {
			t.Errorf("events: %v", r.node.Events())
		}
	})
}

func TestDeadlineAndEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		limited := testPod("limited", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](60) })
		victim := testPod("victim")
		r.pool.Apply(limited)
		r.pool.Apply(victim)
		time.Sleep(59 * time.Second)
		if status := r.status(limited.UID); status.Phase != corev1.PodRunning {
			t.Fatalf("before the deadline: %+v", status)
		}
		time.Sleep(2 * time.Second)
		if status := r.status(limited.UID); status.Phase != corev1.PodFailed || status.Reason != "DeadlineExceeded" {
			t.Errorf("after the deadline: %+v", status)
		}
		if !r.pool.Evict(victim.UID, "Evicted", "The node was low on resource: memory.", 0) {
			t.Fatal("not evicted")
		}
		status := r.status(victim.UID)
		if status.Phase != corev1.PodFailed || status.Reason != "Evicted" || conditionOf(status, corev1.DisruptionTarget) != corev1.ConditionTrue {
			t.Errorf("after eviction: %+v", status)
		}
	})
}

func TestSameNameWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		first := testPod("a", func(p *corev1.Pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 10}}}
		})
		second := testPod("a", func(p *corev1.Pod) { p.UID = "second" })
		r.pool.Apply(first)
		synctest.Wait()
		r.pool.Remove(first)
		r.pool.Apply(second)
		if status := r.status(second.UID); status.Phase != "" {
			t.Fatalf("second runs beside the first: %+v", status)
		}
		time.Sleep(11 * time.Second)
		if status := r.status(second.UID); status.Phase != corev1.PodRunning {
			t.Fatalf("second: %+v", status)
		}
	})
}

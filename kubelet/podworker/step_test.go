package podworker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/lifecycle"
)

var stepNow = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// stepPod has init containers i1, side (a sidecar) and i2 where asked for, and
// containers a and b.
func stepPod(policy corev1.RestartPolicy, init ...string) *corev1.Pod {
	pod := testPod("p", func(p *corev1.Pod) {
		p.Spec.RestartPolicy = policy
		p.Spec.Containers = []corev1.Container{{Name: "a", Image: "x"}, {Name: "b", Image: "x"}}
	})
	for _, name := range init {
		c := corev1.Container{Name: name, Image: "x"}
		if strings.HasPrefix(name, "side") {
			c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
		}
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
	}
	return pod
}

// seen parses "a/0 running" and "a/1 exited 3".
func seen(v *View, states ...string) {
	v.Containers = map[string][]container.Status{}
	for _, text := range states {
		var status container.Status
		var state string
		name, rest, _ := strings.Cut(text, "/")
		if _, err := fmt.Sscanf(rest+" 0", "%d %s %d", &status.ID.Attempt, &state, &status.ExitCode); err != nil {
			panic(err)
		}
		status.ID.Pod, status.ID.Name, status.State = v.Pod.UID, name, container.State(state)
		v.Containers[name] = append(v.Containers[name], status)
		if status.State == container.Running {
			if v.Probes == nil {
				v.Probes = map[container.ID]lifecycle.ProbeResults{}
			}
			v.Probes[status.ID] = lifecycle.ProbeResults{Started: true, Ready: true}
		}
	}
}

// describe prints a plan in short.
func describe(p Plan) string {
	var out []string
	if p.Prepare {
		out = append(out, "prepare")
	}
	for _, s := range p.Start {
		out = append(out, fmt.Sprintf("start %s/%d", s.Container.Name, s.Attempt))
	}
	for _, s := range p.Stop {
		out = append(out, fmt.Sprintf("stop %s/%d", s.ID.Name, s.ID.Attempt))
	}
	for _, id := range p.Remove {
		out = append(out, fmt.Sprintf("remove %s/%d", id.Name, id.Attempt))
	}
	for _, id := range p.BackingOff {
		out = append(out, "back-off "+id.Name)
	}
	if p.Completed {
		out = append(out, "completed")
	}
	if p.Done {
		out = append(out, "done")
	}
	return strings.Join(out, ", ")
}

func TestStep(t *testing.T) {
	t.Parallel()
	always, onFailure, never := corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	init := []string{"i1", "side", "i2"}
	for _, test := range []struct {
		name   string
		policy corev1.RestartPolicy
		init   []string
		states []string
		change func(*View)
		want   string
	}{
		{"new pod is prepared", always, nil, nil, func(v *View) { v.Prepared = false }, "prepare"},
		{"first container", always, nil, nil, nil, "start a/0"},
		{"second waits for the first", always, nil, nil, func(v *View) { v.Busy = map[string]Busy{"a": Starting} }, ""},
		{"second after the first", always, nil, []string{"a/0 running"}, nil, "start b/0"},
		{"second although the first cannot start", always, nil, nil, func(v *View) {
			v.Waiting = map[string]Waiting{"a": {RetryAt: stepNow.Add(time.Minute)}}
		}, "start b/0"},
		{"created is started", always, nil, []string{"a/0 created"}, nil, "start a/0"},
		{"steady", always, nil, []string{"a/0 running", "b/0 running"}, nil, ""},
		{"crash", always, nil, []string{"a/0 exited 1", "b/0 running"}, nil, "start a/1"},
		{"good end, always", always, nil, []string{"a/0 exited 0", "b/0 running"}, nil, "start a/1"},
		{"good end, on failure", onFailure, nil, []string{"a/0 exited 0", "b/0 running"}, nil, ""},
		{"bad end, on failure", onFailure, nil, []string{"a/0 exited 2", "b/0 running"}, nil, "start a/1"},
		{"bad end, never", never, nil, []string{"a/0 exited 2", "b/0 running"}, nil, ""},
		{"back-off", always, nil, []string{"a/3 exited 1", "b/0 running"}, func(v *View) {
			v.BackOff = map[string]time.Time{"a": stepNow.Add(time.Second)}
		}, "back-off a"},
		{"all ended", onFailure, nil, []string{"a/0 exited 0", "b/4 exited 0"}, nil, "completed"},
		{"all ended badly, never", never, nil, []string{"a/0 exited 1", "b/0 exited 0"}, nil, "completed"},
		{"old attempts go", always, nil, []string{"a/0 exited 1", "a/1 exited 1", "a/2 running", "b/0 running"}, nil, "remove a/0"},
		{"after a reboot", always, nil, nil, func(v *View) { v.FirstAttempt = map[string]int{"a": 4} }, "start a/4"},

		{"init first", always, init, nil, nil, "start i1/0"},
		{"init runs", always, init, []string{"i1/0 running"}, nil, ""},
		{"sidecar next", always, init, []string{"i1/0 exited 0"}, nil, "start side/0"},
		{"init after the sidecar started", always, init, []string{"i1/0 exited 0", "side/0 running"}, nil, "start i2/0"},
		{"init waits for the sidecar's startup", always, init, []string{"i1/0 exited 0", "side/0 running"}, func(v *View) {
			clear(v.Probes)
		}, ""},
		{"init failed, restart", always, init, []string{"i1/0 exited 1"}, nil, "start i1/1"},
		{"init failed, never", never, init, []string{"i1/0 exited 1"}, nil, "completed"},
		{"initialized", always, init, []string{"i1/0 exited 0", "side/0 running", "i2/0 exited 0"}, nil, "start a/0"},
		{"sidecar crashes later", never, init, []string{"i1/0 exited 0", "side/0 exited 1", "i2/0 exited 0", "a/0 running", "b/0 running"}, nil, "start side/1"},
		{"init records may be gone later", always, init, []string{"side/0 running", "a/0 running", "b/0 running"}, nil, ""},

		{"liveness", always, nil, []string{"a/0 running", "b/0 running"}, func(v *View) {
			v.Probes[container.ID{Pod: v.Pod.UID, Name: "a"}] = lifecycle.ProbeResults{Started: true, LivenessFailed: true}
		}, "stop a/0"},
		{"liveness while stopping", always, nil, []string{"a/0 running", "b/0 running"}, func(v *View) {
			v.Probes[container.ID{Pod: v.Pod.UID, Name: "a"}] = lifecycle.ProbeResults{Started: true, LivenessFailed: true}
			v.Busy = map[string]Busy{"a": Stopping}
		}, ""},
		{"new image", always, nil, []string{"a/0 running", "b/0 running"}, func(v *View) {
			v.Containers["a"][0].Annotations = map[string]string{lifecycle.AnnotationImage: "old"}
		}, "stop a/0"},

		{"termination", always, init, []string{"side/0 running", "a/0 running", "b/0 exited 0"}, stop, "stop a/0"},
		{"then sidecars", always, init, []string{"side/0 running", "a/0 exited 0", "b/0 exited 0"}, stop, "stop side/0"},
		{"sidecars wait for starts under way", always, init, []string{"side/0 running"}, func(v *View) {
			stop(v)
			v.Busy = map[string]Busy{"a": Starting}
		}, ""},
		{"then done", always, init, []string{"side/0 exited 0", "a/0 exited 0", "b/0 exited 0"}, stop, "done"},
		{"never prepared", always, nil, nil, func(v *View) { stop(v); v.Prepared = false }, "done"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			v := View{Pod: stepPod(test.policy, test.init...), Now: stepNow, Prepared: true}
			seen(&v, test.states...)
			if test.change != nil {
				test.change(&v)
			}
			if got := describe(Step(v)); got != test.want {
				t.Errorf("plan %q, want %q", got, test.want)
			}
		})
	}
}

func stop(v *View) { v.Stop = &Termination{Since: v.Now, Deadline: v.Now.Add(30 * time.Second)} }

func TestSidecarsStopInReverse(t *testing.T) {
	t.Parallel()
	v := View{Pod: stepPod(corev1.RestartPolicyAlways, "side1", "side2"), Now: stepNow, Prepared: true}
	seen(&v, "side1/0 running", "side2/0 running", "a/0 exited 0", "b/0 exited 0")
	stop(&v)
	if got := describe(Step(v)); got != "stop side2/0" {
		t.Errorf("plan %q", got)
	}
}

func TestContainerRestartRules(t *testing.T) {
	t.Parallel()
	pod := stepPod(corev1.RestartPolicyNever)
	pod.Spec.Containers[0].RestartPolicy = ptr.To(corev1.ContainerRestartPolicyNever)
	pod.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{
		Action:    corev1.ContainerRestartRuleActionRestart,
		ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}},
	}}
	for code, want := range map[int]bool{42: true, 1: false, 0: false} {
		if got := restarts(pod, &pod.Spec.Containers[0], &container.Status{ExitCode: code}, false); got != want {
			t.Errorf("exit code %d: restarts %v", code, got)
		}
	}
}

func TestReadinessGates(t *testing.T) {
	t.Parallel()
	pod := stepPod(corev1.RestartPolicyAlways)
	pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/lb"}}
	v := View{Pod: pod, Now: stepNow, Prepared: true}
	seen(&v, "a/0 running", "b/0 running")
	status := BuildStatus(v, Report{StartTime: stepNow})
	ready := findCondition(status.Conditions, corev1.PodReady)
	if ready.Status != corev1.ConditionFalse || ready.Reason != "ReadinessGatesNotReady" ||
		ready.Message != `corresponding condition of pod readiness gate "example.com/lb" does not exist.` {
		t.Errorf("ready: %+v", ready)
	}
	status = BuildStatus(v, Report{StartTime: stepNow, Old: corev1.PodStatus{
		Conditions: []corev1.PodCondition{{Type: "example.com/lb", Status: corev1.ConditionTrue}},
	}})
	if conditionOf(status, corev1.PodReady) != corev1.ConditionTrue {
		t.Errorf("ready: %+v", status.Conditions)
	}
}

func TestContainerIDs(t *testing.T) {
	t.Parallel()
	want := container.ID{Pod: "1-2-3", Name: "web-1", Attempt: 7}
	if got, ok := ParseContainerID(ContainerID(want)); !ok || got != want {
		t.Errorf("%+v, %v", got, ok)
	}
	if _, ok := ParseContainerID("containerd://abc"); ok {
		t.Error("a foreign id was taken")
	}
}

func TestContainersThatNeverRanEndWithThePod(t *testing.T) {
	t.Parallel()
	pod := testPod("a")
	created := container.Status{ID: id(pod, "web", 0), State: container.Created}
	v := View{Pod: pod, Now: stepNow, Containers: map[string][]container.Status{"web": {created}}}
	if state := BuildStatus(v, Report{StartTime: stepNow}).ContainerStatuses[0].State; state.Waiting == nil {
		t.Errorf("while the pod lives: %+v", state)
	}
	status := BuildStatus(v, Report{StartTime: stepNow, Final: true})
	ended := status.ContainerStatuses[0].State.Terminated
	if status.Phase != corev1.PodFailed || ended == nil || ended.Reason != "ContainerStatusUnknown" || ended.ExitCode != killedExitCode {
		t.Errorf("at its end: %+v", status)
	}
}

package probe

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// script answers probes by the command's first word and notes when it was
// asked.
type script struct {
	mu     sync.Mutex
	start  time.Time
	answer map[string]Outcome
	asked  map[string][]time.Duration
	delay  time.Duration
}

func (s *script) Match(h *corev1.ProbeHandler) bool { return h.Exec != nil }

func (s *script) Probe(ctx context.Context, _ Target, h *corev1.ProbeHandler) (Result, error) {
	name := h.Exec.Command[0]
	s.mu.Lock()
	s.asked[name] = append(s.asked[name], time.Since(s.start))
	answer, delay := s.answer[name], s.delay
	s.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return Result{Failure, "timed out"}, nil
	}
	if answer == "unknown" {
		return Result{}, errors.New("no idea")
	}
	return Result{answer, string(answer)}, nil
}

func (s *script) set(name string, o Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer[name] = o
}

func (s *script) times(name string) []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked[name])
}

func scripted(t *testing.T, answers map[string]Outcome) (*Probes, *script, *[]string) {
	t.Helper()
	s := &script{start: time.Now(), answer: answers, asked: map[string][]time.Duration{}}
	var mu sync.Mutex
	events := &[]string{}
	p, err := New(Config{
		Changed: func(types.UID) {}, Log: slog.New(slog.DiscardHandler),
		Event: func(_ *corev1.Pod, _, _, reason, message string) {
			mu.Lock()
			defer mu.Unlock()
			*events = append(*events, reason+": "+message)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.probers = []Prober{s}
	return p, s, events
}

var id = container.ID{Pod: "u", Name: "c"}

func spec(name string, change func(*corev1.Probe)) *corev1.Probe {
	p := &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{name}}},
		PeriodSeconds: 10, TimeoutSeconds: 1, FailureThreshold: 3, SuccessThreshold: 1,
	}
	if change != nil {
		change(p)
	}
	return p
}

func target(c *corev1.Container) Target {
	c.Name = "c"
	return Target{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: "u"}}, Container: c, ID: id}
}

func TestNoProbesMeansWell(t *testing.T) {
	p, _, _ := scripted(t, nil)
	if got := p.Results(id); got != (Results{}) {
		t.Errorf("unknown container: %+v", got)
	}
	p.Ensure(target(&corev1.Container{}))
	if got := p.Results(id); got != (Results{Started: true, Ready: true}) {
		t.Errorf("got %+v", got)
	}
	p.Forget(id)
}

func TestOrderAndThresholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, events := scripted(t, map[string]Outcome{"startup": Failure, "live": Success, "ready": Failure})
		p.Ensure(target(&corev1.Container{
			StartupProbe:   spec("startup", func(p *corev1.Probe) { p.PeriodSeconds, p.FailureThreshold = 5, 10 }),
			LivenessProbe:  spec("live", nil),
			ReadinessProbe: spec("ready", func(p *corev1.Probe) { p.SuccessThreshold, p.PeriodSeconds = 2, 3 }),
		}))
		time.Sleep(12 * time.Second) // startup asked at 0, 5, 10
		synctest.Wait()
		if len(s.times("live")) != 0 || len(s.times("ready")) != 0 {
			t.Fatal("asked before startup succeeded")
		}
		if got := p.Results(id); got != (Results{}) {
			t.Errorf("starting: %+v", got)
		}
		s.set("startup", Success)
		time.Sleep(4 * time.Second) // asked at 15: started, live and ready follow at once
		synctest.Wait()
		if got := p.Results(id); got != (Results{Started: true}) {
			t.Errorf("started: %+v", got)
		}
		if got := s.times("live"); len(got) != 1 || got[0] != 15*time.Second {
			t.Errorf("liveness asked at %v", got)
		}
		s.set("ready", Success)
		time.Sleep(3 * time.Second) // ready asked at 18: one of two
		synctest.Wait()
		if p.Results(id).Ready {
			t.Error("ready after one success of two")
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := p.Results(id); got != (Results{Started: true, Ready: true}) {
			t.Errorf("ready: %+v", got)
		}
		s.set("live", Failure)
		time.Sleep(30 * time.Second) // asked at 25, 35, 45
		synctest.Wait()
		if !p.Results(id).LivenessFailed {
			t.Error("liveness did not fail after three failures")
		}
		asked := len(s.times("live"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(s.times("live")) != asked {
			t.Error("liveness was asked again after it failed")
		}
		if !slices.Contains(*events, "Unhealthy: Liveness probe failed: failure") {
			t.Errorf("events: %v", *events)
		}
		p.ForgetPod("u")
		synctest.Wait()
	})
}

func TestStartupFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, _ := scripted(t, map[string]Outcome{"startup": Failure})
		p.Ensure(target(&corev1.Container{StartupProbe: spec("startup", func(p *corev1.Probe) { p.InitialDelaySeconds = 7 })}))
		time.Sleep(40 * time.Second)
		synctest.Wait()
		if got := s.times("startup"); !slices.Equal(got, []time.Duration{7 * time.Second, 17 * time.Second, 27 * time.Second}) {
			t.Errorf("asked at %v", got)
		}
		if !p.Results(id).StartupFailed {
			t.Error("startup did not fail")
		}
		p.Forget(id)
	})
}

func TestUnknownChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, events := scripted(t, map[string]Outcome{"live": "unknown"})
		p.Ensure(target(&corev1.Container{LivenessProbe: spec("live", nil)}))
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := p.Results(id); got.LivenessFailed {
			t.Error("unknown outcomes count as failures")
		}
		if got := s.times("live"); len(got) < 6*attempts {
			t.Errorf("asked at %v", got)
		}
		if len(*events) == 0 || !strings.HasPrefix((*events)[0], "ProbeError: Liveness probe errored") {
			t.Errorf("events: %v", *events)
		}
		p.Forget(id)
	})
}

func TestTimeoutAndTermination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, _ := scripted(t, map[string]Outcome{"live": Success, "ready": Success})
		s.delay = 2 * time.Second
		goal := target(&corev1.Container{LivenessProbe: spec("live", nil), ReadinessProbe: spec("ready", func(p *corev1.Probe) { p.TimeoutSeconds = 3 })})
		p.Ensure(goal)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if got := p.Results(id); !got.Ready || got.LivenessFailed {
			t.Errorf("got %+v", got)
		}
		goal.Pod = goal.Pod.DeepCopy()
		goal.Pod.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		p.Ensure(goal)
		time.Sleep(time.Minute)
		synctest.Wait()
		if p.Results(id).LivenessFailed {
			t.Error("liveness went on while the pod terminates")
		}
		s.set("ready", Failure)
		time.Sleep(time.Minute)
		synctest.Wait()
		if p.Results(id).Ready {
			t.Error("readiness stopped while the pod terminates")
		}
		p.Forget(id)
	})
}

func TestRestartOfTheKubeletKeepsResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, _ := scripted(t, map[string]Outcome{"startup": Failure, "ready": Failure})
		goal := target(&corev1.Container{StartupProbe: spec("startup", nil), ReadinessProbe: spec("ready", nil)})
		goal.Pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "c", Ready: true, Started: ptr.To(true), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		}}
		p.Ensure(goal)
		if got := p.Results(id); got != (Results{Started: true, Ready: true}) {
			t.Errorf("got %+v", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := p.Results(id); got.Ready || !got.Started || len(s.times("startup")) != 0 {
			t.Errorf("later: %+v, startup asked at %v", got, s.times("startup"))
		}
		p.Forget(id)

		next := goal
		next.ID.Attempt = 1
		p.Ensure(next)
		if got := p.Results(next.ID); got != (Results{}) {
			t.Errorf("a new start inherits results: %+v", got)
		}
		p.ForgetPod("u")
	})
}

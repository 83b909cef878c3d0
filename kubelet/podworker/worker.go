package podworker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/lifecycle"
)

// worker leads one Pod. run is its only goroutine that decides; actions run
// in goroutines of their own and report back under mu. Everything it does is
// found again after a restart from the API, the runtime and the checkpoint.
type worker struct {
	cfg    *Config
	logger *slog.Logger
	// uid, namespace and name never change.
	uid             types.UID
	namespace, name string
	// wake holds one "look again".
	wake chan struct{}
	// actions are the goroutines of run.
	actions sync.WaitGroup

	// mu guards everything below.
	mu sync.Mutex
	// pod is the newest object; gone, that it was removed from its source.
	pod  *corev1.Pod
	gone bool
	// updated: the object changed since the hooks were told.
	updated  bool
	looked   bool // once at least
	updating bool

	// place is what the hooks made; a new value each time, never changed.
	place     *lifecycle.Pod
	prepared  bool
	preparing context.CancelFunc
	prepare   retry

	stop      *Termination
	observed  map[container.ID]*observation
	busy      map[string]*action
	waiting   map[string]Waiting
	retries   map[string]*retry
	crashes   crashes
	first     map[string]int
	messages  map[container.ID]string
	following map[container.ID]bool
	// refollow: the hooks shall see the newer object.
	refollow bool
	told     map[container.ID]bool // BackOff events
	// exits are closed when the container's end is reported.
	exits map[container.ID]chan struct{}

	size      sizing
	startTime time.Time
	reported  corev1.PodStatus
	// rebooted: the sandbox of before is gone.
	rebooted bool
	// final: the Pod has ended. cleaning and cleaned follow its teardown.
	final    *corev1.PodStatus
	cleaning bool
	cleaned  bool
	cleanup  retry
	closed   bool
}

// observation is what the runtime said of a container. One that was only
// assumed from a successful call is not confirmed.
type observation struct {
	status    container.Status
	confirmed bool
}

// action is under way with a container.
type action struct {
	kind     Busy
	deadline time.Time
	cancel   context.CancelFunc
	seq      int
}

// retry spaces out repeated failures: 1 s, doubling to 30 s, which is short
// enough that what a user repairs is soon noticed.
type retry struct {
	failures int
	at       time.Time
	last     string
}

const (
	retryFirst = time.Second
	retryMax   = 30 * time.Second
)

func (r *retry) failed(now time.Time, err error) {
	r.at = now.Add(min(retryFirst<<min(r.failures, 5), retryMax))
	r.failures++
	r.last = err.Error()
}

func newWorker(cfg *Config, pod *corev1.Pod) *worker {
	w := &worker{
		cfg: cfg, pod: pod, uid: pod.UID, namespace: pod.Namespace, name: pod.Name,
		logger:    cfg.Logger.With("pod", pod.Namespace+"/"+pod.Name, "uid", string(pod.UID)),
		wake:      make(chan struct{}, 1),
		observed:  map[container.ID]*observation{},
		busy:      map[string]*action{},
		waiting:   map[string]Waiting{},
		retries:   map[string]*retry{},
		crashes:   crashes{max: cfg.MaxCrashBackOff},
		first:     map[string]int{},
		messages:  map[container.ID]string{},
		following: map[container.ID]bool{},
		told:      map[container.ID]bool{},
		exits:     map[container.ID]chan struct{}{},
		reported:  pod.Status,
		startTime: cfg.Clock.Now(),
	}
	w.place = &lifecycle.Pod{
		API: pod, Dir: cfg.Dirs.PodDir(pod.UID), LogDir: cfg.Dirs.LogDir(pod.Namespace, pod.Name, pod.UID),
	}
	if pod.Status.StartTime != nil {
		w.startTime = pod.Status.StartTime.Time
	}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].ContainerID != "" {
				w.first[list[i].Name] = int(list[i].RestartCount) + 1
			}
		}
	}
	if IsTerminal(pod.Status.Phase) {
		w.final = pod.Status.DeepCopy()
	}
	return w
}

// poke says "look again".
func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run leads the Pod until it is gone or ctx ends; containers are not touched
// by the latter.
func (w *worker) run(ctx context.Context) {
	defer w.actions.Wait()
	for {
		next, finished := w.look(ctx)
		if finished {
			return
		}
		if !w.sleep(ctx, next) {
			return
		}
	}
}

// look is sync, told to Looked.
func (w *worker) look(ctx context.Context) (next time.Time, finished bool) {
	if w.cfg.Looked == nil {
		return w.sync(ctx)
	}
	operation := "sync"
	w.mu.Lock()
	if !w.looked {
		operation = "create"
	} else if w.updated {
		operation = "update"
	}
	w.looked = true
	w.mu.Unlock()
	start := w.cfg.Clock.Now()
	defer func() { w.cfg.Looked(operation, w.cfg.Clock.Since(start)) }()
	return w.sync(ctx)
}

// sleep waits for a wake-up or the time; false when ctx ended.
func (w *worker) sleep(ctx context.Context, until time.Time) bool {
	var alarm <-chan time.Time
	if !until.IsZero() {
		timer := w.cfg.Clock.NewTimer(max(0, until.Sub(w.cfg.Clock.Now())))
		defer timer.Stop()
		alarm = timer.C()
	}
	select {
	case <-ctx.Done():
		return false
	case <-w.wake:
	case <-alarm:
	}
	return ctx.Err() == nil
}

// sync looks at the Pod once, reports its status and starts what is to be
// done. It returns when to look again, and whether the worker is finished.
func (w *worker) sync(ctx context.Context) (next time.Time, finished bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.cfg.Clock.Now()
	if w.final != nil {
		return w.conclude(ctx, now)
	}
	w.checkStop(now)
	w.readMessages()
	w.resize(ctx, now)
	view := w.view(now)
	plan := Step(view)
	if plan.Completed {
		w.stop = &Termination{Since: now, Deadline: now.Add(graceOf(w.pod, nil)), Completed: true}
		view.Stop = w.stop
		plan = Step(view)
	}
	if plan.Done && w.preparing == nil {
		w.finish(view)
		return w.conclude(ctx, now)
	}
	w.follow(ctx, view)
	w.report(view, false)
	w.act(ctx, plan, now)
	return w.nextWake(plan, now), false
}

// nextWake is the earliest of the plan's and the worker's own appointments.
func (w *worker) nextWake(plan Plan, now time.Time) time.Time {
	if !w.prepared && w.stop == nil && w.preparing == nil {
		plan.wakeAt(w.prepare.at)
	}
	if w.stop == nil && w.size.again.at.After(now) {
		plan.wakeAt(w.size.again.at)
	}
	if w.stop == nil && w.pod.Spec.ActiveDeadlineSeconds != nil {
		plan.wakeAt(w.startTime.Add(time.Duration(*w.pod.Spec.ActiveDeadlineSeconds) * time.Second))
	}
	return plan.Wake
}

// checkStop finds out whether the Pod is to end.
func (w *worker) checkStop(now time.Time) {
	deadline := w.pod.Spec.ActiveDeadlineSeconds
	switch {
	case w.gone || w.pod.DeletionTimestamp != nil:
		limit := w.deletionDeadline(now)
		if w.stop == nil {
			w.stop = &Termination{Since: now, Deadline: limit}
			w.logger.Info("stopping pod", "reason", "deleted", "removed", w.gone, "deadline", limit)
		} else if limit.Before(w.stop.Deadline) {
			w.stop.Deadline = limit
		}
	case w.stop == nil && deadline != nil && now.Sub(w.startTime) >= time.Duration(*deadline)*time.Second:
		w.stop = &Termination{
			Since: now, Deadline: now.Add(graceOf(w.pod, nil)), Phase: corev1.PodFailed, Reason: "DeadlineExceeded",
			Message: "Pod was active on the node longer than the specified deadline",
		}
		w.logger.Info("stopping pod", "reason", "DeadlineExceeded")
		w.cfg.Recorder.Event(w.pod, "", corev1.EventTypeNormal, "DeadlineExceeded",
			"Pod was active on the node longer than specified deadline")
	}
	if w.stop != nil {
		if w.preparing != nil {
			w.preparing()
		}
		for _, a := range w.busy {
			if a.kind == Starting {
				a.cancel()
			}
		}
	}
}

// deletionDeadline counts from the moment the deletion is first seen, since
// the API server's clock is not ours. One second is the least, so that a
// forced deletion still ends processes in order.
func (w *worker) deletionDeadline(now time.Time) time.Time {
	since := now
	if w.stop != nil {
		since = w.stop.Since
	}
	grace := graceOf(w.pod, nil)
	if w.pod.DeletionGracePeriodSeconds != nil {
		grace = time.Duration(*w.pod.DeletionGracePeriodSeconds) * time.Second
		if w.stop != nil && grace <= 0 {
			since = now
		}
	}
	return since.Add(max(grace, time.Second))
}

// view gathers what Step looks at.
func (w *worker) view(now time.Time) View {
	v := View{
		Pod: w.pod, Now: now, Prepared: w.prepared, Stop: w.stop,
		Containers:   map[string][]container.Status{},
		Probes:       map[container.ID]lifecycle.ProbeResults{},
		Busy:         map[string]Busy{},
		Waiting:      w.waiting,
		BackOff:      map[string]time.Time{},
		FirstAttempt: w.first,
		Resize:       w.size.report(),
	}
	for id, seen := range w.observed {
		v.Containers[id.Name] = append(v.Containers[id.Name], seen.status)
		if seen.status.State == container.Running {
			v.Probes[id] = w.probed(id)
		}
	}
	for name, attempts := range v.Containers {
		sortAttempts(attempts)
		if last := attempts[len(attempts)-1]; last.State == container.Exited {
			v.BackOff[name] = w.crashes.until(last)
		}
	}
	for name, a := range w.busy {
		v.Busy[name] = a.kind
	}
	return v
}

// probed is what the probes say of a running container. Until they follow it,
// one that ran before the kubelet restarted stays what it was, so that a
// restart takes no endpoint out of service.
func (w *worker) probed(id container.ID) lifecycle.ProbeResults {
	if w.following[id] {
		return w.cfg.Probes.Results(id)
	}
	var results lifecycle.ProbeResults
	for _, list := range [][]corev1.ContainerStatus{w.reported.ContainerStatuses, w.reported.InitContainerStatuses} {
		if old := findStatus(list, id.Name); old != nil && old.State.Running != nil && old.ContainerID == ContainerID(id) {
			results.Ready, results.Started = old.Ready, old.Started != nil && *old.Started
		}
	}
	return results
}

// readMessages reads the termination messages of containers seen to have ended.
func (w *worker) readMessages() {
	for id, seen := range w.observed {
		if _, done := w.messages[id]; done || seen.status.State != container.Exited {
			continue
		}
		message := ""
		if c := lifecycle.FindContainer(w.pod, id.Name); c != nil {
			message = w.cfg.Containers.TerminationMessage(w.place, c, seen.status)
		}
		w.messages[id] = message
	}
}

// follow tells the hooks of containers newly seen running, and ends the
// probes of those that ended.
func (w *worker) follow(ctx context.Context, v View) {
	for id, seen := range w.observed {
		running := seen.status.State == container.Running
		switch {
		case running && w.prepared && (!w.following[id] || w.refollow):
			w.following[id] = true
			if err := w.cfg.Hooks.Started(ctx, w.current(), seen.status); err != nil {
				w.logger.Warn("following container", "container", id.Name, "error", err)
			}
			v.Probes[id] = w.probed(id)
		case !running && w.following[id]:
			delete(w.following, id)
			w.cfg.Probes.Forget(id)
		}
	}
	w.refollow = false
}

// current is the place with the newest object.
func (w *worker) current() *lifecycle.Pod {
	if w.place.API != w.pod {
		place := *w.place
		place.API = w.pod
		w.place = &place
	}
	return w.place
}

// report derives and hands over the status.
func (w *worker) report(v View, final bool) {
	report := Report{
		Old: w.reported, StartTime: w.startTime, IPs: w.place.IPs, HostIPs: w.place.HostIPs,
		Messages: w.messages, Final: final, NetworkGone: final,
	}
	if len(report.HostIPs) == 0 {
		report.HostIPs = w.cfg.HostIPs()
	}
	w.reported = BuildStatus(v, report)
	w.cfg.Status.Set(w.pod, w.reported)
}

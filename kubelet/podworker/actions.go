package podworker

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/kubelet/checkpoint"
	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/lifecycle"
)

// act starts what the plan says. Called with mu held; nothing here blocks.
func (w *worker) act(ctx context.Context, plan Plan, now time.Time) {
	if plan.Prepare && w.preparing == nil && !now.Before(w.prepare.at) {
		w.startPrepare(ctx)
	}
	if w.updated && w.prepared && !w.updating && w.stop == nil {
		w.startUpdate(ctx)
	}
	for _, s := range plan.Start {
		w.startContainer(ctx, s, now)
	}
	for _, request := range plan.Stop {
		w.stopContainer(ctx, request)
	}
	for _, id := range plan.Remove {
		w.removeContainer(ctx, id)
	}
	for _, id := range plan.BackingOff {
		if !w.told[id] {
			w.told[id] = true
			w.cfg.Recorder.Event(w.pod, id.Name, corev1.EventTypeWarning, "BackOff",
				"Back-off restarting failed container "+id.Name+" in pod "+lifecycle.FullName(w.pod))
		}
	}
}

// background runs an action; its result is applied under mu, then the worker
// looks again.
func (w *worker) background(do func() error, apply func(err error)) {
	w.actions.Add(1)
	go func() {
		defer w.actions.Done()
		err := do()
		w.mu.Lock()
		apply(err)
		w.mu.Unlock()
		w.poke()
	}()
}

// startPrepare runs the hooks on a fresh place.
func (w *worker) startPrepare(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	w.preparing = cancel
	place := &lifecycle.Pod{API: w.pod, Dir: w.place.Dir, LogDir: w.place.LogDir}
	rebooted := w.rebooted
	w.background(func() error {
		if rebooted {
			if err := w.cfg.ResetSandbox(ctx, place.UID()); err != nil {
				return err
			}
		}
		return w.cfg.Hooks.Prepare(ctx, place)
	}, func(err error) {
		cancelled := ctx.Err() != nil
		cancel()
		w.preparing = nil
		if cancelled {
			return
		}
		w.rebooted = w.rebooted && err != nil
		w.applyPrepare(place, err)
	})
}

func (w *worker) applyPrepare(place *lifecycle.Pod, err error) {
	now := w.cfg.Clock.Now()
	var rejection *lifecycle.Rejection
	var failure *lifecycle.Failure
	switch {
	case err == nil:
		w.place, w.prepared, w.prepare = place, true, retry{}
		w.logger.Debug("pod is prepared", "ips", place.IPs)
		w.save(nil)
	case errors.As(err, &rejection):
		w.reject(rejection)
	default:
		w.logger.Warn("preparing pod", "error", err)
		if text := err.Error(); text != w.prepare.last || w.prepare.failures%4 == 0 {
			reason, message := "FailedSync", text
			if errors.As(err, &failure) {
				reason = failure.Reason
				if message = failure.Message; message == "" {
					message = failure.Err.Error()
				}
			}
			w.cfg.Recorder.Event(w.pod, "", corev1.EventTypeWarning, reason, message)
		}
		w.prepare.failed(now, err)
	}
}

// reject ends a Pod the node cannot take.
func (w *worker) reject(r *lifecycle.Rejection) {
	w.logger.Info("rejecting pod", "reason", r.Reason, "message", r.Message)
	w.cfg.Recorder.Event(w.pod, "", corev1.EventTypeWarning, r.Reason, r.Message)
	status := w.reported.DeepCopy()
	status.Phase, status.Reason = corev1.PodFailed, r.Reason
	status.Message = "Pod was rejected: " + r.Message
	status.ObservedGeneration = w.pod.Generation
	status.QOSClass = w.pod.Status.QOSClass
	w.end(status)
}

// end fixes the Pod's final status. It stays even if the kubelet restarts.
func (w *worker) end(status *corev1.PodStatus) {
	w.final, w.reported = status, *status
	w.save(status)
	w.cfg.Status.Set(w.pod, *status)
}

// save writes the checkpoint. Without it the Pod can still be led, so a
// failure is only told.
func (w *worker) save(final *corev1.PodStatus) {
	record := checkpoint.Record{Pod: w.pod, BootID: w.cfg.BootID, StartTime: w.startTime, Final: final}
	if err := w.cfg.Checkpoints.Save(record); err != nil {
		w.logger.Error("saving checkpoint", "error", err)
	}
}

func (w *worker) startUpdate(ctx context.Context) {
	w.updated, w.updating = false, true
	place := w.current()
	w.background(func() error { return w.cfg.Hooks.Update(ctx, place) }, func(err error) {
		w.updating = false
		if err != nil && ctx.Err() == nil {
			w.logger.Warn("following pod update", "error", err)
		}
	})
}

// begin notes an action and returns its context and a function that ends it;
// that tells whether it was still the current one.
func (w *worker) begin(ctx context.Context, name string, kind Busy, deadline time.Time) (context.Context, func() bool) {
	ctx, cancel := context.WithCancel(ctx)
	a := &action{kind: kind, cancel: cancel, deadline: deadline}
	w.busy[name] = a
	return ctx, func() bool {
		cancel()
		if w.busy[name] != a {
			return false
		}
		delete(w.busy, name)
		return true
	}
}

func (w *worker) startContainer(ctx context.Context, s Start, now time.Time) {
	name := s.Container.Name
	id := container.ID{Pod: w.pod.UID, Name: name, Attempt: s.Attempt}
	if w.isRestart(name) {
		w.crashes.restarted(name, now)
	}
	ctx, end := w.begin(ctx, name, Starting, time.Time{})
	place := w.current()
	w.background(func() error {
		return w.cfg.Containers.Start(ctx, place, s.Container, s.Attempt)
	}, func(err error) {
		cancelled := ctx.Err() != nil
		end()
		if err != nil {
			if !cancelled {
				w.startFailed(name, s.Attempt, err)
			}
			return
		}
		delete(w.waiting, name)
		delete(w.retries, name)
		w.size.started(s.Container)
		// Its event may still be on the way; without this the next look would
		// start it again.
		w.merge(container.Status{ID: id, State: container.Running, StartedAt: w.cfg.Clock.Now()}, false)
	})
}

func (w *worker) isRestart(name string) bool {
	for id, seen := range w.observed {
		if id.Name == name && seen.status.State == container.Exited {
			return true
		}
	}
	return false
}

func (w *worker) startFailed(name string, attempt int, err error) {
	now := w.cfg.Clock.Now()
	w.logger.Warn("starting container", "container", name, "attempt", attempt, "error", err)
	again := w.retries[name]
	if again == nil {
		again = &retry{}
		w.retries[name] = again
	}
	again.failed(now, err)
	waiting := Waiting{Reason: lifecycle.CreateContainerFailed, Message: err.Error(), RetryAt: again.at, Attempt: attempt}
	var start *lifecycle.StartError
	if errors.As(err, &start) {
		waiting.Reason, waiting.Message = start.Reason, start.Message
		if start.RetryAfter > 0 {
			waiting.RetryAt = now.Add(start.RetryAfter)
		}
		switch start.Reason {
		case lifecycle.PostStartHookFailed:
			// The attempt has been made; restart policy and back-off decide.
			waiting.RetryAt = time.Time{}
		case lifecycle.RunContainerFailed:
			waiting.RetryAt = time.Time{}
			// The same, but its record may still be on the way.
			w.merge(container.Status{
				ID: container.ID{Pod: w.uid, Name: name, Attempt: attempt}, State: container.Exited, FinishedAt: now,
				ExitCode: startErrorExitCode, Reason: "StartError", Message: start.Message,
			}, false)
		}
	}
	w.waiting[name] = waiting
}

// startErrorExitCode is how runtimes report a process that could not be started.
const startErrorExitCode = 128

// stopContainer stops one container; a stop under way is replaced if the new
// deadline is earlier.
func (w *worker) stopContainer(ctx context.Context, request lifecycle.StopRequest) {
	name := request.ID.Name
	if under := w.busy[name]; under != nil {
		if under.kind != Stopping || !request.Deadline.Before(under.deadline) {
			return
		}
		under.cancel()
		request.Message = "" // told already
	}
	w.logger.Info("stopping container", "container", name, "attempt", request.ID.Attempt, "why", request.Message)
	ctx, end := w.begin(ctx, name, Stopping, request.Deadline)
	place := w.current()
	exited := make(chan struct{})
	w.exits[request.ID] = exited
	w.background(func() error {
		if err := w.cfg.Containers.Stop(ctx, place, request); err != nil {
			return err
		}
		w.awaitExit(ctx, exited)
		return nil
	}, func(err error) {
		if w.exits[request.ID] == exited {
			delete(w.exits, request.ID)
		}
		cancelled := ctx.Err() != nil
		if !end() || cancelled {
			return
		}
		if err != nil {
			w.logger.Warn("stopping container", "container", name, "error", err)
			return
		}
		w.stopped(request.ID)
	})
}

// exitPatience is how long the exit record may come after the end of Stop: it
// takes another way. After that the container is taken as killed.
const exitPatience = 5 * time.Second

func (w *worker) awaitExit(ctx context.Context, exited <-chan struct{}) {
	timer := w.cfg.Clock.NewTimer(exitPatience)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-exited:
	case <-timer.C():
	}
}

// stopped notes that the runtime says the container has ended, in case its
// exit record was lost.
func (w *worker) stopped(id container.ID) {
	seen := w.observed[id]
	if seen == nil || seen.status.State == container.Exited {
		return
	}
	w.logger.Warn("container was stopped and left no exit record", "container", id.Name)
	status := seen.status
	status.State, status.FinishedAt, status.ExitCode = container.Exited, w.cfg.Clock.Now(), killedExitCode
	seen.status, seen.confirmed = status, false
}

func (w *worker) removeContainer(ctx context.Context, id container.ID) {
	seen := w.observed[id]
	delete(w.observed, id)
	delete(w.messages, id)
	delete(w.told, id)
	w.background(func() error { return w.cfg.Containers.Remove(ctx, id) }, func(err error) {
		if err != nil && ctx.Err() == nil {
			w.logger.Warn("removing container", "container", id.Name, "error", err)
			w.observed[id] = seen
		}
	})
}

// merge takes in a status; a container never goes back to an earlier state.
func (w *worker) merge(status container.Status, confirmed bool) {
	if exited := w.exits[status.ID]; exited != nil && status.State == container.Exited {
		close(exited)
		delete(w.exits, status.ID)
	}
	seen := w.observed[status.ID]
	if seen == nil {
		w.observed[status.ID] = &observation{status: status, confirmed: confirmed}
		return
	}
	// An assumed exit gives way to the recorded one.
	if rank(status.State) < rank(seen.status.State) || (!confirmed && seen.confirmed && rank(status.State) == rank(seen.status.State)) {
		return
	}
	if !confirmed && status.Annotations == nil {
		status.Annotations = seen.status.Annotations
	}
	if confirmed && seen.status.State == container.Exited && !seen.confirmed {
		delete(w.messages, status.ID)
	}
	seen.status, seen.confirmed = status, seen.confirmed || confirmed
}

func rank(s container.State) int {
	switch s {
	case container.Running:
		return 1
	case container.Exited:
		return 2
	default:
		return 0
	}
}

// finish ends a Pod of which nothing runs any more.
func (w *worker) finish(v View) {
	w.readMessages()
	for id := range w.following {
		w.cfg.Probes.Forget(id)
	}
	clear(w.following)
	w.report(v, true)
	status := w.reported.DeepCopy()
	w.logger.Info("pod has ended", "phase", status.Phase, "reason", status.Reason)
	w.end(status)
}

// conclude takes down what a Pod that has ended leaves, and waits for its
// object to go.
func (w *worker) conclude(ctx context.Context, now time.Time) (next time.Time, finished bool) {
	if w.preparing != nil || len(w.busy) > 0 {
		if w.preparing != nil {
			w.preparing()
		}
		return time.Time{}, false
	}
	if !w.cleaned {
		if w.cleaning || now.Before(w.cleanup.at) {
			return w.cleanup.at, false
		}
		w.startCleanup(ctx)
		return time.Time{}, false
	}
	if w.pod.DeletionTimestamp != nil && !w.gone {
		w.cfg.Status.Finish(w.pod)
	}
	if !w.gone {
		return time.Time{}, false
	}
	w.cfg.Status.Forget(w.pod.UID)
	if err := w.cfg.Dirs.RemoveLogs(w.pod.Namespace, w.pod.Name, w.pod.UID); err != nil {
		w.logger.Warn("removing logs", "error", err)
	}
	if err := w.cfg.Checkpoints.Delete(w.pod.UID); err != nil {
		w.logger.Warn("removing checkpoint", "error", err)
	}
	w.logger.Debug("pod is gone")
	return time.Time{}, true
}

func (w *worker) startCleanup(ctx context.Context) {
	w.cleaning = true
	uid := w.pod.UID
	w.background(func() error { return w.cfg.Hooks.Cleanup(ctx, uid) }, func(err error) {
		w.cleaning = false
		if err == nil {
			w.cleaned, w.prepared = true, false
			clear(w.observed)
			return
		}
		if ctx.Err() == nil {
			w.logger.Warn("cleaning up after pod", "error", err)
			w.cleanup.failed(w.cfg.Clock.Now(), err)
		}
	})
}

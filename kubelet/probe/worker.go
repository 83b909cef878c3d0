package probe

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Defaults of the API (Probe), for objects that came without them.
const (
	defaultPeriod           = 10 * time.Second
	defaultTimeout          = time.Second
	defaultFailureThreshold = 3
)

// attempts is how often a probe whose outcome is unknown is asked again at
// once, as it may be the node's trouble and not the container's.
const attempts = 3

// Names of the kinds, as the metric has them.
const (
	startup   = "Startup"
	liveness  = "Liveness"
	readiness = "Readiness"
)

// kind of a probe.
type kind struct {
	name string
	spec func(*corev1.Container) *corev1.Probe
	// judge puts a result that passed its threshold into the container's.
	judge func(r *Results, good bool)
}

// kinds in the order in which they begin.
var kinds = []kind{
	{startup, func(c *corev1.Container) *corev1.Probe { return c.StartupProbe }, func(r *Results, good bool) {
		r.Started, r.StartupFailed = good, !good
	}},
	{liveness, func(c *corev1.Container) *corev1.Probe { return c.LivenessProbe }, func(r *Results, good bool) {
		r.LivenessFailed = !good
	}},
	{readiness, func(c *corev1.Container) *corev1.Probe { return c.ReadinessProbe }, func(r *Results, good bool) {
		r.Ready = good
	}},
}

// worker performs one probe of one container, period after period.
//
//	waiting for startup ──► initial delay ──► probing ─┬─► probing ...
//	(not startup's own)                                └─► done (startup succeeded; threshold of
//	                                                       startup or liveness exceeded)
type worker struct {
	probes    *Probes
	container *probed
	kind      kind
	spec      *corev1.Probe

	last   bool // outcome of the latest probe
	streak int  // how many times in a row
}

func (w *worker) run(ctx context.Context) {
	if w.kind.name != startup {
		select {
		case <-ctx.Done():
			return
		case <-w.container.started:
		}
	}
	period := seconds(w.spec.PeriodSeconds, defaultPeriod)
	delay := time.Until(w.target().StartedAt.Add(time.Duration(w.spec.InitialDelaySeconds) * time.Second))
	timer := time.NewTimer(max(delay, 0))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(period)
		if done := w.probe(ctx); done || ctx.Err() != nil {
			return
		}
	}
}

func (w *worker) target() Target {
	w.probes.mu.Lock()
	defer w.probes.mu.Unlock()
	return w.container.target
}

// probe asks once and notes the result; true if there is nothing left to ask.
func (w *worker) probe(ctx context.Context) bool {
	target := w.target()
	if target.Pod.DeletionTimestamp != nil && w.kind.name != readiness {
		return true // it is being stopped already
	}
	result, err := w.ask(ctx, target)
	if ctx.Err() != nil {
		return true
	}
	if err != nil {
		w.count(target, "unknown")
		w.event(target, fmt.Sprintf("%s probe errored and resulted in unknown state: %v", w.kind.name, err), "ProbeError")
		return false
	}
	good := result.Outcome != Failure
	switch result.Outcome {
	case Failure:
		w.count(target, "failed")
		w.event(target, fmt.Sprintf("%s probe failed: %s", w.kind.name, result.Output), "Unhealthy")
	case Warning:
		w.count(target, "successful")
		w.event(target, fmt.Sprintf("%s probe warning: %s", w.kind.name, result.Output), "ProbeWarning")
	default:
		w.count(target, "successful")
	}
	return w.note(target, good)
}

// ask performs the probe, again if the outcome is unknown.
func (w *worker) ask(ctx context.Context, target Target) (result Result, err error) {
	prober, err := w.probes.proberFor(&w.spec.ProbeHandler)
	if err != nil {
		return Result{}, err
	}
	for range attempts {
		asking, cancel := context.WithTimeout(ctx, seconds(w.spec.TimeoutSeconds, defaultTimeout))
		result, err = prober.Probe(asking, target, &w.spec.ProbeHandler)
		cancel()
		if err == nil || ctx.Err() != nil {
			return result, err
		}
	}
	return result, err
}

// note counts the outcome and, once it passes its threshold, makes it the
// container's result.
func (w *worker) note(target Target, good bool) bool {
	if good != w.last {
		w.last, w.streak = good, 0
	}
	w.streak++
	threshold := max(int(w.spec.SuccessThreshold), 1)
	if !good {
		threshold = int(w.spec.FailureThreshold)
		if threshold <= 0 {
			threshold = defaultFailureThreshold
		}
	}
	if w.streak < threshold {
		return false
	}
	w.probes.mu.Lock()
	before := w.container.results
	w.kind.judge(&w.container.results, good)
	after := w.container.results
	if after.Started && !before.Started {
		close(w.container.started)
	}
	w.probes.mu.Unlock()
	if after != before {
		w.probes.config.Log.Info("probe result changed", "pod", target.Pod.Namespace+"/"+target.Pod.Name,
			"container", target.ID.Name, "probe", w.kind.name, "good", good)
		w.probes.config.Changed(target.ID.Pod)
	}
	switch w.kind.name {
	case startup:
		return true
	case liveness:
		return !good
	default:
		return false
	}
}

func (w *worker) event(target Target, message, reason string) {
	w.probes.config.Event(target.Pod, target.ID.Name, corev1.EventTypeWarning, reason, message)
}

func (w *worker) count(target Target, result string) {
	w.probes.total.WithLabelValues(w.kind.name, result, target.ID.Name,
		target.Pod.Name, target.Pod.Namespace, string(target.ID.Pod)).Inc()
}

func (p *Probes) proberFor(h *corev1.ProbeHandler) (Prober, error) {
	for _, prober := range p.probers {
		if prober.Match(h) {
			return prober, nil
		}
	}
	return nil, errors.New("missing probe handler")
}

func seconds(n int32, fallback time.Duration) time.Duration {
	if n <= 0 {
		return fallback
	}
	return time.Duration(n) * time.Second
}

//go:build linux

package volume

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Delays between failed refreshes: a token that cannot be had or a ConfigMap
// that was deleted is asked for again after 10 s, at last every 5 minutes.
const (
	firstRefreshRetry = 10 * time.Second
	lastRefreshRetry  = 5 * time.Minute
)

func retryDelay(tries int) time.Duration {
	delay := firstRefreshRetry
	for range tries - 1 {
		if delay *= 2; delay >= lastRefreshRetry {
			return lastRefreshRetry
		}
	}
	return delay
}

// Run refreshes volumes when objects change and when tokens grow old, until
// ctx ends.
func (v *Volumes) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-v.dirty:
		case <-timer.C:
		}
		states, next := v.takeDue()
		for _, state := range states {
			v.mu.Lock()
			pod := state.pod
			v.mu.Unlock()
			if err := v.refresh(ctx, pod, state); err != nil && ctx.Err() == nil {
				v.config.Log.Warn("could not refresh volumes; will retry", "pod", pod.Namespace+"/"+pod.Name, "err", err)
			}
		}
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(next.Sub(v.config.Now()))
		}
	}
}

// takeDue returns the Pods to refresh now, and when the next one is due.
func (v *Volumes) takeDue() (states []*podState, next time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.config.Now()
	for _, state := range v.pods {
		if state.stale || (!state.due.IsZero() && !state.due.After(now)) {
			state.stale, state.due = false, time.Time{}
			states = append(states, state)
			continue
		}
		next = sooner(next, state.due)
	}
	return states, next
}

// markStale is called when an object of the Pod changed.
func (v *Volumes) markStale(uid types.UID) {
	v.mu.Lock()
	if state := v.pods[uid]; state != nil {
		state.stale = true
	}
	v.mu.Unlock()
	v.wake()
}

func (v *Volumes) wake() {
	select {
	case v.dirty <- struct{}{}:
	default:
	}
}

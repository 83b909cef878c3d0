//go:build linux

package network

import "time"

// Retries of routes start soon, because a node's address usually becomes
// reachable within moments, and end up rare.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// backoff is a timer that fires later each time it is armed without a reset.
type backoff struct {
	timer *time.Timer
	delay time.Duration
}

func newBackoff() *backoff {
	b := &backoff{timer: time.NewTimer(0), delay: firstRetry}
	b.timer.Stop()
	return b
}

func (b *backoff) arm() {
	b.timer.Reset(b.delay)
	b.delay = min(2*b.delay, lastRetry)
}

func (b *backoff) reset() {
	b.timer.Stop()
	b.delay = firstRetry
}

func (b *backoff) fires() <-chan time.Time { return b.timer.C }
func (b *backoff) stop()                   { b.timer.Stop() }

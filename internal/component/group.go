package component

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// readyPoll is how often a Group asks a starting part whether it is ready:
// short, because the whole start-up waits for it, and the question is cheap.
const readyPoll = 5 * time.Millisecond

// ErrEnded is wrapped when a part returned without an error although nobody
// asked it to stop.
var ErrEnded = errors.New("ended although nobody stopped it")

// Group runs Parts together: it starts them in order, waiting for each one
// that has Ready() error, and stops them in reverse order, waiting for each to
// return before the next is told to stop. When any part ends, all end.
//
//	starting ──all ready──► running ──ctx ends or a part ends──► stopping ──► Run returns
//	    └──────────────ctx ends or a part ends───────────────────────▲
//
// A Group is itself a Runnable with Ready, so groups nest.
type Group struct {
	// Parts in start order; required.
	Parts []Part
	// Logger is told of starts and stops; nil means slog.Default().
	Logger *slog.Logger

	ready atomic.Bool
}

// started is a part whose goroutine runs.
type started struct {
	Part
	cancel context.CancelFunc
	done   chan struct{} // closed when Run returned; err is set before
	err    error
}

// Ready returns nil while all parts are started and were ready.
func (g *Group) Ready() error {
	if g.ready.Load() {
		return nil
	}
	return errors.New("not all parts are started")
}

// Run starts the parts, waits for ctx or for a part to end, and stops them
// again. It returns nil when ctx ended and all parts stopped cleanly, else
// what the parts returned, joined, each with its name.
func (g *Group) Run(ctx context.Context) error {
	log := g.Logger
	if log == nil {
		log = slog.Default()
	}
	ended := make(chan *started, len(g.Parts))
	var running []*started
	for _, part := range g.Parts {
		s := start(ctx, part, ended)
		running = append(running, s)
		if !awaitReady(ctx, part, ended) {
			return stop(ctx, running, log)
		}
		log.Debug("part started", "part", part.Name)
	}
	g.ready.Store(true)
	notify("READY=1")
	select {
	case <-ctx.Done():
	case <-ended:

	}
	g.ready.Store(false)
	return stop(ctx, running, log)
}

// start runs part in a goroutine of its own. Its context has ctx's values but
// ends only when the Group says so, which is what makes the stop order hold.
func start(ctx context.Context, part Part, ended chan<- *started) *started {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &started{Part: part, cancel: cancel, done: make(chan struct{})}
	go func() {
		err := part.Run(own)
		if err == nil && own.Err() == nil {
			err = ErrEnded
		}
		if errors.Is(err, context.Canceled) && own.Err() != nil {
			err = nil // being told to stop is not a failure
		}
		s.err = err
		close(s.done)
		ended <- s
	}()
	return s
}

// awaitReady reports false when ctx or any part ended before part was ready.
func awaitReady(ctx context.Context, part Part, ended <-chan *started) bool {
	readiness, ok := part.Runnable.(interface{ Ready() error })
	if !ok {
		return ctx.Err() == nil
	}
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	for readiness.Ready() != nil {
		select {
		case <-ctx.Done():
			return false
		case <-ended:
			return false
		case <-ticker.C:
		}
	}
	return ctx.Err() == nil
}

// stop cancels the parts from the last to the first, one at a time.
func stop(ctx context.Context, running []*started, log *slog.Logger) error {
	var errs []error
	for i := len(running) - 1; i >= 0; i-- {
		s := running[i]
		select {
		case <-s.done: // ended by itself: that is why we stop
		default:
			log.Debug("stopping part", "part", s.Name)
		}
		s.cancel()
		<-s.done
		if s.err != nil {
			if ctx.Err() == nil {
				log.Error("part ended", "part", s.Name, "err", s.err)
			}
			errs = append(errs, fmt.Errorf("run %s: %w", s.Name, s.err))
		}
	}
	return errors.Join(errs...)
}

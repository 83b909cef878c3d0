package fanout

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skeg-dev/skeg/apiserver/store"
)

// maxBatch bounds the events given to a reader at once, so that a watcher that
// fell behind does not build one huge answer.
const maxBatch = 512

// watcher is a running watch; its goroutine walks the topic's list.
//
//	walking ──Stop, ctx, Close──► ended (Err nil)
//	   └──too far behind, Reset──► ended (ErrExpired)
type watcher struct {
	hub   *Hub
	topic *topic
	scope string
	// from: events up to it are not wanted (they are in the reader's list).
	from int64
	// node is the last one delivered; owned by run.
	node     *node
	consumed atomic.Int64

	out  chan []*store.Event
	ask  chan struct{} // size 1
	once sync.Once
	done chan struct{} // closed by end
	mu   sync.Mutex    // guards err
	err  error
}

// Events returns the stream's batches.
func (w *watcher) Events() <-chan []*store.Event { return w.out }

// Err says why the stream ended.
func (w *watcher) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Stop ends the stream; the channel closes soon after.
func (w *watcher) Stop() { w.end(nil) }

// RequestProgress asks for a bookmark now rather than at its time.
func (w *watcher) RequestProgress() error {
	select {
	case w.ask <- struct{}{}:
	default:
	}
	return nil
}

// end makes run return; the first reason counts.
func (w *watcher) end(err error) {
	w.once.Do(func() {
		w.mu.Lock()
		w.err = err
		w.mu.Unlock()
		close(w.done)
	})
}

func (w *watcher) run(ctx context.Context, backlog []*store.Event) {
	defer close(w.out)
	defer w.hub.remove(w)
	for len(backlog) > 0 {
		n := min(len(backlog), maxBatch)
		if !w.send(ctx, backlog[:n:n]) {
			return
		}
		backlog = backlog[n:]
	}
	timer := time.NewTimer(w.hub.interval())
	defer timer.Stop()
	for {
		batch, moved := w.gather()
		if len(batch) > 0 && !w.send(ctx, batch) {
			return
		}
		if moved {
			continue
		}
		select {
		case <-w.node.ready:
		case <-timer.C:
			timer.Reset(w.hub.interval())
			if !w.mark(ctx) {
				return
			}
		case <-w.ask:
			if !w.mark(ctx) {
				return
			}
		case <-ctx.Done():
			w.end(nil)
			return
		case <-w.done:
			return
		}
	}
}

// gather takes what was published since, in one batch; moved says whether
// there was anything.
func (w *watcher) gather() (batch []*store.Event, moved bool) {
	for len(batch) < maxBatch {
		next := w.node.next.Load()
		if next == nil {
			break
		}
		w.node, moved = next, true
		events := w.unseen(next.events)
		if batch == nil {
			batch = events[:len(events):len(events)] // appending copies: nodes are shared
			continue
		}
		batch = append(batch, events...)
	}
	if moved {
		w.consumed.Store(w.node.total)
	}
	return batch, moved
}

// unseen drops events that the reader's starting revision covers.
func (w *watcher) unseen(events []*store.Event) []*store.Event {
	for len(events) > 0 && events[0].Revision <= w.from {
		events = events[1:]
	}
	return events
}

// mark sends a bookmark if everything up to the hub's revision is delivered.
func (w *watcher) mark(ctx context.Context) bool {
	revision := w.hub.revision.Load()
	if w.node.next.Load() != nil || revision < w.from {
		return true
	}
	return w.send(ctx, []*store.Event{w.hub.bookmarkAt(revision)})
}

func (w *watcher) send(ctx context.Context, batch []*store.Event) bool {
	select {
	case w.out <- batch:
		return true
	case <-ctx.Done():
		w.end(nil)
	case <-w.done:
	}
	return false
}

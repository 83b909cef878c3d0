package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// errEnded is why a stream ended that etcd closed without saying why.
var errEnded = errors.New("etcd ended the watch")

// watchNumber tells watches apart; see ownStream.
var watchNumber atomic.Int64

// ownStream gives a watch a stream of its own to etcd: the client shares one
// between watches whose outgoing metadata is equal, and a progress request is
// then answered only when all of them are caught up.
func ownStream(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "skeg-watch", strconv.FormatInt(watchNumber.Add(1), 10))
}

// Watch streams changes, with the state before each from etcd's history.
func (s *Store) Watch(ctx context.Context, q store.Query) (store.Stream, error) {
	from, err := s.watchFrom(ctx, q.AtLeast)
	if err != nil {
		return nil, err
	}
	w := s.newWatching(ctx, q.Prefix, from)
	w.decode = w.full
	go w.run(clientv3.WithPrevKV())
	return w, nil
}

// Follow streams all changes after a revision, as Watch does but cheaper, for
// one reader that keeps the state: Previous is never set, the Item of a
// deletion has no Object, a write may come as Modified although it is the
// key's first, and bookmarks come with every progress message.
func (s *Store) Follow(ctx context.Context, after int64) (store.Stream, error) {
	w := s.newWatching(ctx, "", after)
	w.decode = w.bare
	s.written.follow(1)
	go func() {
		defer s.written.follow(-1)
		w.run()
	}()
	return w, nil
}

// watchFrom resolves "from now on".
func (s *Store) watchFrom(ctx context.Context, revision int64) (int64, error) {
	if revision > 0 {
		return revision, nil
	}
	current, _, err := s.Revision(ctx, "")
	return current, err
}

// watching is a running watch on etcd. run is its goroutine.
type watching struct {
	store  *Store
	prefix string
	from   int64
	decode func(*clientv3.Event) (*store.Event, error)

	ctx    context.Context //nolint:containedctx // a stream is one call's
	cancel context.CancelFunc
	out    chan []*store.Event
	// pending waits for the reader; owned by run.
	pending []*store.Event

	mu  sync.Mutex // guards err
	err error
}

func (s *Store) newWatching(ctx context.Context, prefix string, from int64) *watching {
	ctx, cancel := context.WithCancel(ownStream(ctx))
	return &watching{store: s, prefix: prefix, from: from, ctx: ctx, cancel: cancel, out: make(chan []*store.Event)}
}

// Events returns the stream's batches.
func (w *watching) Events() <-chan []*store.Event { return w.out }

// Err says why the stream ended.
func (w *watching) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Stop ends the stream.
func (w *watching) Stop() { w.cancel() }

// RequestProgress asks etcd to say, as a bookmark on this stream, up to which
// revision there is nothing more to come.
func (w *watching) RequestProgress() error {
	if err := w.store.watcher.RequestProgress(w.ctx); err != nil {
		return fmt.Errorf("request watch progress: %w", err)
	}
	return nil
}

func (w *watching) run(options ...clientv3.OpOption) {
	defer close(w.out)
	defer w.cancel()
	options = append(options, clientv3.WithRev(w.from+1), clientv3.WithProgressNotify())
	if end := w.store.end(w.prefix); end != "" {
		options = append(options, clientv3.WithRange(end))
	}
	answers := w.store.watcher.Watch(w.ctx, w.store.dir+w.prefix, options...)
	ticker := time.NewTicker(w.store.bookmark)
	defer ticker.Stop()
	for {
		var out chan []*store.Event
		if len(w.pending) > 0 {
			out = w.out
		}
		var err error
		select {
		case answer, ok := <-answers:
			err = w.take(answer, ok)
		case out <- w.pending:
			w.pending = nil
		case <-ticker.C:
			err = w.RequestProgress()
		case <-w.ctx.Done():
			return
		}
		if w.ctx.Err() != nil {
			return
		}
		if err != nil {
			w.mu.Lock()
			w.err = err
			w.mu.Unlock()
			return
		}
	}
}

// take queues an answer's events for the reader.
func (w *watching) take(answer clientv3.WatchResponse, ok bool) error {
	if !ok {
		return errEnded
	}
	if err := answer.Err(); err != nil {
		if answer.CompactRevision != 0 || errors.Is(err, rpctypes.ErrCompacted) {
			return store.ErrExpired
		}
		return fmt.Errorf("watch %s: %w", w.store.dir+w.prefix, err)
	}
	if answer.IsProgressNotify() {
		w.mark(answer.Header.Revision)
		return nil
	}
	for _, ev := range answer.Events {
		e, err := w.decode(ev)
		if err != nil {
			return err
		}
		w.pending = append(w.pending, e)
	}
	if len(w.pending) > w.store.maxLag {
		return store.ErrExpired
	}
	return nil
}

// mark queues a bookmark, in place of one the reader has not seen.
func (w *watching) mark(revision int64) {
	if revision < w.from {
		return
	}
	ev := &store.Event{Type: store.Bookmark, Revision: revision}
	if n := len(w.pending); n > 0 && w.pending[n-1].Type == store.Bookmark {
		w.pending[n-1] = ev
		return
	}
	w.pending = append(w.pending, ev)
}

// full decodes an event with the state before it.
func (w *watching) full(ev *clientv3.Event) (*store.Event, error) {
	out := &store.Event{Type: store.Added, Revision: ev.Kv.ModRevision}
	var err error
	if !ev.IsCreate() {
		if ev.PrevKv == nil {
			// The state before was compacted while the watch was behind.
			return nil, store.ErrExpired
		}
		out.Type = store.Modified
		if out.Previous, err = w.store.decode(w.ctx, ev.PrevKv); err != nil {
			return nil, err
		}
	}
	if ev.Type != clientv3.EventTypeDelete {
		out.Item, err = w.store.decode(w.ctx, ev.Kv)
		return out, err
	}
	out.Type = store.Deleted
	last, ok := out.Previous.Object.DeepCopyObject().(resource.Object)
	if !ok {
		return nil, fmt.Errorf("copy %T: it has no metadata", out.Previous.Object)
	}
	out.Item = newItem(out.Previous.Key, last, out.Revision)
	return out, nil
}

// bare decodes an event for Follow.
func (w *watching) bare(ev *clientv3.Event) (*store.Event, error) {
	out := &store.Event{Type: store.Modified, Revision: ev.Kv.ModRevision}
	key := strings.TrimPrefix(string(ev.Kv.Key), w.store.dir)
	switch {
	case ev.Type == clientv3.EventTypeDelete:
		out.Type = store.Deleted
		out.Item = &store.Item{Key: key, Revision: out.Revision}
		return out, nil
	case ev.IsCreate():
		out.Type = store.Added
	}
	if out.Item = w.store.written.take(key, ev.Kv.Value, out.Revision); out.Item != nil {
		return out, nil
	}
	var err error
	out.Item, err = w.store.decode(w.ctx, ev.Kv)
	return out, err
}

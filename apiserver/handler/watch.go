package handler

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/selection"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// minWatch is the shortest life of a watch without timeoutSeconds; up to as
// much again is added so that watches do not all end together (upstream's
// --min-request-timeout).
const minWatch = 1800 * time.Second

// flushBytes is how much of an initial state is gathered before it is sent.
const flushBytes = 64 * 1024

// watching is one running watch.
type watching struct {
	*call
	frames    *codec.Frames
	match     func(resource.Object) bool // nil matches all
	index     string                     // see store.Query
	bookmarks bool
	flush     func() error
	buf       []byte
}

// watch streams changes until the client leaves, the time is up or the stream
// breaks. Errors after the headers are ERROR events.
func (c *call) watch() error {
	opts, err := selection.ParseOptions(c.r.URL.Query())
	if err != nil {
		return err //nolint:wrapcheck // a Status
	}
	name := ""
	if c.info.InPath {
		name = c.info.Name // the old /watch/<resource>/<name> form
	}
	predicate, err := selection.NewPredicate(c.def, opts, name)
	if err != nil {
		return err //nolint:wrapcheck // a Status
	}
	include, err := c.tablePolicy()
	if err != nil {
		return err
	}
	from, err := selection.ParseRevision(opts.ResourceVersion)
	if err != nil {
		return err //nolint:wrapcheck // a Status
	}
	index := ""
	if c.def.Index != nil {
		index = predicate.Requires(c.def.Index.Field)
	}
	if c.accepted.Format == codec.YAML {
		return codec.NewNotAcceptable(codec.MediaJSON, codec.MediaProtobuf, codec.MediaCBOR)
	}
	w := &watching{
		call: c, frames: c.source.Frames(c.accepted, include), match: c.match(predicate), index: index,
		bookmarks: opts.AllowWatchBookmarks, flush: http.NewResponseController(c.w).Flush,
	}
	initial := opts.SendInitialEvents != nil && *opts.SendInitialEvents ||
		opts.SendInitialEvents == nil && from == 0
	page, stream, err := w.open(opts, from, initial)
	if errors.Is(err, store.ErrFuture) {
		return err
	}
	w.start()
	if err != nil {
		return w.fail(err)
	}
	defer stream.Stop()
	if initial {
		if err := w.initial(page, opts.SendInitialEvents != nil); err != nil {
			return nil //nolint:nilerr // the client left
		}
	}
	w.run(stream, watchTimeout(opts))
	return nil
}

// open reads the initial state when it is wanted and starts the stream right
// after it.
func (w *watching) open(opts *selection.Options, from int64, initial bool) (*store.Page, store.Stream, error) {
	prefix := w.prefix()
	var page *store.Page
	if initial {
		at := from
		if opts.ResourceVersion == "" {
			at = store.Latest
		}
		var err error
		page, err = w.store.List(w.ctx, store.Query{Prefix: prefix, Match: w.match, Consistency: store.Consistency{AtLeast: at}})
		if err != nil {
			return nil, nil, err //nolint:wrapcheck // mapped by fail
		}
		from = page.Revision
	}
	stream, err := w.store.Watch(w.ctx, store.Query{Prefix: prefix, Index: w.index, Consistency: store.Consistency{AtLeast: from}})
	return page, stream, err //nolint:wrapcheck // mapped by fail
}

func (w *watching) start() {
	header := w.w.Header()
	header.Set("Content-Type", w.frames.ContentType())
	header.Set("Cache-Control", "no-cache, private")
	w.w.WriteHeader(http.StatusOK)
	w.send() //nolint:errcheck // the first event finds out
}

// fail ends a watch that cannot start or go on, with an ERROR event.
func (w *watching) fail(err error) error {
	if errors.Is(err, store.ErrExpired) {
		err = apierrors.NewResourceExpired("too old resource version")
	} else {
		err = w.statusError(err)
	}
	frame, encodeErr := w.frames.Error(err)
	if encodeErr != nil {
		w.config.Logger.Error("watch error not sent", "resource", w.gr.String(), "err", encodeErr)
		return nil
	}
	w.buf = append(w.buf, frame...)
	w.send() //nolint:errcheck // the client left; the watch ends anyway
	return nil
}

// initial sends the present state as ADDED events, and the bookmark that ends
// it when the client asked for that (KEP-3157).
func (w *watching) initial(page *store.Page, marked bool) error {
	for _, item := range page.Items {
		frame, err := w.frames.Item(watch.Added, item)
		if err != nil {
			return err //nolint:wrapcheck // already says what
		}
		w.buf = append(w.buf, frame...)
		if len(w.buf) > flushBytes {
			if err := w.send(); err != nil {
				return err
			}
		}
	}
	if marked && w.bookmarks {
		frame, err := w.frames.Bookmark(strconv.FormatInt(page.Revision, 10), true)
		if err != nil {
			return err //nolint:wrapcheck // already says what
		}
		w.buf = append(w.buf, frame...)
	}
	return w.send()
}

func (w *watching) run(stream store.Stream, timeout time.Duration) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-w.config.Stop:
			return
		case <-timer.C:
			return
		case events, ok := <-stream.Events():
			if !ok {
				if err := stream.Err(); err != nil {
					w.fail(err) //nolint:errcheck // always nil
				}
				return
			}
			if err := w.events(events); err != nil {
				return // the client left
			}
		}
	}
}

// events sends a batch with one write.
func (w *watching) events(events []*store.Event) error {
	for _, ev := range events {
		frame, err := w.event(ev)
		if err != nil {
			w.config.Logger.Error("watch event not encoded", "resource", w.gr.String(), "rv", ev.Revision, "err", err)
			return err
		}
		w.buf = append(w.buf, frame...)
	}
	return w.send()
}

// event returns the frame this watch shows for ev, nil for none. With a
// selector, an object that starts to match is ADDED and one that stops is
// DELETED, whatever happened to it.
func (w *watching) event(ev *store.Event) ([]byte, error) {
	switch ev.Type {
	case store.Bookmark:
		if !w.bookmarks {
			return nil, nil
		}
		return w.frames.Bookmark(strconv.FormatInt(ev.Revision, 10), false)
	case store.Added:
		if w.matches(ev.Item) {
			return w.frames.Event(ev, watch.Added, ev.Item)
		}
		return nil, nil
	case store.Deleted:
		if w.matches(ev.Item) {
			return w.frames.Event(ev, watch.Deleted, ev.Item)
		}
		return nil, nil
	}
	is := w.matches(ev.Item)
	was := is
	if ev.Previous != nil {
		was = w.matches(ev.Previous)
	}
	switch {
	case is && was:
		return w.frames.Event(ev, watch.Modified, ev.Item)
	case is:
		return w.frames.Event(ev, watch.Added, ev.Item)
	case was:
		return w.frames.Event(ev, watch.Deleted, previousAt(ev))
	}
	return nil, nil
}

func (w *watching) matches(item *store.Item) bool { return w.match == nil || w.match(item.Object) }

// previousAt is the state before ev with ev's revision.
func previousAt(ev *store.Event) *store.Item {
	obj, ok := ev.Previous.Object.DeepCopyObject().(resource.Object)
	if !ok {
		return ev.Previous
	}
	obj.SetResourceVersion(strconv.FormatInt(ev.Revision, 10))
	return &store.Item{Key: ev.Previous.Key, Revision: ev.Revision, Object: obj}
}

func (w *watching) send() error {
	if len(w.buf) > 0 {
		if _, err := w.w.Write(w.buf); err != nil {
			return fmt.Errorf("write events: %w", err)
		}
		w.buf = w.buf[:0]
		if cap(w.buf) > 4*flushBytes {
			w.buf = nil
		}
	}
	if err := w.flush(); err != nil {
		return fmt.Errorf("flush events: %w", err)
	}
	return nil
}

func watchTimeout(opts *selection.Options) time.Duration {
	if opts.TimeoutSeconds != nil && *opts.TimeoutSeconds > 0 {
		return time.Duration(*opts.TimeoutSeconds) * time.Second
	}
	return minWatch + time.Duration(rand.Int64N(int64(minWatch)))
}

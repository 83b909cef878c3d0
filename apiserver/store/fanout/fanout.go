// Package fanout delivers one ordered stream of events to many watchers. It
// owns the recent history from which a watch resumes, and bounds every
// watcher: one that does not keep up ends with store.ErrExpired and costs the
// publisher and the other watchers nothing.
//
//	Publish ──► history (ring, sized by age)          for watches from the past
//	       └──► topic "" ──► node ─► node ─► node     a linked list; each watcher
//	       └──► topic "ns/" ──► node                  holds its place in it, so a
//	       └──► topic "ns/name" ──► node              publish is one append a topic
//
// With Config.Index there are topics of index values as well: the Pods of one
// node. store/cache and store/memory use it. Goroutines: one per watcher, until its
// Stop, its context or Close ends it.
package fanout

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// Config bounds a Hub. Zero fields get the defaults named.
type Config struct {
	// MinEvents and MaxEvents bound the history; within them it keeps what is
	// younger than Freshness. Defaults 128, 102400 and 75 s, upstream's values:
	// a client that lost its connection is back within a minute.
	MinEvents, MaxEvents int
	Freshness            time.Duration
	// MaxLag is how many undelivered events a watcher may have. Default 8192:
	// far more than a burst, far less than a machine's memory.
	MaxLag int
	// Bookmark is the mean time between bookmarks to a watcher; default 1 min.
	Bookmark time.Duration
	// Index returns an object's value of the field that WatchIndex selects by,
	// "" for none; nil when there is no such field.
	Index func(resource.Object) string
	// Now is the clock of the history; default time.Now.
	Now func() time.Time
}

func (c *Config) complete() {
	if c.MinEvents <= 0 {
		c.MinEvents = 128
	}
	if c.MaxEvents < c.MinEvents {
		c.MaxEvents = max(102400, c.MinEvents)
	}
	if c.Freshness <= 0 {
		c.Freshness = 75 * time.Second
	}
	if c.MaxLag <= 0 {
		c.MaxLag = 8192
	}
	if c.Bookmark <= 0 {
		c.Bookmark = time.Minute
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Hub takes events from one publisher and gives them to watchers. Publish,
// Progress and Reset are called by one goroutine at a time; the rest is safe
// for concurrent use.
type Hub struct {
	config Config

	// revision: everything up to it was published. Stored after the events
	// were appended to their topics, so that a watcher that reads it and then
	// finds no next node has delivered everything up to it.
	revision atomic.Int64
	// bookmark is the latest one made, shared by watchers for its encoding.
	bookmark atomic.Pointer[store.Event]

	mu      sync.Mutex // guards all below
	history history
	topics  map[string]*topic
	indexed int // how many topics are of index values
	closed  bool
}

// New returns a Hub whose history begins after revision.
func New(revision int64, config Config) *Hub {
	config.complete()
	h := &Hub{config: config, topics: map[string]*topic{}}
	h.history = newHistory(revision, config)
	h.revision.Store(revision)
	return h
}

// Publish appends events, which are in revision order and newer than all
// before. The slice is kept.
func (h *Hub) Publish(events []*store.Event) {
	if len(events) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.config.Now()
	for _, ev := range events {
		h.history.add(ev, now)
	}
	h.distribute(events)
	h.revision.Store(events[len(events)-1].Revision)
}

// Progress says that there are no events up to revision beyond those published.
func (h *Hub) Progress(revision int64) {
	if revision > h.revision.Load() {
		h.revision.Store(revision)
	}
}

// Revision returns what everything was published up to.
func (h *Hub) Revision() int64 { return h.revision.Load() }

// Reset starts anew after a gap in the stream: history now begins after
// revision, and all watchers end with store.ErrExpired.
func (h *Hub) Reset(revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.endAll(store.ErrExpired)
	h.history = newHistory(revision, h.config)
	h.revision.Store(revision)
}

// Forget drops history up to revision, as a compaction does.
func (h *Hub) Forget(revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.history.forget(revision)
}

// Close ends all watchers without error; later watches end at once.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.endAll(nil)
}

func (h *Hub) endAll(err error) {
	for _, t := range h.topics {
		for w := range t.watchers {
			w.end(err)
		}
	}
}

// Watchers counts the running watches.
func (h *Hub) Watchers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, t := range h.topics {
		n += len(t.watchers)
	}
	return n
}

// Watch streams the events after revision from whose keys are in prefix's
// scope (see Scope), until ctx ends. store.ErrExpired when history does not
// reach back that far. A revision not yet published is waited for.
func (h *Hub) Watch(ctx context.Context, prefix string, from int64) (store.Stream, error) {
	return h.watch(ctx, prefix, from, func(ev *store.Event) bool { return store.InScope(ev.Item.Key, prefix) })
}

// WatchIndex streams like Watch the events of objects whose index value is, or
// was before the event, value. The Hub must have an Index.
func (h *Hub) WatchIndex(ctx context.Context, value string, from int64) (store.Stream, error) {
	return h.watch(ctx, indexScope+value, from, func(ev *store.Event) bool {
		now, before := h.values(ev)
		return now == value || before == value
	})
}

// indexScope begins the scopes of index values; no key begins like this.
const indexScope = "\x00"

// values are the index values that concern an event; before is "" when it is
// the same.
func (h *Hub) values(ev *store.Event) (now, before string) {
	now = h.config.Index(ev.Item.Object)
	if ev.Previous != nil {
		before = h.config.Index(ev.Previous.Object)
	}
	if before == now {
		before = ""
	}
	return now, before
}

func (h *Hub) watch(ctx context.Context, scope string, from int64, wanted func(*store.Event) bool) (store.Stream, error) {
	w := &watcher{
		hub: h, scope: scope, from: from,
		out: make(chan []*store.Event, 1), ask: make(chan struct{}, 1), done: make(chan struct{}),
	}
	h.mu.Lock()
	backlog, ok := h.history.since(from, scope == "", wanted)
	if !ok {
		h.mu.Unlock()
		return nil, store.ErrExpired
	}
	t := h.topics[scope]
	if t == nil {
		t = newTopic()
		h.topics[scope] = t
		if strings.HasPrefix(scope, indexScope) {
			h.indexed++
		}
	}
	w.topic, w.node = t, t.tail
	w.consumed.Store(t.tail.total)
	t.watchers[w] = struct{}{}
	if h.closed {
		w.end(nil)
	}
	h.mu.Unlock()
	go w.run(ctx, backlog)
	return w, nil
}

// distribute appends events to the topics that have watchers.
func (h *Hub) distribute(events []*store.Event) {
	scoped := len(h.topics)
	if all := h.topics[""]; all != nil {
		scoped--
		all.append(events, h.config.MaxLag)
	}
	if scoped == 0 {
		return
	}
	parts := map[*topic][]*store.Event{}
	for _, ev := range events {
		for _, scope := range h.scopes(ev) {
			if t := h.topics[scope]; t != nil && scope != "" {
				parts[t] = append(parts[t], ev)
			}
		}
	}
	for t, part := range parts {
		t.append(part, h.config.MaxLag)
	}
}

// scopes names the topics of an event beside ""; unused ones are "".
func (h *Hub) scopes(ev *store.Event) (out [4]string) {
	key := ev.Item.Key
	out[0] = key
	if i := strings.IndexByte(key, '/'); i >= 0 {
		out[1] = key[:i+1]
	}
	if h.indexed == 0 {
		return out
	}
	now, before := h.values(ev)
	if now != "" {
		out[2] = indexScope + now
	}
	if before != "" {
		out[3] = indexScope + before
	}
	return out
}

// remove takes an ended watcher out.
func (h *Hub) remove(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(w.topic.watchers, w)
	if len(w.topic.watchers) == 0 && h.topics[w.scope] == w.topic {
		delete(h.topics, w.scope)
		if strings.HasPrefix(w.scope, indexScope) {
			h.indexed--
		}
	}
}

// bookmarkAt returns the shared bookmark event of a revision.
func (h *Hub) bookmarkAt(revision int64) *store.Event {
	ev := h.bookmark.Load()
	if ev == nil || ev.Revision != revision {
		ev = &store.Event{Type: store.Bookmark, Revision: revision}
		h.bookmark.Store(ev)
	}
	return ev
}

// interval is the time to a watcher's next bookmark, spread by a fifth so
// that watchers do not all wake together.
func (h *Hub) interval() time.Duration {
	spread := int64(h.config.Bookmark / 5)
	return h.config.Bookmark - time.Duration(spread/2) + time.Duration(rand.Int64N(spread+1))
}

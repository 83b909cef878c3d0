package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/apiserver/store/fanout"
	"github.com/skeg-dev/skeg/apiserver/store/memory"
	"github.com/skeg-dev/skeg/internal/testkit"
)

// faulty is a backing whose streams can be broken and held up.
type faulty struct {
	*memory.Store
	follows atomic.Int64

	mu      sync.Mutex // guards all below
	streams []*faultyStream
	refuse  error // Follow's answer
	held    bool  // streams deliver nothing
}

func newFaulty() *faulty {
	return &faulty{Store: memory.New(memory.Config{Fanout: fanout.Config{MaxLag: 1 << 20}})}
}

type faultyStream struct {
	store.Stream
	out    chan []*store.Event
	broken chan struct{}
	once   sync.Once
	owner  *faulty
}

var errBroken = errors.New("connection lost")

func (f *faulty) Follow(ctx context.Context, after int64) (store.Stream, error) {
	f.follows.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return nil, f.refuse
	}
	inner, err := f.Store.Follow(ctx, after)
	if err != nil {
		return nil, err
	}
	s := &faultyStream{Stream: inner, out: make(chan []*store.Event), broken: make(chan struct{}), owner: f}
	f.streams = append(f.streams, s)
	go s.pump()
	return s, nil
}

func (s *faultyStream) pump() {
	defer close(s.out)
	defer s.Stream.Stop()
	for {
		select {
		case batch, ok := <-s.Stream.Events():
			if !ok {
				return
			}
			if s.owner.isHeld() {
				<-s.broken // what it held is lost with the connection
				return
			}
			select {
			case s.out <- batch:
			case <-s.broken:
				return
			}
		case <-s.broken:
			return
		}
	}
}

func (s *faultyStream) Events() <-chan []*store.Event { return s.out }
func (s *faultyStream) Stop()                         { s.once.Do(func() { close(s.broken) }) }
func (s *faultyStream) RequestProgress() error {
	return s.Stream.(interface{ RequestProgress() error }).RequestProgress()
}

func (s *faultyStream) Err() error {
	select {
	case <-s.broken:
		return errBroken
	default:
		return s.Stream.Err()
	}
}

func (f *faulty) isHeld() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held
}

func (f *faulty) hold(held bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = held
}

func (f *faulty) refuseFollow(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = err
}

// breakAll ends the running streams.
func (f *faulty) breakAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.streams {
		s.Stop()
	}
	f.streams = nil
}

func object(value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a"}, Data: map[string]string{"v": value}}
}

func put(t testing.TB, s store.Store, key, value string) *store.Item {
	t.Helper()
	item, err := s.Update(t.Context(), key, func(*store.Item) (resource.Object, error) { return object(value), nil })
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return item
}

func watch(t testing.TB, s store.Store, from int64) store.Stream {
	t.Helper()
	stream, err := s.Watch(t.Context(), store.Query{Consistency: store.Consistency{AtLeast: from}})
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	t.Cleanup(stream.Stop)
	return stream
}

// TestBrokenStreamsLoseNothing breaks the stream while clients write; a
// watcher still sees each write once.
func TestBrokenStreamsLoseNothing(t *testing.T) {
	backing := newFaulty()
	c := run(t, backing, Config{})
	start := put(t, c, "ns/a", "start")
	stream := watch(t, c, start.Revision)
	const writes = 500
	go func() {
		for i := range writes {
			if i%100 == 50 {
				backing.breakAll()
			}
			put(t, c, "ns/a", fmt.Sprint(i))
		}
	}()
	seen := 0
	for batch := range stream.Events() {
		for _, ev := range batch {
			if ev.Type == store.Bookmark {
				continue
			}
			if got := ev.Item.Object.(*corev1.ConfigMap).Data["v"]; got != fmt.Sprint(seen) || ev.Revision != start.Revision+int64(seen)+1 {
				t.Fatalf("event %d is %q at %d", seen, got, ev.Revision)
			}
			if seen++; seen == writes {
				return
			}
		}
	}
	t.Fatalf("stream ended after %d events: %v", seen, stream.Err())
}

// TestCompactedWhileBroken: what cannot be resumed is listed again, and
// watchers are told that they missed something.
func TestCompactedWhileBroken(t *testing.T) {
	backing := newFaulty()
	c := run(t, backing, Config{})
	first := put(t, c, "ns/a", "1")
	put(t, c, "ns/gone", "1")
	testkit.Eventually(t, "the cache to follow", func() error { return reached(c, first.Revision+1) })
	stream := watch(t, c, first.Revision+1)
	backing.refuseFollow(errBroken)
	backing.breakAll()
	put(t, backing, "ns/a", "2")
	if _, err := backing.Delete(t.Context(), "ns/gone", nil); err != nil {
		t.Fatal(err)
	}
	last := put(t, backing, "ns/b", "1")
	backing.Compact(last.Revision)
	backing.refuseFollow(nil)
	for batch := range stream.Events() {
		for _, ev := range batch {
			if ev.Type != store.Bookmark {
				t.Fatalf("event %+v although some are missing", ev)
			}
		}
	}
	if err := stream.Err(); !errors.Is(err, store.ErrExpired) {
		t.Fatalf("stream ended with %v", err)
	}
	testkit.Eventually(t, "the cache to list again", func() error { return reached(c, last.Revision) })
	page, err := c.List(t.Context(), store.Query{})
	if err != nil || len(page.Items) != 2 || page.Items[0].Object.(*corev1.ConfigMap).Data["v"] != "2" {
		t.Fatalf("%+v, %v", page, err)
	}
	again := watch(t, c, page.Revision)
	next := put(t, c, "ns/c", "1")
	for batch := range again.Events() {
		for _, ev := range batch {
			if ev.Revision == next.Revision {
				return
			}
		}
	}
	t.Fatal(again.Err())
}

func reached(c *Cache, revision int64) error {
	if got := c.state.Load().revision; got < revision {
		return fmt.Errorf("at revision %d, want %d", got, revision)
	}
	return nil
}

// TestStalledStream: the latest state is still readable, from the backing, and
// writes from an outdated guess still are right.
func TestStalledStream(t *testing.T) {
	backing := newFaulty()
	c := run(t, backing, Config{FreshWait: 20 * time.Millisecond})
	first := put(t, c, "ns/a", "1")
	testkit.Eventually(t, "the cache to follow", func() error { return reached(c, first.Revision) })
	backing.hold(true)
	second := put(t, backing, "ns/a", "2")
	item, err := c.Get(t.Context(), "ns/a", store.Consistency{AtLeast: store.Latest})
	if err != nil || item.Revision != second.Revision {
		t.Fatalf("%+v, %v", item, err)
	}
	page, err := c.List(t.Context(), store.Query{Consistency: store.Consistency{AtLeast: store.Latest}})
	if err != nil || page.Items[0].Revision != second.Revision {
		t.Fatalf("%+v, %v", page, err)
	}
	if item, err = c.Get(t.Context(), "ns/a", store.Consistency{}); err != nil || item.Revision != first.Revision {
		t.Fatalf("any revision: %+v, %v", item, err)
	}
	if _, err = c.Get(t.Context(), "ns/a", store.Consistency{AtLeast: second.Revision}); !errors.Is(err, store.ErrFuture) {
		t.Fatal(err)
	}
	third, err := c.Update(t.Context(), "ns/a", func(current *store.Item) (resource.Object, error) {
		return object(current.Object.(*corev1.ConfigMap).Data["v"] + "+"), nil
	})
	if err != nil || third.Object.(*corev1.ConfigMap).Data["v"] != "2+" {
		t.Fatalf("%+v, %v", third, err)
	}
	if _, err := c.Delete(t.Context(), "ns/a", func(current *store.Item) error {
		if current.Revision != third.Revision {
			return errBroken
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "ns/a", store.Consistency{AtLeast: store.Latest}); !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	backing.hold(false)
	backing.breakAll()
	testkit.Eventually(t, "the cache to catch up", func() error { return reached(c, third.Revision+1) })
}

// TestWatchesSurviveARestart: a new process's cache has the history from which
// clients of the old one resume.
func TestWatchesSurviveARestart(t *testing.T) {
	backing := newFaulty()
	var from *store.Item
	for i := range 100 {
		item := put(t, backing, "ns/a", fmt.Sprint(i))
		if i == 40 {
			from = item
		}
	}
	c := run(t, backing, Config{})
	stream := watch(t, c, from.Revision)
	for i := 41; i < 100; {
		for _, ev := range <-stream.Events() {
			if got := ev.Item.Object.(*corev1.ConfigMap).Data["v"]; got != fmt.Sprint(i) {
				t.Fatalf("event %q, want %d", got, i)
			}
			i++
		}
	}
	none := run(t, backing, Config{Replay: -1})
	if _, err := none.Watch(t.Context(), store.Query{Consistency: store.Consistency{AtLeast: from.Revision}}); !errors.Is(err, store.ErrExpired) {
		t.Fatalf("without history: %v", err)
	}
	// After a compaction it starts without history instead of not at all.
	backing.Compact(from.Revision + 50)
	late := run(t, backing, Config{})
	if _, err := late.Watch(t.Context(), store.Query{Consistency: store.Consistency{AtLeast: from.Revision}}); !errors.Is(err, store.ErrExpired) {
		t.Fatalf("after a compaction: %v", err)
	}
}

// TestBeforeTheFirstList: reads and writes work, a watch waits.
func TestBeforeTheFirstList(t *testing.T) {
	backing := newFaulty()
	c := New(backing, Config{})
	item := put(t, c, "ns/a", "1")
	if c.Ready() == nil || c.Items() != 0 {
		t.Fatal("ready without running")
	}
	if got, err := c.Get(t.Context(), "ns/a", store.Consistency{}); err != nil || got.Revision != item.Revision {
		t.Fatalf("%+v, %v", got, err)
	}
	if page, err := c.List(t.Context(), store.Query{}); err != nil || len(page.Items) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Watch(ctx, store.Query{}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// TestManyWatchersCostOne: one stream from the backing, and one encoding of an
// event, for a hundred watchers.
func TestManyWatchersCostOne(t *testing.T) {
	backing := newFaulty()
	c := run(t, backing, Config{})
	start := put(t, c, "ns/a", "start")
	const watchers, writes = 100, 20
	var encodings atomic.Int64
	var wg sync.WaitGroup
	for range watchers {
		stream := watch(t, c, start.Revision)
		wg.Go(func() {
			seen := 0
			for batch := range stream.Events() {
				for _, ev := range batch {
					if ev.Type == store.Bookmark {
						continue
					}
					_, err := ev.Encoded("json", func() ([]byte, error) { encodings.Add(1); return []byte("{}"), nil })
					if err != nil {
						t.Error(err)
					}
					if seen++; seen == writes {
						return
					}
				}
			}
		})
	}
	if n := c.Watchers(); n != watchers {
		t.Fatalf("%d watchers", n)
	}
	for i := range writes {
		put(t, c, "ns/a", fmt.Sprint(i))
	}
	wg.Wait()
	if n := encodings.Load(); n != writes {
		t.Fatalf("%d encodings of %d events", n, writes)
	}
	if n := backing.follows.Load(); n != 1 {
		t.Fatalf("%d streams from the backing", n)
	}
}

// TestPagesOutliveCompaction: a client reading page by page is not cut off.
func TestPagesOutliveCompaction(t *testing.T) {
	backing := newFaulty()
	c := run(t, backing, Config{})
	var last *store.Item
	for i := range 10 {
		last = put(t, c, fmt.Sprintf("ns/%d", i), "1")
	}
	page, err := c.List(t.Context(), store.Query{Limit: 5, Consistency: store.Consistency{AtLeast: last.Revision}})
	if err != nil {
		t.Fatal(err)
	}
	after := put(t, c, "ns/7", "2")
	backing.Compact(after.Revision)
	rest, err := c.List(t.Context(), store.Query{After: page.Items[4].Key, Consistency: store.Consistency{Exactly: page.Revision}})
	if err != nil || len(rest.Items) != 5 || rest.Items[2].Object.(*corev1.ConfigMap).Data["v"] != "1" {
		t.Fatalf("%+v, %v", rest, err)
	}
}

// TestForgottenRevisionsExpire: pages of a revision that is compacted by the
// servers' own rule expire, also where memory could still serve them.
func TestForgottenRevisionsExpire(t *testing.T) {
	var compacted atomic.Int64
	c := run(t, newFaulty(), Config{Compacted: compacted.Load})
	var last *store.Item
	for i := range 10 {
		last = put(t, c, fmt.Sprintf("ns/%d", i), "1")
	}
	page, err := c.List(t.Context(), store.Query{Limit: 5, Consistency: store.Consistency{AtLeast: last.Revision}})
	if err != nil {
		t.Fatal(err)
	}
	next := store.Query{After: page.Items[4].Key, Consistency: store.Consistency{Exactly: page.Revision}}
	for revision, want := range map[int64]error{page.Revision: nil, page.Revision + 1: store.ErrExpired} {
		compacted.Store(revision)
		if _, err := c.List(t.Context(), next); !errors.Is(err, want) {
			t.Errorf("compacted to %d, page of %d: %v", revision, page.Revision, err)
		}
	}
}

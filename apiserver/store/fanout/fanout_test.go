package fanout

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/skeg-dev/skeg/apiserver/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func event(key string, revision int64) *store.Event {
	return &store.Event{Type: store.Added, Revision: revision, Item: &store.Item{Key: key, Revision: revision}}
}

func TestHistoryFitsItsLoad(t *testing.T) {
	now := time.Unix(0, 0)
	h := newHistory(0, Config{MinEvents: 4, MaxEvents: 16, Freshness: time.Minute})
	revision := int64(0)
	add := func(n int, every time.Duration) {
		for range n {
			now = now.Add(every)
			revision++
			h.add(event("a", revision), now)
		}
	}
	sized := func(size, count int, floor int64) {
		t.Helper()
		if len(h.slots) != size || h.count != count || h.floor != floor {
			t.Fatalf("%d slots, %d events, floor %d; want %d, %d, %d", len(h.slots), h.count, h.floor, size, count, floor)
		}
	}
	add(4, time.Second)
	sized(4, 4, 0)
	add(1, time.Second) // full of fresh events: grows
	sized(8, 5, 0)
	add(12, time.Second)
	sized(16, 16, 1) // not beyond the maximum
	add(48, 2*time.Minute)
	if len(h.slots) != 4 {
		t.Fatalf("%d slots while all is stale", len(h.slots))
	}
	if got, ok := h.since(revision-2, true, nil); !ok || len(got) != 2 || got[0].Revision != revision-1 {
		t.Fatalf("%v, %v", got, ok)
	}
	if _, ok := h.since(h.floor-1, true, nil); ok {
		t.Fatal("events before the floor")
	}
	h.forget(revision)
	if got, ok := h.since(revision, true, nil); !ok || len(got) != 0 {
		t.Fatalf("%v, %v", got, ok)
	}
	if _, ok := h.since(revision-1, true, nil); ok {
		t.Fatal("forgotten events")
	}
}

// TestWatchersSeeWhatIsInScope: whatever is published before and after, a
// watcher sees exactly the events of its scope after its revision, in order.
func TestWatchersSeeWhatIsInScope(t *testing.T) {
	keys := []string{"a", "ns/a", "ns/b", "n/a", "nss/a"}
	scopes := append([]string{"", "ns/", "n/", "x/"}, keys...)
	rapid.Check(t, func(t *rapid.T) {
		h := New(0, Config{MinEvents: 4, MaxEvents: 1 << 10})
		defer h.Close()
		type running struct {
			stream store.Stream
			scope  string
			from   int64
		}
		var watchers []running
		var all []*store.Event
		revision := int64(0)
		t.Repeat(map[string]func(*rapid.T){
			"publish": func(t *rapid.T) {
				var batch []*store.Event
				for range rapid.IntRange(1, 5).Draw(t, "events") {
					revision += rapid.Int64Range(1, 3).Draw(t, "step")
					batch = append(batch, event(rapid.SampledFrom(keys).Draw(t, "key"), revision))
				}
				all = append(all, batch...)
				h.Publish(batch)
			},
			"watch": func(t *rapid.T) {
				w := running{scope: rapid.SampledFrom(scopes).Draw(t, "scope"), from: rapid.Int64Range(0, revision+4).Draw(t, "from")}
				var err error
				if w.stream, err = h.Watch(t.Context(), w.scope, w.from); err != nil {
					t.Fatal(err)
				}
				watchers = append(watchers, w)
			},
		})
		// A last event in every scope ends the reading.
		var ends []*store.Event
		for _, key := range append(keys, "x/a") {
			revision += 10
			ends = append(ends, event(key, revision))
		}
		all = append(all, ends...)
		h.Publish(ends)
		for _, w := range watchers {
			var want []*store.Event
			for _, ev := range all {
				if ev.Revision > w.from && store.InScope(ev.Item.Key, w.scope) {
					want = append(want, ev)
				}
			}
			for len(want) > 0 {
				batch, ok := <-w.stream.Events()
				if !ok {
					t.Fatalf("stream ended: %v", w.stream.Err())
				}
				for _, ev := range batch {
					if len(want) == 0 || ev != want[0] {
						t.Fatalf("watcher of %q from %d got %s at %d", w.scope, w.from, ev.Item.Key, ev.Revision)
					}
					want = want[1:]
				}
			}
			w.stream.Stop()
		}
	})
}

func TestSlowWatcherCostsOthersNothing(t *testing.T) {
	h := New(0, Config{MinEvents: 4, MaxEvents: 8, MaxLag: 16})
	defer h.Close()
	slow, err := h.Watch(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	fast, err := h.Watch(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(100) {
		h.Publish([]*store.Event{event("a", i+1)})
		if got := <-fast.Events(); got[0].Revision != i+1 {
			t.Fatalf("event %d, want %d", got[0].Revision, i+1)
		}
	}
	for range slow.Events() { //nolint:revive // drained
	}
	if !errors.Is(slow.Err(), store.ErrExpired) || fast.Err() != nil {
		t.Fatalf("slow: %v, fast: %v", slow.Err(), fast.Err())
	}
}

func TestBookmarksComeAfterTheirEvents(t *testing.T) {
	h := New(0, Config{Bookmark: time.Millisecond})
	defer h.Close()
	stream, err := h.Watch(t.Context(), "ns/", 0)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for i := range int64(2000) {
			h.Publish([]*store.Event{event([]string{"ns/a", "other/a"}[i%2], i+1)})
			if i%10 == 0 {
				h.Progress(i + 1)
			}
		}
	}()
	seen, bookmarks := int64(-1), 0
	for seen < 1999 || bookmarks == 0 {
		for _, ev := range <-stream.Events() {
			if ev.Type == store.Bookmark {
				bookmarks++
				if ev.Revision > seen+2 {
					t.Fatalf("bookmark at %d, the last event was %d", ev.Revision, seen)
				}
				continue
			}
			seen = ev.Revision
		}
	}
}

func TestResetAndClose(t *testing.T) {
	h := New(5, Config{})
	first, err := h.Watch(t.Context(), "", 5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Watch(t.Context(), "", 4); !errors.Is(err, store.ErrExpired) {
		t.Fatal(err)
	}
	h.Reset(9)
	if _, ok := <-first.Events(); ok || !errors.Is(first.Err(), store.ErrExpired) {
		t.Fatalf("%v, %v", ok, first.Err())
	}
	second, err := h.Watch(t.Context(), "", 9)
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	if _, ok := <-second.Events(); ok || second.Err() != nil {
		t.Fatalf("%v, %v", ok, second.Err())
	}
	late, err := h.Watch(t.Context(), "", 9)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := <-late.Events(); ok {
		t.Fatal("an event after Close")
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, watchers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			h := New(0, Config{MaxLag: 1 << 30})
			defer h.Close()
			for range watchers {
				stream, err := h.Watch(b.Context(), "", 0)
				if err != nil {
					b.Fatal(err)
				}
				go func() {
					for range stream.Events() { //nolint:revive // drained
					}
				}()
			}
			b.ReportAllocs()
			revision := int64(0)
			for b.Loop() {
				revision++
				h.Publish([]*store.Event{event("ns/a", revision)})
			}
		})
	}
}

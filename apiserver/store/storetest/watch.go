package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/skeg-dev/skeg/apiserver/store"
)

// patience bounds waiting for what must come; long, for loaded machines.
const patience = 60 * time.Second

// reader collects a stream's events.
type reader struct {
	f      *fixture
	stream store.Stream
	queue  []*store.Event
	// deadline ends a test whose events do not come.
	deadline <-chan time.Time
}

func (f *fixture) watch(prefix string, from int64) *reader {
	f.Helper()
	stream, err := f.Store.Watch(f.Context(), store.Query{Prefix: prefix, Consistency: store.Consistency{AtLeast: from}})
	if err != nil {
		f.Fatalf("watch from %d: %v", from, err)
	}
	f.Cleanup(stream.Stop)
	return &reader{f: f, stream: stream, deadline: time.After(patience)}
}

// next returns the next event of the wanted kind: bookmarks or others.
func (r *reader) next(bookmark bool) *store.Event {
	r.f.Helper()
	for {
		for len(r.queue) > 0 {
			ev := r.queue[0]
			r.queue = r.queue[1:]
			if (ev.Type == store.Bookmark) == bookmark {
				return ev
			}
		}
		select {
		case batch, ok := <-r.stream.Events():
			if !ok {
				r.f.Fatalf("stream ended: %v", r.stream.Err())
			}
			r.queue = batch
		case <-r.deadline:
			r.f.Fatal("the wanted event did not come")
		}
	}
}

// want takes events and compares them, as "+key=v@rev" for added, "~" for
// modified with the previous value, "-" for deleted.
func (r *reader) want(items ...string) {
	r.f.Helper()
	for _, want := range items {
		ev := r.next(false)
		if got := describe(ev); got != want {
			r.f.Fatalf("event %s, want %s", got, want)
		}
	}
}

func describe(ev *store.Event) string {
	if ev.Item.Revision != ev.Revision || ev.Item.Object.GetResourceVersion() != fmt.Sprint(ev.Revision) {
		return fmt.Sprintf("item at %d (%s) in event at %d", ev.Item.Revision, ev.Item.Object.GetResourceVersion(), ev.Revision)
	}
	switch ev.Type {
	case store.Added:
		if ev.Previous != nil {
			return "added with previous"
		}
		return fmt.Sprintf("+%s=%s@%d", ev.Item.Key, value(ev.Item), ev.Revision)
	case store.Modified, store.Deleted:
		if ev.Previous == nil || ev.Previous.Key != ev.Item.Key || ev.Previous.Revision >= ev.Revision ||
			ev.Previous.Object.GetResourceVersion() != fmt.Sprint(ev.Previous.Revision) {
			return fmt.Sprintf("previous is %+v", ev.Previous)
		}
	}
	if ev.Type == store.Modified {
		return fmt.Sprintf("~%s=%s>%s@%d", ev.Item.Key, value(ev.Previous), value(ev.Item), ev.Revision)
	}
	return fmt.Sprintf("-%s=%s@%d", ev.Item.Key, value(ev.Item), ev.Revision)
}

func at(format string, item *store.Item) string { return fmt.Sprintf(format+"@%d", item.Revision) }

var watchCases = []testCase{
	{"from now", func(f *fixture) {
		f.create("ns/old", "1")
		r := f.watch("", 0)
		a := f.create("ns/a", "1")
		b := f.set("ns/a", "2")
		c := f.delete("ns/a")
		r.want(at("+ns/a=1", a), at("~ns/a=1>2", b), at("-ns/a=2", c))
	}},
	{"from a revision", func(f *fixture) {
		a := f.create("ns/a", "1")
		b := f.create("ns/b", "1")
		c := f.set("ns/a", "2")
		r := f.watch("", a.Revision)
		r.want(at("+ns/b=1", b), at("~ns/a=1>2", c))
		d := f.delete("ns/b")
		r.want(at("-ns/b=1", d))
		e := f.create("ns/b", "3")
		r.want(at("+ns/b=3", e))
	}},
	{"from a list", func(f *fixture) {
		f.create("ns/a", "1")
		for i := range 20 {
			page := f.list(f.latest())
			r := f.watch("", page.Revision)
			b := f.set("ns/a", fmt.Sprint(i, "b"))
			r.want(at(fmt.Sprintf("~ns/a=%s>%s", value(page.Items[0]), value(b)), b))
			r.stream.Stop()
		}
	}},
	{"from a future revision", func(f *fixture) {
		a := f.create("ns/a", "1")
		r := f.watch("", a.Revision+2)
		f.create("ns/b", "1")
		f.create("ns/c", "1")
		d := f.create("ns/d", "1")
		r.want(at("+ns/d=1", d))
	}},
	{"prefix", func(f *fixture) {
		r, one := f.watch("a/", 0), f.watch("a/x", 0)
		f.create("b/x", "1")
		f.create("ab/x", "1")
		x := f.create("a/x", "1")
		xx := f.create("a/xx", "1")
		y := f.set("a/x", "2")
		r.want(at("+a/x=1", x), at("+a/xx=1", xx), at("~a/x=1>2", y))
		one.want(at("+a/x=1", x), at("~a/x=1>2", y))
		f.watch("a/x", x.Revision).want(at("~a/x=1>2", y))
	}},
	{"concurrent writers, ordered and complete", concurrentWriters},
	{"expired", func(f *fixture) {
		first := f.create("ns/a", "1")
		last := first
		for i := range 5 {
			last = f.set("ns/a", fmt.Sprint(i))
		}
		if err := f.Compact(f.Context(), last.Revision); err != nil {
			f.Fatal(err)
		}
		stream, err := f.Store.Watch(f.Context(), store.Query{Consistency: store.Consistency{AtLeast: first.Revision}})
		if err == nil {
			err = f.ended(stream)
		}
		if err != nil && !errors.Is(err, store.ErrExpired) {
			f.Fatal(err)
		}
		if err == nil {
			f.Fatal("a stream from a compacted revision ended without error")
		}
	}},
	{"bookmark", func(f *fixture) {
		a := f.create("ns/a", "1")
		r := f.watch("", a.Revision)
		b := f.set("ns/a", "2")
		for r.next(true).Revision < b.Revision {
		}
		revision, err := f.Advance(f.Context())
		if err != nil {
			f.Fatal(err)
		}
		for {
			ev := r.next(true)
			if ev.Item != nil || ev.Previous != nil {
				f.Fatalf("bookmark with items: %+v", ev)
			}
			if ev.Revision >= revision {
				break
			}
		}
	}},
	{"stop", func(f *fixture) {
		r := f.watch("", 0)
		r.stream.Stop()
		r.stream.Stop()
		if err := f.ended(r.stream); err != nil {
			f.Fatal(err)
		}
		f.create("ns/a", "1")
	}},
	{"context ends", func(f *fixture) {
		ctx, cancel := context.WithCancel(f.Context())
		stream, err := f.Store.Watch(ctx, store.Query{})
		if err != nil {
			f.Fatal(err)
		}
		cancel()
		if err := f.ended(stream); err != nil {
			f.Fatal(err)
		}
		stream.Stop()
	}},
	{"a slow watcher is bounded and delays nobody", slowWatcher},
}

// ended drains a stream until it ends and returns why.
func (f *fixture) ended(stream store.Stream) error {
	f.Helper()
	deadline := time.After(patience)
	for {
		select {
		case _, ok := <-stream.Events():
			if !ok {
				return stream.Err() //nolint:wrapcheck // for comparison
			}
		case <-deadline:
			f.Fatal("the stream does not end")
		}
	}
}

// concurrentWriters has watchers from different moments see the same events.
func concurrentWriters(f *fixture) {
	const writers, writes = 8, 25
	start := f.create("ns/start", "1")
	early := f.watch("", start.Revision)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range writes {
				key := fmt.Sprintf("ns/%d-%d", w, i%3)
				var err error
				if i%3 == 2 && i > 3 {
					_, err = f.Store.Delete(f.Context(), key, nil)
				} else if _, err = f.Store.Create(f.Context(), key, configMap(key, fmt.Sprint(i))); errors.Is(err, store.ErrExists) {
					_, err = f.Store.Delete(f.Context(), key, nil)
				}
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					f.Error(err)
				}
			}
		})
	}
	wg.Wait()
	end := f.create("ns/end", "1")
	collect := func(r *reader) (out []string) {
		last := start.Revision
		for {
			ev := r.next(false)
			if ev.Revision <= last {
				f.Fatalf("revision %d after %d", ev.Revision, last)
			}
			last = ev.Revision
			out = append(out, describe(ev))
			if last == end.Revision {
				return out
			}
		}
	}
	want := collect(early)
	got := collect(f.watch("", start.Revision))
	if fmt.Sprint(got) != fmt.Sprint(want) {
		f.Fatalf("a late watcher saw\n%v\nan early one\n%v", got, want)
	}
	state := map[string]bool{"ns/start": true}
	for _, ev := range want {
		key := ev[1:]
		for i := range key {
			if key[i] == '=' {
				key = key[:i]
				break
			}
		}
		state[key] = ev[0] != '-'
	}
	for _, item := range f.list(f.latest()).Items {
		if !state[item.Key] {
			f.Errorf("%s is listed, but its last event was a deletion", item.Key)
		}
		delete(state, item.Key)
	}
	for key, there := range state {
		if there {
			f.Errorf("%s is not listed, but its last event was no deletion", key)
		}
	}
}

func slowWatcher(f *fixture) {
	f.create("ns/a", "0")
	slow, fast := f.watch("", 0), f.watch("", 0)
	total := f.MaxLag * 3
	for i := range total {
		last := f.set("ns/a", fmt.Sprint(i+1))
		if ev := fast.next(false); ev.Revision != last.Revision {
			f.Fatalf("the fast watcher got revision %d, written was %d", ev.Revision, last.Revision)
		}
	}
	f.wantError(f.ended(slow.stream), store.ErrExpired)
}

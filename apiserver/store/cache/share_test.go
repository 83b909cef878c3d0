package cache

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skeg-dev/skeg/apiserver/store"
)

// TestWatchersShareOneStreamAndOneEncoding is the promise of the watch cache:
// however many watchers, the backing is watched once, and an event is encoded
// once per format.
func TestWatchersShareOneStreamAndOneEncoding(t *testing.T) {
	t.Parallel()
	backing := newFaulty()
	c := run(t, backing, Config{})
	first := put(t, c, "a/first", "0")
	const watchers, events = 100, 20
	formats := []string{"json", "protobuf"}
	var encodings atomic.Int64
	var readers sync.WaitGroup
	for i := range watchers {
		w := watch(t, c, first.Revision)
		readers.Go(func() {
			seen := 0
			timeout := time.After(time.Minute)
			for seen < events {
				select {
				case batch := <-w.Events():
					for _, e := range batch {
						if e.Type == store.Bookmark {
							continue
						}
						seen++
						if _, err := e.Encoded(formats[i%2], func() ([]byte, error) {
							encodings.Add(1)
							return []byte("x"), nil
						}); err != nil {
							t.Error(err)
						}
					}
				case <-timeout:
					t.Errorf("watcher %d saw %d of %d events", i, seen, events)
					return
				}
			}
		})
	}
	for i := range events {
		put(t, c, "a/changing", string(rune('a'+i)))
	}
	readers.Wait()
	if n := backing.follows.Load(); n != 1 {
		t.Errorf("the backing is watched %d times", n)
	}
	if n := encodings.Load(); n != events*int64(len(formats)) {
		t.Errorf("%d encodings of %d events in %d formats", n, events, len(formats))
	}
}

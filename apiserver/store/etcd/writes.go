package etcd

import (
	"bytes"
	"sync"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// maxWritten bounds the writes whose events have not come back; they come
// within milliseconds, or never when nobody follows.
const maxWritten = 4096

// written remembers this process's writes until their events come back, so
// that Follow reuses the object instead of decoding the value, and the item
// (with all its kept encodings) is one and the same for the writer, the cache
// and every watcher.
type written struct {
	mu     sync.Mutex // guards all below
	writes map[string]*write
	// followers: without one nothing is remembered.
	followers int
}

// write is one value on its way. Whoever learns its revision first, the writer
// or the follower, makes the item.
type write struct {
	value []byte
	once  sync.Mutex // guards obj and made
	obj   resource.Object
	made  *store.Item
}

func newWritten() *written { return &written{writes: map[string]*write{}} }

func (w *written) follow(delta int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.followers += delta
	if w.followers == 0 {
		clear(w.writes)
	}
}

// begin remembers a write about to be made.
func (w *written) begin(key string, value []byte, obj resource.Object) *write {
	wr := &write{value: value, obj: obj}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.followers > 0 {
		if len(w.writes) >= maxWritten {
			clear(w.writes)
		}
		w.writes[key] = wr
	}
	return wr
}

// drop forgets a write that was not made.
func (w *written) drop(key string, wr *write) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.writes[key] == wr {
		delete(w.writes, key)
	}
}

// take returns the item of an event, if its value was written here; nil if not.
func (w *written) take(key string, value []byte, revision int64) *store.Item {
	w.mu.Lock()
	wr := w.writes[key]
	if wr == nil || !bytes.Equal(wr.value, value) {
		w.mu.Unlock()
		return nil
	}
	delete(w.writes, key)
	w.mu.Unlock()
	return wr.item(key, revision)
}

// item makes the item of the write at revision, or returns the one made; nil
// when it was made for another revision.
func (wr *write) item(key string, revision int64) *store.Item {
	wr.once.Lock()
	defer wr.once.Unlock()
	if wr.made == nil {
		wr.made = newItem(key, wr.obj, revision)
	}
	if wr.made.Revision != revision {
		return nil
	}
	return wr.made
}

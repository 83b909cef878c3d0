package etcd

import (
	"bytes"
	"slices"
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
	mu    sync.Mutex // guards all below
	byKey map[string][]*write
	count int
	// followers: without one nothing is remembered.
	followers int
}

// write is one value on its way. Whoever learns its revision first, the writer
// or the follower, makes the item.
type write struct {
	value []byte
	mu    sync.Mutex // guards obj and made
	obj   resource.Object
	made  *store.Item
}

func newWritten() *written { return &written{byKey: map[string][]*write{}} }

func (w *written) follow(delta int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.followers += delta
	if w.followers == 0 {
		w.forget()
	}
}

// forget drops everything; mu is held. Events are then decoded.
func (w *written) forget() {
	clear(w.byKey)
	w.count = 0
}

// begin remembers a write about to be made.
func (w *written) begin(key string, value []byte, obj resource.Object) *write {
	wr := &write{value: value, obj: obj}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.followers > 0 {
		if w.count >= maxWritten {
			w.forget()
		}
		w.byKey[key] = append(w.byKey[key], wr)
		w.count++
	}
	return wr
}

// drop forgets a write that was not made.
func (w *written) drop(key string, wr *write) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.remove(key, slices.Index(w.byKey[key], wr))
}

// remove takes out the i-th write of key, if i is not negative; mu is held.
func (w *written) remove(key string, i int) {
	if i < 0 {
		return
	}
	rest := slices.Delete(w.byKey[key], i, i+1)
	w.count--
	if len(rest) == 0 {
		delete(w.byKey, key)
		return
	}
	w.byKey[key] = rest
}

// take returns the item of an event, if its value was written here; nil if not.
func (w *written) take(key string, value []byte, revision int64) *store.Item {
	w.mu.Lock()
	i := slices.IndexFunc(w.byKey[key], func(wr *write) bool { return bytes.Equal(wr.value, value) })
	if i < 0 {
		w.mu.Unlock()
		return nil
	}
	wr := w.byKey[key][i]
	w.remove(key, i)
	w.mu.Unlock()
	return wr.item(key, revision)
}

// item makes the item of the write at revision, or returns the one made; nil
// when it was made for another revision.
func (wr *write) item(key string, revision int64) *store.Item {
	wr.mu.Lock()
	defer wr.mu.Unlock()
	if wr.made == nil {
		wr.made = newItem(key, wr.obj, revision)
	}
	if wr.made.Revision != revision {
		return nil
	}
	return wr.made
}

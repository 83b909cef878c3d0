package cache

import (
	"context"
	"sync"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// Create writes to the backing.
func (c *Cache) Create(ctx context.Context, key string, obj resource.Object) (*store.Item, error) {
	item, err := c.backing.Create(ctx, key, obj)
	c.noteWrite(key, item, item)
	return item, err //nolint:wrapcheck // the contract's errors
}

// Update writes to the backing, starting from the newest item known here:
// usually it is the latest, and the read before the write is saved.
func (c *Cache) Update(ctx context.Context, key string, change func(current *store.Item) (resource.Object, error)) (*store.Item, error) {
	item, err := c.backing.UpdateFrom(ctx, key, c.guess(key), change)
	c.noteWrite(key, item, item)
	return item, err //nolint:wrapcheck // the contract's errors
}

// Delete deletes in the backing, starting from the newest item known here.
func (c *Cache) Delete(ctx context.Context, key string, check func(current *store.Item) error) (*store.Item, error) {
	last, err := c.backing.DeleteFrom(ctx, key, c.guess(key), check)
	c.noteWrite(key, last, nil)
	return last, err //nolint:wrapcheck // the contract's errors
}

// guess returns the newest item of key known here, nil for none. A wrong guess
// costs a transaction that fails, with its fsync.
func (c *Cache) guess(key string) *store.Item {
	s := c.state.Load()
	if s == nil {
		return nil
	}
	if item, ok := c.writes.newer(key, s.revision); ok {
		return item
	}
	return s.get(key)
}

// noteWrite remembers that key became left (nil: gone) at written's revision;
// written is nil when nothing was written.
func (c *Cache) noteWrite(key string, written, left *store.Item) {
	s := c.state.Load()
	if written != nil && s != nil && written.Revision > s.revision {
		c.writes.add(key, ownWrite{revision: written.Revision, left: left}, s.revision)
	}
}

// maxWrites bounds ownWrites; their events come back within milliseconds.
const maxWrites = 1024

// ownWrites are the results of writes that the state does not have yet.
type ownWrites struct {
	mu    sync.Mutex // guards byKey
	byKey map[string]ownWrite
}

type ownWrite struct {
	revision int64
	left     *store.Item
}

func (o *ownWrites) add(key string, w ownWrite, reached int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byKey == nil {
		o.byKey = map[string]ownWrite{}
	}
	if len(o.byKey) >= maxWrites {
		for k, known := range o.byKey {
			if known.revision <= reached {
				delete(o.byKey, k)
			}
		}
		if len(o.byKey) >= maxWrites {
			clear(o.byKey) // the state is far behind; guesses are only guesses
		}
	}
	if o.byKey[key].revision < w.revision {
		o.byKey[key] = w
	}
}

// newer returns what the last write left, unless the state has reached it.
func (o *ownWrites) newer(key string, reached int64) (*store.Item, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w, ok := o.byKey[key]
	if !ok {
		return nil, false
	}
	if w.revision <= reached {
		delete(o.byKey, key)
		return nil, false
	}
	return w.left, true
}

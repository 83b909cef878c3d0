package ipalloc

import (
	"context"
	"sync"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// rehearsal reads from a store and keeps what is written to itself, for dry
// runs. It has what allocators call: Get, Create, Update.
type rehearsal struct {
	store.Store
	mu      sync.Mutex             // guards written
	written map[string]*store.Item // by key
}

func newRehearsal(s store.Store) *rehearsal {
	return &rehearsal{Store: s, written: map[string]*store.Item{}}
}

// Get implements store.Store.
func (r *rehearsal) Get(ctx context.Context, key string, at store.Consistency) (*store.Item, error) {
	r.mu.Lock()
	item := r.written[key]
	r.mu.Unlock()
	if item != nil {
		return item, nil
	}
	return r.Store.Get(ctx, key, at) //nolint:wrapcheck // the contract's errors
}

// Create implements store.Store.
func (r *rehearsal) Create(ctx context.Context, key string, obj resource.Object) (*store.Item, error) {
	if _, err := r.Get(ctx, key, store.Consistency{AtLeast: store.Latest}); err == nil {
		return nil, store.ErrExists
	} else if !isNotFound(err) {
		return nil, err
	}
	return r.write(key, obj), nil
}

// Update implements store.Store.
func (r *rehearsal) Update(ctx context.Context, key string, change func(*store.Item) (resource.Object, error)) (*store.Item, error) {
	current, err := r.Get(ctx, key, store.Consistency{AtLeast: store.Latest})
	if err != nil && !isNotFound(err) {
		return nil, err
	}
	obj, err := change(current)
	if err != nil {
		return nil, err
	}
	return r.write(key, obj), nil
}

// Delete implements store.Store: there is nothing to give back.
func (r *rehearsal) Delete(context.Context, string, func(*store.Item) error) (*store.Item, error) {
	return nil, store.ErrNotFound
}

func (r *rehearsal) write(key string, obj resource.Object) *store.Item {
	item := &store.Item{Key: key, Object: obj}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written[key] = item
	return item
}

package cache

import (
	"context"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// Create writes to the backing.
func (c *Cache) Create(ctx context.Context, key string, obj resource.Object) (*store.Item, error) {
	return c.backing.Create(ctx, key, obj) //nolint:wrapcheck // the contract's errors
}

// Update writes to the backing, starting from the cached item: usually it is
// the latest, and the read before the write is saved.
func (c *Cache) Update(ctx context.Context, key string, change func(current *store.Item) (resource.Object, error)) (*store.Item, error) {
	return c.backing.UpdateFrom(ctx, key, c.guess(key), change) //nolint:wrapcheck // the contract's errors
}

// Delete deletes in the backing, starting from the cached item.
func (c *Cache) Delete(ctx context.Context, key string, check func(current *store.Item) error) (*store.Item, error) {
	return c.backing.DeleteFrom(ctx, key, c.guess(key), check) //nolint:wrapcheck // the contract's errors
}

func (c *Cache) guess(key string) *store.Item {
	if s := c.state.Load(); s != nil {
		return s.get(key)
	}
	return nil
}

package cache

import (
	"context"
	"fmt"

	"github.com/skeg-dev/skeg/apiserver/store"
)

// Watch streams changes from memory. It waits for the first list.
func (c *Cache) Watch(ctx context.Context, q store.Query) (store.Stream, error) {
	select {
	case <-c.ready:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the first list: %w", ctx.Err())
	}
	from := q.AtLeast
	if from <= 0 {
		current, _, err := c.backing.Revision(ctx, "")
		if err != nil {
			return nil, err //nolint:wrapcheck // the contract's errors
		}
		from = current
	}
	if q.Index != "" && q.Prefix == "" && c.config.Fanout.Index != nil {
		return c.hub.WatchIndex(ctx, q.Index, from) //nolint:wrapcheck // the contract's errors
	}
	return c.hub.Watch(ctx, q.Prefix, from) //nolint:wrapcheck // the contract's errors
}

package memory

import (
	"context"
	"fmt"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// What store/cache asks of its backing beside the contract, as store/etcd
// documents it.

// Follow streams all changes after a revision; it is Watch of everything.
func (s *Store) Follow(ctx context.Context, after int64) (store.Stream, error) {
	return s.hub.Watch(ctx, "", after) //nolint:wrapcheck // the contract's errors
}

// Revision returns the current revision and that of key, 0 for none.
func (s *Store) Revision(ctx context.Context, key string) (current, ofKey int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, fmt.Errorf("read revision: %w", err)
	}
	s.revisions.mu.Lock()
	defer s.revisions.mu.Unlock()
	if item, ok := s.tree.Get(&store.Item{Key: key}); ok {
		ofKey = item.Revision
	}
	return s.revisions.current, ofKey, nil
}

// UpdateFrom is Update; a guess saves nothing here.
func (s *Store) UpdateFrom(ctx context.Context, key string, _ *store.Item, change func(current *store.Item) (resource.Object, error)) (*store.Item, error) {
	return s.Update(ctx, key, change)
}

// DeleteFrom is Delete; a guess saves nothing here.
func (s *Store) DeleteFrom(ctx context.Context, key string, _ *store.Item, check func(current *store.Item) error) (*store.Item, error) {
	return s.Delete(ctx, key, check)
}

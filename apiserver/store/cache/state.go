package cache

import (
	"context"
	"fmt"
	"time"

	"github.com/google/btree"

	"github.com/skeg-dev/skeg/apiserver/store"
)

// state is all objects at one moment. It is immutable but for next's closing.
type state struct {
	tree *btree.BTreeG[*store.Item]
	// revision it is known to be current at; no event lies between changed,
	// the revision of the last change, and it.
	changed, revision int64
	// next is closed when another state replaced this one.
	next chan struct{}
}

func byKey(a, b *store.Item) bool { return a.Key < b.Key }

func newTree() *btree.BTreeG[*store.Item] { return btree.NewG(degree, byKey) }

func (s *state) get(key string) *store.Item {
	item, _ := s.tree.Get(&store.Item{Key: key})
	return item
}

func (s *state) page(q store.Query, revision int64) *store.Page {
	return pageOf(s.tree, q, revision)
}

func pageOf(tree *btree.BTreeG[*store.Item], q store.Query, revision int64) *store.Page {
	return store.PageOf(q, revision, func(from string, visit func(*store.Item) bool) {
		tree.AscendGreaterOrEqual(&store.Item{Key: from}, visit)
	})
}

// publish replaces the state; called by Run alone.
func (c *Cache) publish(tree *btree.BTreeG[*store.Item], changed, revision int64) {
	old := c.state.Swap(&state{tree: tree, changed: changed, revision: revision, next: make(chan struct{})})
	if old == nil {
		close(c.ready)
		return
	}
	close(old.next)
}

// await returns a state of at least revision, or store.ErrFuture when none
// comes in time. Called after ready.
func (c *Cache) await(ctx context.Context, revision int64) (*state, error) {
	s := c.state.Load()
	if s.revision >= revision {
		return s, nil
	}
	c.waiting.Add(1)
	defer c.waiting.Add(-1)
	timer := time.NewTimer(c.config.FreshWait)
	defer timer.Stop()
	for s.revision < revision {
		select {
		case c.asked <- struct{}{}:
		default: // Run knows already
		}
		select {
		case <-s.next:
			s = c.state.Load()
		case <-timer.C:
			return nil, fmt.Errorf("revision %d wanted, current %d: %w", revision, s.revision, store.ErrFuture)
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for revision %d: %w", revision, ctx.Err())
		}
	}
	return s, nil
}

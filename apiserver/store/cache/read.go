package cache

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/btree"

	"github.com/skeg-dev/skeg/apiserver/store"
)

// Get serves key from memory. Latest costs the backing a read of the key's
// revision, not of its value.
func (c *Cache) Get(ctx context.Context, key string, at store.Consistency) (*store.Item, error) {
	if c.state.Load() == nil {
		return c.backing.Get(ctx, key, at) //nolint:wrapcheck // the contract's errors
	}
	wanted := at.AtLeast
	if at.AtLeast == store.Latest {
		_, revision, err := c.backing.Revision(ctx, key)
		if err != nil {
			return nil, err //nolint:wrapcheck // the contract's errors
		}
		if revision == 0 {
			return nil, store.ErrNotFound
		}
		if item := c.state.Load().get(key); item != nil && item.Revision >= revision {
			return item, nil
		}
		wanted = revision
	}
	s, err := c.await(ctx, wanted)
	if errors.Is(err, store.ErrFuture) && at.AtLeast == store.Latest {
		return c.backing.Get(ctx, key, at) //nolint:wrapcheck // the contract's errors
	}
	if err != nil {
		return nil, err
	}
	if item := s.get(key); item != nil {
		return item, nil
	}
	return nil, store.ErrNotFound
}

// List serves a page from memory; Exactly too, if the revision is the present
// one or one that a page was served from lately.
func (c *Cache) List(ctx context.Context, q store.Query) (*store.Page, error) {
	if c.state.Load() == nil {
		return c.backing.List(ctx, q) //nolint:wrapcheck // the contract's errors
	}
	if q.Exactly != 0 {
		return c.listExactly(ctx, q)
	}
	wanted := q.AtLeast
	if wanted == store.Latest {
		current, _, err := c.backing.Revision(ctx, "")
		if err != nil {
			return nil, err //nolint:wrapcheck // the contract's errors
		}
		wanted = current
	}
	s, err := c.await(ctx, wanted)
	if errors.Is(err, store.ErrFuture) && q.AtLeast == store.Latest {
		return c.backing.List(ctx, q) //nolint:wrapcheck // the contract's errors
	}
	if err != nil {
		return nil, err
	}
	page := s.page(q, s.revision)
	if page.More {
		c.pages.keep(page.Revision, s.tree)
	}
	return page, nil
}

func (c *Cache) listExactly(ctx context.Context, q store.Query) (*store.Page, error) {
	if c.config.Compacted != nil && q.Exactly < c.config.Compacted() {
		return nil, store.ErrExpired
	}
	if s := c.state.Load(); s.changed <= q.Exactly && q.Exactly <= s.revision {
		page := s.page(q, q.Exactly)
		if page.More {
			c.pages.keep(page.Revision, s.tree)
		}
		return page, nil
	}
	if tree := c.pages.find(q.Exactly); tree != nil {
		return pageOf(tree, q, q.Exactly), nil
	}
	return c.backing.List(ctx, q) //nolint:wrapcheck // the contract's errors
}

// Bounds of the trees kept for further pages: a kept tree shares what did not
// change with the present one, and a client takes its pages in a row.
const (
	keptPages = 64
	keptFor   = 2 * time.Minute
)

// pages are the trees from which clients are reading page by page.
type pages struct {
	mu   sync.Mutex // guards kept
	kept []keptPage // oldest first
}

type keptPage struct {
	revision int64
	until    time.Time
	tree     *btree.BTreeG[*store.Item]
}

func (p *pages) keep(revision int64, tree *btree.BTreeG[*store.Item]) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := make([]keptPage, 0, len(p.kept)+1)
	for _, k := range p.kept {
		if k.until.After(now) && k.revision != revision {
			kept = append(kept, k)
		}
	}
	kept = append(kept, keptPage{revision, now.Add(keptFor), tree})
	p.kept = kept[max(0, len(kept)-keptPages):]
}

func (p *pages) find(revision int64) *btree.BTreeG[*store.Item] {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.kept {
		if k.revision == revision {
			return k.tree
		}
	}
	return nil
}

// Package cache keeps all objects of one resource in memory and serves reads
// and watches from there: one watch on the backing store, however many readers
// there are. Writes pass through. It is behind the same contract, so a handler
// does not know it from store/etcd.
//
//	etcd ──Follow──► apply ──► state: immutable ordered tree   ──► Get, List
//	                   └─────► fanout.Hub: history, topics     ──► Watch
//
// The state is replaced, never changed: a read takes the pointer and needs no
// lock. A read of the latest state asks the backing for its revision and waits
// until the state has reached it, which the backing's progress messages bring
// about when nothing changes here.
//
// app/ makes one per resource and runs it. Goroutines: Run, and one per watch.
package cache

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/btree"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/apiserver/store/fanout"
)

// Backing is the store behind a Cache; store/etcd documents what the methods
// beside the contract promise. Streams of Follow also have
// RequestProgress() error.
type Backing interface {
	store.Store
	// Follow streams all changes after a revision.
	Follow(ctx context.Context, after int64) (store.Stream, error)
	// Revision is a linearized read of the current revision and a key's.
	Revision(ctx context.Context, key string) (current, ofKey int64, err error)
	// UpdateFrom and DeleteFrom take a guess at the current item.
	UpdateFrom(ctx context.Context, key string, guess *store.Item, change func(current *store.Item) (resource.Object, error)) (*store.Item, error)
	DeleteFrom(ctx context.Context, key string, guess *store.Item, check func(current *store.Item) error) (*store.Item, error)
}

// Defaults of Config.
const (
	// freshWait is how long a read waits for a revision: upstream's value,
	// after which clients get 504 and ask again.
	freshWait = 3 * time.Second
	// replay is how many revisions back the cache starts, so that clients of
	// the process before can resume their watches instead of listing again.
	replay = 2000
	// idleProgress is how often a quiet resource with watchers asks for
	// progress, for their bookmarks.
	idleProgress = 10 * time.Second
	// askAgain is how soon progress is asked for again while readers wait: the
	// backing does not answer while it is behind with this very watch.
	askAgain = 50 * time.Millisecond
)

// degree of the tree: a change copies one node a level, so nodes are small.
const degree = 32

// Config shapes a Cache. All fields are optional.
type Config struct {
	// Name of the resource, for logs.
	Name string
	// Fanout bounds history and watchers.
	Fanout fanout.Config
	// FreshWait bounds waiting for a revision; 0 means 3 s.
	FreshWait time.Duration
	// Replay is how many revisions of history a start reads back; 0 means
	// 2000, negative none.
	Replay int64
	// IdleProgress is how often a quiet resource with watchers asks for
	// progress; 0 means 10 s.
	IdleProgress time.Duration
	// Compacted is the oldest revision that is not forgotten; nil means none
	// ever is. What is older expires here too, although it may still be in
	// memory: all servers answer alike, and clients learn of it in time.
	Compacted func() int64
	// Logger; nil means slog.Default().
	Logger *slog.Logger
}

// Cache is a store.Store and a component.Runnable with Ready.
type Cache struct {
	backing Backing
	config  Config
	logger  *slog.Logger
	hub     *fanout.Hub

	// state is nil until the first list is done.
	state atomic.Pointer[state]
	// ready is closed when state is set.
	ready chan struct{}
	// waiting counts readers that wait for a revision; asked wakes Run for them.
	waiting atomic.Int64
	asked   chan struct{}
	pages   pages
	writes  ownWrites

	// tree is Run's own, changed in place; states hold copy-on-write clones.
	tree *btree.BTreeG[*store.Item]
}

var _ store.Store = (*Cache)(nil)

// New returns a Cache in front of backing. Until Run has made the first list,
// reads go to the backing and watches wait.
func New(backing Backing, config Config) *Cache {
	if config.FreshWait <= 0 {
		config.FreshWait = freshWait
	}
	if config.IdleProgress <= 0 {
		config.IdleProgress = idleProgress
	}
	if config.Replay == 0 {
		config.Replay = replay
	}
	logger := config.Logger
	if logger == nil {
		logger = slog.Default()
	}
	return &Cache{
		backing: backing, config: config, logger: logger.With("resource", config.Name),
		hub:   fanout.New(0, config.Fanout),
		ready: make(chan struct{}), asked: make(chan struct{}, 1),
	}
}

// Ready is nil once reads are served from memory.
func (c *Cache) Ready() error {
	if c.state.Load() == nil {
		return errors.New("the first list is not done")
	}
	return nil
}

// Watchers counts the running watches, for metrics.
func (c *Cache) Watchers() int { return c.hub.Watchers() }

// Items counts the objects, for metrics; 0 before Ready.
func (c *Cache) Items() int {
	if s := c.state.Load(); s != nil {
		return s.tree.Len()
	}
	return 0
}

// Package memory keeps objects in memory behind the store contract: the same
// behaviour as store/etcd without a disk, for tests of everything above the
// store, and the backing of the watch cache in its own tests.
//
// Several stores may share one Revisions, as the resources of a real server
// share etcd's counter. Goroutines: one per watch, in store/fanout.
package memory

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/google/btree"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/apiserver/store/fanout"
)

// degree of the trees: copy-on-write copies a node per level, so nodes are
// kept small.
const degree = 16

// keptStates is how many past revisions lists can still be answered from.
const keptStates = 4096

// Revisions is a counter that stores may share. The zero value counts from 1.
type Revisions struct {
	mu      sync.Mutex // guards all below, and is held while a store applies a write
	current int64
	hubs    []*fanout.Hub // of the stores that share it
}

// Advance moves the counter by one, as a write to some other resource does.
func (r *Revisions) Advance() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current++
	r.progress()
	return r.current
}

// progress tells all watches how far there is nothing more to come; mu is held.
func (r *Revisions) progress() {
	for _, h := range r.hubs {
		h.Progress(r.current)
	}
}

// Config shapes a Store. All fields are optional.
type Config struct {
	// Revisions is shared with other stores; nil makes an own one.
	Revisions *Revisions
	// MaxBytes bounds the JSON-free size of an object as its Size() counts it;
	// 0 means no bound.
	MaxBytes int
	// Fanout bounds watches.
	Fanout fanout.Config
}

// Store is a store.Store in memory.
type Store struct {
	revisions *Revisions
	maxBytes  int
	hub       *fanout.Hub

	// guarded by revisions.mu
	tree   *btree.BTreeG[*store.Item]
	states []state // past trees, oldest first
	floor  int64   // lists below it are expired
}

// state is the tree from revision until the next state's.
type state struct {
	revision int64
	tree     *btree.BTreeG[*store.Item]
}

var _ store.Store = (*Store)(nil)

// New returns an empty Store.
func New(config Config) *Store {
	if config.Revisions == nil {
		config.Revisions = &Revisions{}
	}
	s := &Store{revisions: config.Revisions, maxBytes: config.MaxBytes, hub: fanout.New(0, config.Fanout)}
	s.tree = btree.NewG(degree, byKey)
	s.states = []state{{0, s.tree.Clone()}}
	s.revisions.mu.Lock()
	defer s.revisions.mu.Unlock()
	s.revisions.hubs = append(s.revisions.hubs, s.hub)
	return s
}

func byKey(a, b *store.Item) bool { return a.Key < b.Key }

// Get returns the item of key.
func (s *Store) Get(ctx context.Context, key string, at store.Consistency) (*store.Item, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	s.revisions.mu.Lock()
	defer s.revisions.mu.Unlock()
	if at.AtLeast > s.revisions.current {
		return nil, fmt.Errorf("get %s at revision %d, current %d: %w", key, at.AtLeast, s.revisions.current, store.ErrFuture)
	}
	item, ok := s.tree.Get(&store.Item{Key: key})
	if !ok {
		return nil, store.ErrNotFound
	}
	return item, nil
}

// List returns a page.
func (s *Store) List(ctx context.Context, q store.Query) (*store.Page, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	tree, revision, err := s.treeAt(q.Consistency)
	if err != nil {
		return nil, err
	}
	return store.PageOf(q, revision, func(from string, visit func(*store.Item) bool) {
		tree.AscendGreaterOrEqual(&store.Item{Key: from}, visit)
	}), nil
}

func (s *Store) treeAt(at store.Consistency) (*btree.BTreeG[*store.Item], int64, error) {
	s.revisions.mu.Lock()
	defer s.revisions.mu.Unlock()
	current := s.revisions.current
	if wanted := max(at.AtLeast, at.Exactly); wanted > current {
		return nil, 0, fmt.Errorf("list at revision %d, current %d: %w", wanted, current, store.ErrFuture)
	}
	if at.Exactly == 0 {
		return s.states[len(s.states)-1].tree, current, nil
	}
	if at.Exactly < s.floor {
		return nil, 0, store.ErrExpired
	}
	for i := len(s.states) - 1; i >= 0; i-- {
		if s.states[i].revision <= at.Exactly {
			return s.states[i].tree, at.Exactly, nil
		}
	}
	return nil, 0, store.ErrExpired
}

// Create stores a copy of obj.
func (s *Store) Create(ctx context.Context, key string, obj resource.Object) (*store.Item, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("create %s: %w", key, err)
	}
	s.revisions.mu.Lock()
	defer s.revisions.mu.Unlock()
	if s.tree.Has(&store.Item{Key: key}) {
		return nil, store.ErrExists
	}
	return s.put(key, obj, nil)
}

// Update stores what change makes of the current item. change runs without
// the lock, so it may use the store.
func (s *Store) Update(ctx context.Context, key string, change func(current *store.Item) (resource.Object, error)) (*store.Item, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("update %s: %w", key, err)
		}
		current := s.item(key)
		obj, err := change(current)
		if err != nil {
			return nil, err //nolint:wrapcheck // the caller's own
		}
		if obj == nil {
			return current, nil
		}
		item, done, err := s.replace(key, current, obj)
		if err != nil || done {
			return item, err
		}
	}
}

func (s *Store) replace(key string, current *store.Item, obj resource.Object) (item *store.Item, done bool, err error) {
	s.revisions.mu.Lock()
	defer s.revisions.mu.Unlock()
	if found, _ := s.tree.Get(&store.Item{Key: key}); found != current {
		return nil, false, nil
	}
	if current != nil && same(current.Object, obj) {
		return current, true, nil
	}
	item, err = s.put(key, obj, current)
	return item, true, err
}

// same compares without resource version and kind, which are not stored.
func same(stored, obj resource.Object) bool {
	return equality.Semantic.DeepEqual(clean(stored), clean(obj))
}

func clean(obj resource.Object) resource.Object {
	out := copyOf(obj)
	out.SetResourceVersion("")
	return out
}

func copyOf(obj resource.Object) resource.Object {
	out := obj.DeepCopyObject().(resource.Object) //nolint:forcetypeassert // a copy has its original's type
	out.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return out
}

// Delete removes the item of key if check accepts it.
func (s *Store) Delete(ctx context.Context, key string, check func(current *store.Item) error) (*store.Item, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("delete %s: %w", key, err)
		}
		current := s.item(key)
		if current == nil {
			return nil, store.ErrNotFound
		}
		if check != nil {
			if err := check(current); err != nil {
				return nil, err
			}
		}
		if item := s.remove(key, current); item != nil {
			return item, nil
		}
	}
}

func (s *Store) remove(key string, current *store.Item) *store.Item {
	s.revisions.mu.Lock()
	defer s.revisions.mu.Unlock()
	if found, _ := s.tree.Get(&store.Item{Key: key}); found != current {
		return nil
	}
	s.revisions.current++
	last := itemAt(key, copyOf(current.Object), s.revisions.current)
	s.tree.Delete(current)
	s.commit(&store.Event{Type: store.Deleted, Revision: last.Revision, Item: last, Previous: current})
	return last
}

func (s *Store) item(key string) *store.Item {
	s.revisions.mu.Lock()
	defer s.revisions.mu.Unlock()
	item, _ := s.tree.Get(&store.Item{Key: key})
	return item
}

// put stores a copy of obj at the next revision; revisions.mu is held.
func (s *Store) put(key string, obj resource.Object, previous *store.Item) (*store.Item, error) {
	if sized, ok := obj.(interface{ Size() int }); ok && s.maxBytes > 0 && sized.Size() > s.maxBytes {
		return nil, fmt.Errorf("store %s: %d bytes, limit %d: %w", key, sized.Size(), s.maxBytes, store.ErrTooLarge)
	}
	s.revisions.current++
	item := itemAt(key, copyOf(obj), s.revisions.current)
	s.tree.ReplaceOrInsert(item)
	ev := &store.Event{Type: store.Modified, Revision: item.Revision, Item: item, Previous: previous}
	if previous == nil {
		ev.Type = store.Added
	}
	s.commit(ev)
	return item, nil
}

func (s *Store) commit(ev *store.Event) {
	s.states = append(s.states, state{ev.Revision, s.tree.Clone()})
	if extra := len(s.states) - keptStates; extra > 0 {
		s.floor = max(s.floor, s.states[extra].revision)
		s.states = append([]state(nil), s.states[extra:]...)
	}
	s.hub.Publish([]*store.Event{ev})
	s.revisions.progress()
}

func itemAt(key string, obj resource.Object, revision int64) *store.Item {
	obj.SetResourceVersion(strconv.FormatInt(revision, 10))
	return &store.Item{Key: key, Revision: revision, Object: obj}
}

// Watch streams changes after q.AtLeast.
func (s *Store) Watch(ctx context.Context, q store.Query) (store.Stream, error) {
	from := q.AtLeast
	if from <= 0 {
		s.revisions.mu.Lock()
		from = s.revisions.current
		s.revisions.mu.Unlock()
	}
	return s.hub.Watch(ctx, q.Prefix, from) //nolint:wrapcheck // the contract's errors
}

// Compact forgets history before revision, as etcd's compaction does.
func (s *Store) Compact(revision int64) {
	s.revisions.mu.Lock()
	defer s.revisions.mu.Unlock()
	s.floor = max(s.floor, revision)
	s.hub.Forget(revision)
}

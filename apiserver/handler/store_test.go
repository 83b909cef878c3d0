package handler_test

import (
	"context"
	"sort"
	"strconv"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// mapStore is a small store for tests of the handlers: one lock, the whole
// history kept.
type mapStore struct {
	mu       sync.Mutex // guards all below
	revision int64
	items    map[string]*store.Item
	history  []*store.Event
	streams  map[*mapStream]bool
}

func newMapStore() *mapStore {
	return &mapStore{revision: 1, items: map[string]*store.Item{}, streams: map[*mapStream]bool{}}
}

func (m *mapStore) Get(_ context.Context, key string, _ store.Consistency) (*store.Item, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if item := m.items[key]; item != nil {
		return item, nil
	}
	return nil, store.ErrNotFound
}

func (m *mapStore) List(_ context.Context, q store.Query) (*store.Page, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for key, item := range m.items {
		if strings.HasPrefix(key, q.Prefix) && key > q.After && (q.Match == nil || q.Match(item.Object)) {
			keys = append(keys, key)
		}
	}
	sort.Strings(keys)
	page := &store.Page{Revision: m.revision}
	for _, key := range keys {
		if q.Limit > 0 && len(page.Items) == q.Limit {
			page.More, page.Remaining = true, int64(len(keys)-q.Limit)
			break
		}
		page.Items = append(page.Items, m.items[key])
	}
	return page, nil
}

func (m *mapStore) put(t store.EventType, key string, obj resource.Object) *store.Item {
	m.revision++
	obj = obj.DeepCopyObject().(resource.Object)
	obj.SetResourceVersion(strconv.FormatInt(m.revision, 10))
	item := &store.Item{Key: key, Revision: m.revision, Object: obj}
	ev := &store.Event{Type: t, Revision: m.revision, Item: item, Previous: m.items[key]}
	if t == store.Deleted {
		delete(m.items, key)
	} else {
		m.items[key] = item
	}
	m.history = append(m.history, ev)
	for s := range m.streams {
		s.offer(ev)
	}
	return item
}

func (m *mapStore) Create(_ context.Context, key string, obj resource.Object) (*store.Item, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.items[key] != nil {
		return nil, store.ErrExists
	}
	return m.put(store.Added, key, obj), nil
}

func (m *mapStore) Update(_ context.Context, key string, change func(*store.Item) (resource.Object, error)) (*store.Item, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	current := m.items[key]
	obj, err := change(current)
	if err != nil || obj == nil {
		return nil, err
	}
	if current == nil {
		return m.put(store.Added, key, obj), nil
	}
	if equality.Semantic.DeepEqual(obj, current.Object) {
		return current, nil
	}
	return m.put(store.Modified, key, obj), nil
}

func (m *mapStore) Delete(_ context.Context, key string, check func(*store.Item) error) (*store.Item, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	current := m.items[key]
	if current == nil {
		return nil, store.ErrNotFound
	}
	if check != nil {
		if err := check(current); err != nil {
			return nil, err
		}
	}
	return m.put(store.Deleted, key, current.Object), nil
}

func (m *mapStore) Watch(ctx context.Context, q store.Query) (store.Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &mapStream{store: m, prefix: q.Prefix, events: make(chan []*store.Event, 1000)}
	for _, ev := range m.history {
		if q.AtLeast > 0 && ev.Revision > q.AtLeast {
			s.offer(ev)
		}
	}
	m.streams[s] = true
	context.AfterFunc(ctx, s.Stop)
	return s, nil
}

type mapStream struct {
	store  *mapStore
	prefix string
	events chan []*store.Event
}

func (s *mapStream) offer(ev *store.Event) {
	if strings.HasPrefix(ev.Item.Key, s.prefix) {
		s.events <- []*store.Event{ev}
	}
}

func (s *mapStream) Events() <-chan []*store.Event { return s.events }
func (s *mapStream) Err() error                    { return nil }

func (s *mapStream) Stop() {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	if s.store.streams[s] {
		delete(s.store.streams, s)
		close(s.events)
	}
}

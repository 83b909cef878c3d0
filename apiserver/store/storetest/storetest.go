// Package storetest is the contract suite of store.Store: every
// implementation runs it from its own tests with Run. It calls nothing but
// the contract. Goroutines: only within a test.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// Subject is an implementation under test: a running, empty store of
// core/v1 ConfigMaps.
type Subject struct {
	// Store to be tested; required. Its bookmarks must come at intervals of a
	// second or less, and it must refuse objects above 2 MB.
	Store store.Store
	// Compact drops history before revision; required.
	Compact func(ctx context.Context, revision int64) error
	// Advance moves the shared revision by a write that is not to Store, and
	// returns the new one; required.
	Advance func(ctx context.Context) (int64, error)
	// MaxLag is what Store lets a watcher fall behind, in events; required.
	MaxLag int
}

// Run runs the suite. make is called once per test; what it starts it ends by
// t.Cleanup.
func Run(t *testing.T, make func(t *testing.T) Subject) {
	for _, group := range []struct {
		name  string
		cases []testCase
	}{
		{"read", readCases}, {"write", writeCases}, {"list", listCases}, {"watch", watchCases},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) { c.run(&fixture{T: t, Subject: make(t)}) })
			}
		})
	}
}

type testCase struct {
	name string
	run  func(f *fixture)
}

// fixture is one test with its store.
type fixture struct {
	*testing.T
	Subject
}

// configMap returns an object whose data tells versions apart.
func configMap(key, value string) *corev1.ConfigMap {
	namespace, name := split(key)
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"value": value}},
		Data:       map[string]string{"value": value},
	}
}

func split(key string) (namespace, name string) {
	for i := range key {
		if key[i] == '/' {
			return key[:i], key[i+1:]
		}
	}
	return "", key
}

// value is what configMap put in.
func value(item *store.Item) string {
	return item.Object.(*corev1.ConfigMap).Data["value"] //nolint:forcetypeassert // the suite stores nothing else
}

func (f *fixture) create(key, v string) *store.Item {
	f.Helper()
	item, err := f.Store.Create(f.Context(), key, configMap(key, v))
	if err != nil {
		f.Fatalf("create %s: %v", key, err)
	}
	f.check(item, key, v)
	return item
}

func (f *fixture) set(key, v string) *store.Item {
	f.Helper()
	item, err := f.Store.Update(f.Context(), key, func(*store.Item) (resource.Object, error) { return configMap(key, v), nil })
	if err != nil {
		f.Fatalf("update %s: %v", key, err)
	}
	f.check(item, key, v)
	return item
}

func (f *fixture) delete(key string) *store.Item {
	f.Helper()
	item, err := f.Store.Delete(f.Context(), key, nil)
	if err != nil {
		f.Fatalf("delete %s: %v", key, err)
	}
	return item
}

func (f *fixture) get(key string) *store.Item {
	f.Helper()
	item, err := f.Store.Get(f.Context(), key, store.Consistency{AtLeast: store.Latest})
	if err != nil {
		f.Fatalf("get %s: %v", key, err)
	}
	return item
}

func (f *fixture) list(q store.Query) *store.Page {
	f.Helper()
	page, err := f.Store.List(f.Context(), q)
	if err != nil {
		f.Fatalf("list %+v: %v", q.Consistency, err)
	}
	return page
}

func (f *fixture) latest() store.Query {
	return store.Query{Consistency: store.Consistency{AtLeast: store.Latest}}
}

// check holds an item to the contract's promises about every item.
func (f *fixture) check(item *store.Item, key, v string) {
	f.Helper()
	switch {
	case item == nil:
		f.Fatalf("no item of %s", key)
	case item.Key != key || item.Object.GetName() != item.Key[len(item.Object.GetNamespace())+1:]:
		f.Fatalf("item has key %q and object %s/%s, want %q", item.Key, item.Object.GetNamespace(), item.Object.GetName(), key)
	case item.Revision <= 0 || item.Object.GetResourceVersion() != fmt.Sprint(item.Revision):
		f.Fatalf("item of %s has revision %d and resourceVersion %q", key, item.Revision, item.Object.GetResourceVersion())
	case value(item) != v:
		f.Fatalf("item of %s has value %q, want %q", key, value(item), v)
	}
	if kind := item.Object.GetObjectKind().GroupVersionKind(); !kind.Empty() {
		f.Fatalf("item of %s has kind %v set", key, kind)
	}
}

func (f *fixture) wantError(err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Fatalf("error %v, want %v", err, want)
	}
}

// summary shows a page's items as key=value.
func summary(items []*store.Item) []string {
	out := []string{}
	for _, item := range items {
		out = append(out, item.Key+"="+value(item))
	}
	return out
}

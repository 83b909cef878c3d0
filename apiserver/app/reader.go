package app

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// reader reads stored objects for admission, authentication, authorization
// and nodeproxy. Objects are shared and read-only.
type reader struct {
	stores     map[schema.GroupResource]store.Store
	namespaced map[schema.GroupResource]bool
}

func newReader(definitions []*resource.Definition, stores map[schema.GroupResource]store.Store) *reader {
	r := &reader{stores: stores, namespaced: map[schema.GroupResource]bool{}}
	for _, d := range definitions {
		r.namespaced[d.GroupVersionResource().GroupResource()] = d.Namespaced
	}
	return r
}

// Get reads one object, possibly a moment old.
func (r *reader) Get(ctx context.Context, res schema.GroupResource, namespace, name string) (resource.Object, error) {
	return r.get(ctx, res, namespace, name, store.Consistency{})
}

// GetLatest reads one object, no older than the call.
func (r *reader) GetLatest(ctx context.Context, res schema.GroupResource, namespace, name string) (resource.Object, error) {
	return r.get(ctx, res, namespace, name, store.Consistency{AtLeast: store.Latest})
}

func (r *reader) get(ctx context.Context, res schema.GroupResource, namespace, name string, at store.Consistency) (resource.Object, error) {
	s, ok := r.stores[res]
	if !ok {
		return nil, apierrors.NewNotFound(res, name)
	}
	key := name
	if r.namespaced[res] {
		key = namespace + "/" + name
	}
	item, err := s.Get(ctx, key, at)
	if errors.Is(err, store.ErrNotFound) {
		return nil, apierrors.NewNotFound(res, name)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s %q: %w", res, key, err)
	}
	return item.Object, nil
}

// List reads the objects of a namespace, or all for "", possibly a moment old.
func (r *reader) List(ctx context.Context, res schema.GroupResource, namespace string) ([]resource.Object, error) {
	s, ok := r.stores[res]
	if !ok {
		return nil, nil
	}
	query := store.Query{}
	if namespace != "" {
		query.Prefix = namespace + "/"
	}
	page, err := s.List(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", res, err)
	}
	out := make([]resource.Object, len(page.Items))
	for i, item := range page.Items {
		out[i] = item.Object
	}
	return out, nil
}

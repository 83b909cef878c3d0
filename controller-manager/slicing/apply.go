package slicing

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
)

// seenTimeout is how long a write that the cache does not show holds a service back.
const seenTimeout = 30 * time.Second

// Writer applies changes and remembers them until the cache has caught up, so
// that a reconcile on a stale cache does not make slices twice. The zero value
// with a Client is ready. Safe for concurrent use by different keys.
type Writer struct {
	// Client is required.
	Client discoveryclient.EndpointSlicesGetter

	mu sync.Mutex
	// pending is guarded by mu.
	pending map[string]*written
}

// written is what one service's last changes should look like in the cache.
type written struct {
	since time.Time
	// generations by UID; gone holds UIDs that were deleted.
	generations map[types.UID]int64
	gone        map[types.UID]bool
}

// CaughtUp reports whether the cached slices of the service show all its
// earlier writes.
func (w *Writer) CaughtUp(key string, cached []*discoveryv1.EndpointSlice) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pending[key]
	if p == nil || time.Since(p.since) > seenTimeout {
		delete(w.pending, key)
		return true
	}
	generations := map[types.UID]int64{}
	for _, s := range cached {
		if p.gone[s.UID] {
			return false
		}
		generations[s.UID] = s.Generation
	}
	for uid, want := range p.generations {
		if have, there := generations[uid]; !there || have < want {
			return false
		}
	}
	delete(w.pending, key)
	return true
}

// Forget drops what is known about a service that is gone.
func (w *Writer) Forget(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pending, key)
}

// Apply writes the change; all of it is tried, the errors are joined. A new
// slice may take over the place of one that is to be deleted.
func (w *Writer) Apply(ctx context.Context, key, namespace string, change Change) error {
	client := w.Client.EndpointSlices(namespace)
	var errs []error
	for len(change.Create) > 0 && len(change.Delete) > 0 && change.Create[0].AddressType == change.Delete[0].AddressType {
		reused := change.Create[0]
		reused.Name, reused.GenerateName = change.Delete[0].Name, ""
		reused.ResourceVersion, reused.UID = change.Delete[0].ResourceVersion, change.Delete[0].UID
		change.Update = append(change.Update, reused)
		change.Create, change.Delete = change.Create[1:], change.Delete[1:]
	}
	for _, s := range change.Create {
		made, err := client.Create(ctx, s, metav1.CreateOptions{})
		if err != nil {
			errs = append(errs, fmt.Errorf("create endpoint slice: %w", err))
			continue
		}
		w.saw(key, made, false)
	}
	for _, s := range change.Update {
		made, err := client.Update(ctx, s, metav1.UpdateOptions{})
		if err != nil {
			errs = append(errs, fmt.Errorf("update endpoint slice %s: %w", s.Name, err))
			continue
		}
		w.saw(key, made, false)
	}
	for _, s := range change.Delete {
		if err := client.Delete(ctx, s.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("delete endpoint slice %s: %w", s.Name, err))
			continue
		}
		w.saw(key, s, true)
	}
	return errors.Join(errs...)
}

func (w *Writer) saw(key string, s *discoveryv1.EndpointSlice, gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pending == nil {
		w.pending = map[string]*written{}
	}
	p := w.pending[key]
	if p == nil {
		p = &written{generations: map[types.UID]int64{}, gone: map[types.UID]bool{}}
		w.pending[key] = p
	}
	p.since = time.Now()
	if gone {
		delete(p.generations, s.UID)
		p.gone[s.UID] = true
		return
	}
	p.generations[s.UID] = s.Generation
}

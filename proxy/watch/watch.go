// Package watch follows Services, EndpointSlices and this node in the API and
// remembers which Services changed since they were last taken (dirty marks).
// Package syncer takes the marks, package dns reads the same objects. The
// informers' goroutines run for as long as Run does. All methods are safe for
// concurrent use.
package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Names of the indexes.
const (
	byService = "service" // EndpointSlices by "<namespace>/<service>"
	byAddress = "address" // Services by cluster IP, EndpointSlices by endpoint
)

// Watch of the API. Use New.
type Watch struct {
	factory  informers.SharedInformerFactory
	services cache.SharedIndexInformer
	slices   cache.SharedIndexInformer
	nodes    cache.SharedIndexInformer
	synced   []cache.InformerSynced
	node     string

	mu    sync.Mutex // guards dirty and all
	dirty map[string]struct{}
	all   bool
	wake  chan struct{} // size 1: there are marks
}

// New makes a watch; node is the name of ours. Nothing is read before Run.
func New(client kubernetes.Interface, node string) (*Watch, error) {
	w := &Watch{node: node, dirty: map[string]struct{}{}, wake: make(chan struct{}, 1), all: true}
	w.factory = informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(strip))
	w.services = w.factory.Core().V1().Services().Informer()
	w.slices = w.factory.Discovery().V1().EndpointSlices().Informer()
	w.nodes = w.factory.InformerFor(&corev1.Node{}, func(c kubernetes.Interface, resync time.Duration) cache.SharedIndexInformer {
		return coreinformers.NewFilteredNodeInformer(c, resync, cache.Indexers{}, func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, node).String()
		})
	})
	if err := errors.Join(
		w.services.AddIndexers(cache.Indexers{byAddress: serviceAddresses}),
		w.slices.AddIndexers(cache.Indexers{byService: sliceService, byAddress: sliceAddresses}),
		w.handle(w.services, func(obj any) { w.mark(keyOf(obj)) }),
		w.handle(w.slices, func(obj any) {
			if slice, ok := obj.(*discoveryv1.EndpointSlice); ok {
				w.mark(ServiceOf(slice))
			}
		}),
		w.handleNode(),
	); err != nil {
		return nil, fmt.Errorf("set up informers: %w", err)
	}
	return w, nil
}

// strip drops what is never read.
func strip(obj any) (any, error) {
	switch o := obj.(type) {
	case metav1.Object:
		o.SetManagedFields(nil)
	}
	if node, ok := obj.(*corev1.Node); ok {
		node.Status.Images = nil
	}
	return obj, nil
}

func (w *Watch) handle(informer cache.SharedIndexInformer, changed func(obj any)) error {
	registered, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    changed,
		UpdateFunc: func(old, obj any) { changed(old); changed(obj) },
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			changed(obj)
		},
	})
	if err == nil {
		w.synced = append(w.synced, registered.HasSynced)
	}
	return err
}

// handleNode marks everything when the node's zone changes: hints depend on it.
func (w *Watch) handleNode() error {
	registered, err := w.nodes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { w.MarkAll() },
		UpdateFunc: func(old, obj any) {
			if zone(old) != zone(obj) {
				w.MarkAll()
			}
		},
	})
	if err == nil {
		w.synced = append(w.synced, registered.HasSynced)
	}
	return err
}

func zone(obj any) string {
	if node, ok := obj.(*corev1.Node); ok {
		return node.Labels[corev1.LabelTopologyZone]
	}
	return ""
}

// Run follows the API until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	w.factory.StartWithContext(ctx)
	<-ctx.Done()
	w.factory.Shutdown()
	return nil
}

// Ready is nil once everything that was there at the start is known.
func (w *Watch) Ready() error {
	for _, synced := range w.synced {
		if !synced() {
			return errors.New("informers have not synced")
		}
	}
	return nil
}

// Changed receives a value when there are marks to take.
func (w *Watch) Changed() <-chan struct{} { return w.wake }

// MarkAll marks every Service.
func (w *Watch) MarkAll() {
	w.mu.Lock()
	w.all = true
	w.mu.Unlock()
	w.signal()
}

func (w *Watch) mark(key string) {
	if key == "" {
		return
	}
	w.mu.Lock()
	w.dirty[key] = struct{}{}
	w.mu.Unlock()
	w.signal()
}

func (w *Watch) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Take returns the keys ("<namespace>/<name>") of Services that changed since
// the last Take, or all true when every one has to be looked at.
func (w *Watch) Take() (dirty map[string]struct{}, all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	dirty, all = w.dirty, w.all
	w.dirty, w.all = map[string]struct{}{}, false
	return dirty, all
}

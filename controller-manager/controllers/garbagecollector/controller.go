// Package garbagecollector deletes objects whose owners are gone, carries out
// foreground deletion (dependents before their owner) and orphaning
// (dependents stay, without the reference). It keeps a graph of all objects of
// all deletable kinds from metadata-only informers; kinds come and go with
// discovery. graph.go holds the graph, monitor.go fills it, delete.go acts on it.
//
// app/ lists it. Beside the workers it starts one goroutine for discovery and
// one informer a kind, all ended with the Loop's context.
package garbagecollector

import (
	"context"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/lru"

	"github.com/skeg-dev/skeg/controller-manager/apiresources"
	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// absentCacheSize is how many UIDs of owners known to be gone are remembered,
// so that a thousand dependents cost one request (upstream's size).
const absentCacheSize = 500

// Controller reconciles objects by UID.
type Controller struct {
	client   metadata.Interface
	discover func() ([]apiresources.Resource, map[string]error, error)
	shared   map[schema.GroupVersionResource]cache.SharedIndexInformer
	events   record.EventRecorder
	graph    *graph
	// absent has owner coordinates (absentKey) that were looked for and are gone.
	absent *lru.Cache
	// synced is closed when every monitor has delivered its first list.
	synced chan struct{}

	mu sync.RWMutex
	// Guarded by mu: running monitors, and resources by group and kind.
	monitors map[schema.GroupVersionResource]*monitor
	kinds    map[schema.GroupKind]apiresources.Resource
}

// absentKey names an owner as a dependent sees it.
type absentKey struct {
	uid       types.UID
	namespace string
}

// New returns the controller. shared are the informers of the process that
// already watch a kind with all its data: they feed the graph too, instead of
// a second watch.
func New(env reconcile.Env, shared map[schema.GroupVersionResource]cache.SharedIndexInformer) *Controller {
	return &Controller{
		client: env.Metadata, shared: shared, events: env.Events("garbage-collector-controller"),
		discover: func() ([]apiresources.Resource, map[string]error, error) {
			return apiresources.Discover(env.Client.Discovery())
		},
		graph: newGraph(), absent: lru.New(absentCacheSize), synced: make(chan struct{}),
		monitors: map[schema.GroupVersionResource]*monitor{}, kinds: map[schema.GroupKind]apiresources.Resource{},
	}
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "garbage-collector-controller" }

// Watches implements reconcile.Reconciler: what is watched depends on
// discovery, so Run does it.
func (c *Controller) Watches() []reconcile.Watch { return nil }

// Reconcile implements reconcile.Reconciler. key is an object's UID.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	n, known := c.graph.get(types.UID(key))
	if !known {
		return reconcile.Result{}, nil
	}
	select { // half a graph is a wrong one
	case <-c.synced:
	case <-ctx.Done():
		return reconcile.Result{}, ctx.Err()
	}
	if n.deleting && n.orphan {
		return reconcile.Result{}, c.orphanDependents(ctx, n)
	}
	if n.deletingDependents() {
		return reconcile.Result{}, c.finishForeground(ctx, n)
	}
	if n.deleting || len(n.owners) == 0 {
		return reconcile.Result{}, nil
	}
	return c.judge(ctx, n)
}

// kind returns the resource that serves an owner reference's kind.
func (c *Controller) kind(ref metav1.OwnerReference) (apiresources.Resource, bool) {
	version, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return apiresources.Resource{}, false
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	r, ok := c.kinds[schema.GroupKind{Group: version.Group, Kind: ref.Kind}]
	return r, ok
}

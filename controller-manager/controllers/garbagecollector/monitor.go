package garbagecollector

import (
	"context"
	"log/slog"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"

	"github.com/skeg-dev/skeg/controller-manager/apiresources"
	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// discoverPeriod is how often new and gone kinds are looked for (upstream's value).
const discoverPeriod = 30 * time.Second

// ignored are kinds without owners or dependents worth a watch: many, short-lived.
var ignored = []schema.GroupResource{{Resource: "events"}, {Group: "events.k8s.io", Resource: "events"}}

// monitor feeds the graph with one resource.
type monitor struct {
	resource apiresources.Resource
	synced   cache.InformerSynced
	stop     func()
}

// Run implements reconcile.Loop: it keeps a monitor for every deletable resource.
func (c *Controller) Run(ctx context.Context, q reconcile.Queue) error {
	defer c.stopAll()
	timer := time.NewTimer(0)
	complete := false
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		next := discoverPeriod
		if err := c.resync(ctx, q); err != nil {
			slog.Warn("discovery for garbage collection not finished, will retry", "err", err)
			next = time.Second
		}
		if !complete && c.awaitSync(ctx) {
			complete = true
			close(c.synced)
		}
		timer.Reset(next)
	}
}

// resync starts monitors for resources that are new and stops those of
// resources that are gone. Groups that did not answer keep theirs.
func (c *Controller) resync(ctx context.Context, q reconcile.Queue) error {
	all, failed, err := c.discover()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := map[schema.GroupVersionResource]bool{}
	for _, r := range all {
		c.kinds[schema.GroupKind{Group: r.Group, Kind: r.Kind}] = r
		if !r.Can("delete", "list", "watch") || slices.Contains(ignored, r.GroupResource()) {
			continue
		}
		wanted[r.GroupVersionResource] = true
		if c.monitors[r.GroupVersionResource] == nil {
			m, err := c.start(ctx, r, q)
			if err != nil {
				return err
			}
			c.monitors[r.GroupVersionResource] = m
		}
	}
	for gvr, m := range c.monitors {
		if _, unanswered := failed[gvr.Group]; !wanted[gvr] && !unanswered {
			m.stop()
			delete(c.monitors, gvr)
			delete(c.kinds, schema.GroupKind{Group: gvr.Group, Kind: m.resource.Kind})
			c.graph.drop(m.resource)
		}
	}
	return nil
}

// start subscribes to a shared informer, or starts a metadata-only one.
func (c *Controller) start(ctx context.Context, r apiresources.Resource, q reconcile.Queue) (*monitor, error) {
	feed := c.feed(r, q)
	if informer, ok := c.shared[r.GroupVersionResource]; ok {
		registration, err := informer.AddEventHandler(feed)
		if err != nil {
			return nil, err
		}
		return &monitor{resource: r, synced: registration.HasSynced, stop: func() {
			if err := informer.RemoveEventHandler(registration); err != nil {
				slog.Debug("event handler not removed", "resource", r.GroupResource(), "err", err)
			}
		}}, nil
	}
	informer := metadatainformer.NewFilteredMetadataInformer(c.client, r.GroupVersionResource, metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()
	if err := informer.SetTransform(slim); err != nil {
		return nil, err
	}
	registration, err := informer.AddEventHandler(feed)
	if err != nil {
		return nil, err
	}
	own, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		informer.Run(own.Done())
	}()
	return &monitor{resource: r, synced: registration.HasSynced, stop: func() {
		cancel()
		<-done
	}}, nil
}

// slim keeps what the graph reads.
func slim(object any) (any, error) {
	if m, ok := object.(*metav1.PartialObjectMetadata); ok {
		m.Annotations, m.Labels, m.ManagedFields = nil, nil, nil
	}
	return object, nil
}

// feed puts events into the graph, and what they concern into the queue.
func (c *Controller) feed(r apiresources.Resource, q reconcile.Queue) cache.ResourceEventHandler {
	put := func(object any) {
		if meta, ok := object.(metav1.Object); ok {
			for _, uid := range c.graph.put(nodeOf(r, meta)) {
				q.Add(string(uid))
			}
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    put,
		UpdateFunc: func(_, now any) { put(now) },
		DeleteFunc: func(object any) {
			if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = gone.Obj
			}
			if meta, ok := object.(metav1.Object); ok {
				c.absent.Add(absentKey{meta.GetUID(), meta.GetNamespace()}, struct{}{})
				for _, uid := range c.graph.remove(meta.GetUID()) {
					q.Add(string(uid))
				}
			}
		},
	}
}

func nodeOf(r apiresources.Resource, meta metav1.Object) node {
	return node{
		uid: meta.GetUID(), resource: r, namespace: meta.GetNamespace(), name: meta.GetName(),
		owners: slices.Clone(meta.GetOwnerReferences()), deleting: meta.GetDeletionTimestamp() != nil,
		foreground: slices.Contains(meta.GetFinalizers(), metav1.FinalizerDeleteDependents),
		orphan:     slices.Contains(meta.GetFinalizers(), metav1.FinalizerOrphanDependents),
	}
}

// awaitSync waits until every monitor has delivered its first list; false when
// there are none yet or ctx ended. A kind that cannot be listed does not hold
// up the others for longer than discoverPeriod.
func (c *Controller) awaitSync(ctx context.Context) bool {
	c.mu.RLock()
	var synced []cache.InformerSynced
	for _, m := range c.monitors {
		synced = append(synced, m.synced)
	}
	c.mu.RUnlock()
	if len(synced) == 0 {
		return false
	}
	limited, cancel := context.WithTimeout(ctx, discoverPeriod)
	defer cancel()
	if !cache.WaitForCacheSync(limited.Done(), synced...) && ctx.Err() == nil {
		slog.Warn("some kinds cannot be listed, garbage collection starts without them")
	}
	return ctx.Err() == nil
}

func (c *Controller) stopAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for gvr, m := range c.monitors {
		m.stop()
		delete(c.monitors, gvr)
	}
}

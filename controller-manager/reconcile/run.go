package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// Run wires the reconciler to its informers, waits until they have synced,
// starts the workers and blocks until ctx ends. Informers are started by the
// caller. It returns nil after ctx ended, or the error of the reconciler's Loop.
func Run(ctx context.Context, r Reconciler, workers int) error {
	log := slog.With("controller", r.Name())
	q := workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.DefaultTypedControllerRateLimiter[string](),
		workqueue.TypedRateLimitingQueueConfig[string]{Name: r.Name()})
	defer q.ShutDown()

	synced, stop, err := subscribe(r, q)
	defer stop()
	if err != nil {
		if ctx.Err() != nil {
			return nil // informers that stopped with it take no handlers
		}
		return err
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil // ctx ended first
	}
	log.Info("controller started", "workers", workers)
	if s, ok := r.(Starter); ok {
		for _, key := range s.StartKeys() {
			q.Add(key)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for range max(workers, 1) {
		group.Go(func() error {
			for step(ctx, log, r, q) {
			}
			return nil
		})
	}
	if loop, ok := r.(Loop); ok {
		group.Go(func() error {
			if err := loop.Run(ctx, q); err != nil {
				return fmt.Errorf("run %s: %w", r.Name(), err)
			}
			return nil
		})
	}
	group.Go(func() error {
		<-ctx.Done()
		q.ShutDown()
		return nil
	})
	err = group.Wait()
	log.Info("controller stopped")
	return err
}

// subscribe registers a handler for every watch. stop removes them again.
func subscribe(r Reconciler, q Queue) (synced []cache.InformerSynced, stop func(), err error) {
	var undo []func()
	stop = func() {
		for _, f := range undo {
			f()
		}
	}
	for _, w := range r.Watches() {
		if w.On == nil {
			synced = append(synced, w.Informer.HasSynced)
			continue
		}
		registration, err := w.Informer.AddEventHandler(handler{on: w.On, q: q})
		if err != nil {
			return nil, stop, fmt.Errorf("watch for %s: %w", r.Name(), err)
		}
		undo = append(undo, func() {
			if err := w.Informer.RemoveEventHandler(registration); err != nil {
				slog.Debug("event handler not removed", "controller", r.Name(), "err", err)
			}
		})
		synced = append(synced, registration.HasSynced)
	}
	return synced, stop, nil
}

// step handles one key; false when the queue is shut down.
func step(ctx context.Context, log *slog.Logger, r Reconciler, q workqueue.TypedRateLimitingInterface[string]) bool {
	key, shutdown := q.Get()
	if shutdown {
		return false
	}
	defer q.Done(key)
	start := time.Now()
	result, err := r.Reconcile(ctx, key)
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil:
		// Conflicts and objects made a moment ago by somebody else are the
		// normal course of things: the cache lags, the next look settles it.
		level := slog.LevelWarn
		if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, "NamespaceTerminating") {
			level = slog.LevelDebug
		}
		log.Log(ctx, level, "reconcile not finished, will retry", "key", key, "retries", q.NumRequeues(key), "err", err)
		q.AddRateLimited(key)
	default:
		q.Forget(key)
		if result.RequeueAfter > 0 {
			q.AddAfter(key, result.RequeueAfter)
		}
		log.Debug("reconciled", "key", key, "took", time.Since(start))
	}
	return true
}

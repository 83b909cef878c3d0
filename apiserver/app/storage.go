package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/etcdserver"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/apiserver/store/cache"
	"github.com/skeg-dev/skeg/apiserver/store/etcd"
	"github.com/skeg-dev/skeg/apiserver/store/fanout"
	"github.com/skeg-dev/skeg/internal/component"
)

// storage is where objects are kept.
type storage struct {
	stores map[schema.GroupResource]store.Store
	// ranges keeps what no API serves: which node ports are taken.
	ranges store.Store
	parts  []component.Part
	checks []component.Check
}

// newStorage makes one store per stored kind on an etcd.
func newStorage(o *Options, client *etcdserver.Client, definitions []*resource.Definition, logger *slog.Logger) (*storage, error) {
	interval := o.Etcd.CompactionInterval
	if interval == 0 {
		interval = -1 // the flag's 0 is for ever
	}
	compactor := &etcd.Compactor{Client: client, Interval: interval, Logger: logger}
	s := &storage{
		stores: map[schema.GroupResource]store.Store{},
		parts:  []component.Part{{Name: "compactor", Runnable: compactor}},
		checks: []component.Check{{Name: "etcd", Probe: func(ctx context.Context) error {
			return etcdserver.Check(ctx, client) //nolint:wrapcheck // says what
		}}},
	}
	ranges, err := etcd.New(etcd.Config{
		Client: client, Prefix: o.Etcd.Prefix, StorePrefix: "ranges", Logger: logger,
		New: func() runtime.Object { return &corev1.RangeAllocation{} },
	})
	if err != nil {
		return nil, fmt.Errorf("keep ranges: %w", err)
	}
	s.ranges = ranges
	all := &caches{}
	for _, d := range definitions {
		if d.NewList == nil || d.Stored != nil {
			continue
		}
		kept, err := newStore(o, client, d, logger)
		if err != nil {
			return nil, err
		}
		name := d.GroupVersionResource().GroupResource()
		cached := cache.New(kept, cache.Config{Name: name.String(), Fanout: fanoutConfig(d), Compacted: compactor.Compacted, Logger: logger})
		s.stores[name] = cached
		all.members = append(all.members, cached)
	}
	s.parts = append(s.parts, component.Part{Name: "caches", Runnable: all})
	s.checks = append(s.checks, component.Check{Name: "watch-cache", Probe: func(context.Context) error { return all.Ready() }})
	return s, nil
}

func fanoutConfig(d *resource.Definition) fanout.Config {
	if d.Index == nil {
		return fanout.Config{}
	}
	return fanout.Config{Index: func(obj resource.Object) string { return d.Index.Value(obj) }}
}

// caches run side by side: none needs another.
type caches struct{ members []*cache.Cache }

// Run runs all caches until ctx ends or one of them does.
func (c *caches) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, member := range c.members {
		group.Go(func() error { return member.Run(ctx) })
	}
	return group.Wait() //nolint:wrapcheck // names the resource
}

// Ready is nil once all are filled.
func (c *caches) Ready() error {
	for _, member := range c.members {
		if err := member.Ready(); err != nil {
			return err //nolint:wrapcheck // says what
		}
	}
	return nil
}

func newStore(o *Options, client *etcdserver.Client, d *resource.Definition, logger *slog.Logger) (*etcd.Store, error) {
	codec, err := etcd.NewCodec(d.New())
	if err != nil {
		return nil, fmt.Errorf("keep %s: %w", d.Resource, err)
	}
	prefix := d.StorePrefix
	if prefix == "" {
		prefix = d.Resource
	}
	ttl := time.Duration(d.TTLSeconds) * time.Second
	if d.Resource == "events" {
		ttl = o.EventTTL
	}
	kept, err := etcd.New(etcd.Config{
		Client: client, Prefix: o.Etcd.Prefix, StorePrefix: prefix, New: d.New,
		Codec: defaulting{Codec: codec, apply: d.Default}, TTL: ttl, Logger: logger,
	})
	if err != nil {
		return nil, fmt.Errorf("keep %s: %w", d.Resource, err)
	}
	return kept, nil
}

// defaulting applies a kind's defaults to what comes out of the store, which
// an older server may have written without them.
type defaulting struct {
	etcd.Codec
	apply func(obj runtime.Object) // may be nil
}

// Decode implements etcd.Codec.
func (d defaulting) Decode(data []byte, into runtime.Object) (bool, error) {
	canonical, err := d.Codec.Decode(data, into)
	if err == nil && d.apply != nil {
		d.apply(into)
	}
	return canonical, err //nolint:wrapcheck // says what
}

package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/skeg-dev/skeg/controller-manager/apiresources"
	"github.com/skeg-dev/skeg/controller-manager/reconcile"
	"github.com/skeg-dev/skeg/internal/kubeclient"
	"github.com/skeg-dev/skeg/internal/pki"
)

// controllers is the Runnable that builds and runs all controllers while this
// process leads.
type controllers struct {
	options     *Options
	env         reconcile.Env
	rootCA      func() ([]byte, error)
	broadcaster record.EventBroadcaster
	sink        corev1client.EventInterface
}

// builder is what a registry entry builds its controller from.
type builder struct {
	env     reconcile.Env
	options *Options
	// rootCA reads the CA certificates to publish; nil when there are none.
	rootCA func() ([]byte, error)
	// shared are the informers in use so far.
	shared map[schema.GroupVersionResource]cache.SharedIndexInformer
}

func newControllers(o *Options, config *rest.Config, client kubernetes.Interface) (*controllers, error) {
	meta, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make metadata client: %w", err)
	}
	c := &controllers{
		options: o, rootCA: rootCA(o, config),
		broadcaster: record.NewBroadcaster(), sink: client.CoreV1().Events(""),
	}
	c.env = reconcile.Env{
		Client: client, Metadata: meta, Informers: kubeclient.Informers(client),
		Events: func(component string) record.EventRecorder {
			return c.broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component})
		},
	}
	return c, nil
}

// rootCA is --root-ca-file, else what the kubeconfig trusts the API server by.
func rootCA(o *Options, config *rest.Config) func() ([]byte, error) {
	file := o.RootCAFile
	switch {
	case file == "" && len(config.CAData) > 0:
		data := config.CAData
		return func() ([]byte, error) { return data, nil }
	case file == "":
		file = config.CAFile
	}
	if file == "" {
		return nil
	}
	return func() ([]byte, error) { return os.ReadFile(file) }
}

// authority loads the CA of a signer.
func (b *builder) authority(signer string) (*pki.Pair, error) {
	files := b.options.Signing
	for name, own := range b.options.SigningBySigner {
		if signers[name] == signer && own.Cert != "" {
			files = *own
		}
	}
	return pki.Load(files.Cert, files.Key)
}

// recordEvents sends events to the API server until ctx ends.
func (c *controllers) recordEvents(ctx context.Context) error {
	watch := c.broadcaster.StartRecordingToSink(&corev1client.EventSinkImpl{Interface: c.sink})
	<-ctx.Done()
	c.broadcaster.Shutdown()
	watch.Stop()
	return nil
}

// Run builds the controllers that are selected and served, starts the
// informers, and runs all until ctx ends or one fails.
func (c *controllers) Run(ctx context.Context) error {
	served, err := c.served(ctx)
	if err != nil || served == nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	b := &builder{env: c.env, options: c.options, rootCA: c.rootCA, shared: map[schema.GroupVersionResource]cache.SharedIndexInformer{}}
	type built struct {
		reconcile.Reconciler
		workers int
	}
	var all []built
	for _, e := range registry() {
		r, err := c.build(b, e, served)
		if err != nil {
			return fmt.Errorf("build %s: %w", e.name, err)
		}
		if r != nil {
			all = append(all, built{r, c.options.workers(e)})
		}
	}
	c.env.Informers.StartWithContext(ctx)
	defer c.env.Informers.Shutdown()
	for _, r := range all {
		group.Go(func() error { return reconcile.Run(ctx, r.Reconciler, r.workers) })
	}
	group.Go(func() error { <-ctx.Done(); return nil })
	return group.Wait()
}

// build makes one controller; nil when it is not to run.
func (c *controllers) build(b *builder, e entry, served map[schema.GroupVersionResource]bool) (reconcile.Reconciler, error) {
	if !c.options.enabled(e) {
		slog.Info("controller is off", "controller", e.name)
		return nil, nil
	}
	for _, resource := range e.reads {
		if !served[resource] {
			slog.Info("controller not started, the API server does not serve what it works on", "controller", e.name, "resource", resource.GroupResource())
			return nil, nil
		}
	}
	r, err := e.build(b)
	if err != nil || r == nil {
		if err == nil {
			slog.Info("controller not started, it is not configured", "controller", e.name)
		}
		return nil, err
	}
	for _, resource := range e.reads {
		informer, err := c.env.Informers.ForResource(resource)
		if err != nil {
			return nil, fmt.Errorf("find informer: %w", err)
		}
		b.shared[resource] = informer.Informer()
	}
	return r, nil
}

// discoverRetry is the pause between two tries to reach an API server.
const discoverRetry = 500 * time.Millisecond

// served asks which resources exist, until the API server answers; nil when
// ctx ended first.
func (c *controllers) served(ctx context.Context) (map[schema.GroupVersionResource]bool, error) {
	for {
		all, failed, err := apiresources.Discover(c.env.Client.Discovery())
		if err == nil && len(all) > 0 {
			if len(failed) > 0 {
				slog.Warn("some API groups do not answer", "groups", failed)
			}
			served := map[schema.GroupVersionResource]bool{}
			for _, r := range all {
				served[r.GroupVersionResource] = true
			}
			return served, nil
		}
		slog.Warn("API server does not answer discovery, will retry", "err", err)
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(discoverRetry):
		}
	}
}

// Package app is the kubelet's wiring: options and their file (options.go,
// config.go, parse.go), the building of all parts (wiring.go, edges.go,
// events.go) and their start in order (app.go). Nothing imports it but main.
package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/utils/clock"

	"github.com/skeg-dev/skeg/internal/component"
	"github.com/skeg-dev/skeg/internal/kubeclient"
	"github.com/skeg-dev/skeg/kubelet/measure"
	"github.com/skeg-dev/skeg/kubelet/node"
)

// Run runs the kubelet until ctx ends. Containers stay as they are then.
func (o *Options) Run(ctx context.Context, logger *slog.Logger) error {
	if err := o.complete(); err != nil {
		return err
	}
	if len(o.unused) > 0 {
		logger.Warn("settings of the configuration file have no effect here", "path", o.Config, "fields", o.unused)
	}
	for dir, mode := range map[string]os.FileMode{o.RootDir: 0o750, filepath.Join(o.RootDir, "pods"): 0o750, o.LogDir: 0o755} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	component.RegisterMetrics()
	measures := measure.New(clock.RealClock{})
	measures.Register(o.HostnameOverride, legacyregistry.MustRegister, legacyregistry.CustomMustRegister)
	credentials := o.credentials(logger)
	credentials.RenewFailures = measures.ClientRenewFailures
	cert, err := credentials.Ensure(ctx)
	if err != nil {
		return fmt.Errorf("get credentials: %w", err)
	}
	k, err := o.build(ctx, measures, logger)
	if err != nil {
		return err
	}
	defer k.close()
	k.watch(cert)
	group := component.Group{Logger: logger, Parts: k.parts()}
	if cert != nil && o.RotateCertificates {
		group.Parts = append([]component.Part{{Name: "client certificate", Runnable: component.RunFunc(cert.Run)}}, group.Parts...)
	}
	return group.Run(ctx)
}

// credentials are how the node gets its kubeconfig.
func (o *Options) credentials(logger *slog.Logger) *node.Credentials {
	c := &node.Credentials{
		Node: o.HostnameOverride, Kubeconfig: o.API.Kubeconfig, BootstrapKubeconfig: o.BootstrapKubeconfig,
		CertDir: o.CertDir, Clock: clock.RealClock{}, Logger: logger,
		Client: func(config *rest.Config) (kubernetes.Interface, error) {
			kubeclient.Prepare(config, o.API, "kubelet")
			return kubeclient.New(config)
		},
	}
	if c.Kubeconfig == "" {
		c.Kubeconfig = filepath.Join(o.RootDir, "kubelet.conf")
		o.API.Kubeconfig = c.Kubeconfig
	}
	if o.Server != "" {
		join := o.join()
		c.Join = &join
	}
	return c
}

// watch has the metrics read the kubelet's state. cert is nil for a kubelet
// that does not keep its client certificate.
func (k *kubelet) watch(cert *node.Certificate) {
	sources := measure.Sources{
		Sandboxes: k.shims.ListSandboxes, Pods: k.pool.Pods, Driver: k.volumes.DriverOf, Logger: k.logger,
	}
	if cert != nil {
		sources.ClientExpiry = func() time.Time { return node.Expiry(cert.Current) }
	}
	if k.serverCert != nil {
		sources.ServerExpiry = func() time.Time { return node.Expiry(k.serverCert) }
	}
	k.measures.Watch(sources)
}

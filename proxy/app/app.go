//go:build linux

// Package app wires the proxy: the watch marks what changed, the syncer makes
// rules and hands them to a backend, DNS answers from the same watch. It is
// the only package that knows all others. Top-level goroutines are the parts
// of the run group in Run.
package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skeg-dev/skeg/internal/component"
	"github.com/skeg-dev/skeg/proxy/backend"
	"github.com/skeg-dev/skeg/proxy/conntrack"
	"github.com/skeg-dev/skeg/proxy/dns"
	"github.com/skeg-dev/skeg/proxy/healthserver"
	"github.com/skeg-dev/skeg/proxy/syncer"
	"github.com/skeg-dev/skeg/proxy/watch"
)

// Run proxies until ctx ends; the rules stay in the kernel.
func (o *Options) Run(ctx context.Context, logger *slog.Logger) error {
	if o.Cleanup {
		return cleanup(ctx)
	}
	component.RegisterMetrics()
	node, err := o.node()
	if err != nil {
		return err
	}
	chosen, err := o.backend(ctx, logger)
	if err != nil {
		return err
	}
	client, err := o.client()
	if err != nil {
		return err
	}
	objects, err := watch.New(client, node)
	if err != nil {
		return err
	}
	if err := forwardPackets(); err != nil {
		return err
	}
	checks := healthserver.New(logger)
	defer func() {
		if err := checks.Close(); err != nil {
			logger.Error("close health check ports", "error", err)
		}
	}()
	rules := syncer.New(syncer.Config{
		Source: objects, Backend: chosen, Node: node, Logger: logger,
		PodNetworks: prefixes(o.ClusterCIDR), NodePortAddresses: prefixes(o.NodePortAddresses), ServiceNetworks: prefixes(o.ServiceCIDR),
		MinInterval: o.MinSyncPeriod, FullInterval: o.SyncPeriod,
		After: afterSync(checks, logger), Failed: func(error) { syncFailures.Inc() },
	})
	parts := []component.Part{{Name: "watch", Runnable: objects}, {Name: "rules", Runnable: rules}}
	health := component.NewHealth(component.Check{Name: "rules", Probe: func(context.Context) error { return rules.Ready() }})
	if len(o.ClusterDNS) > 0 {
		names, err := o.dns(objects, logger)
		if err != nil {
			return err
		}
		parts = append(parts, component.Part{Name: "dns", Runnable: names})
		health.Add(component.Check{Name: "dns", Probe: func(context.Context) error { return names.Ready() }})
	}
	return (&component.Group{Logger: logger, Parts: append(o.servers(health, logger), parts...)}).Run(ctx)
}

func (o *Options) servers(health *component.Health, logger *slog.Logger) []component.Part {
	var parts []component.Part
	if s := server("healthz", o.HealthzBindAddress, component.ServerConfig{Health: health, Logger: logger}); s != nil {
		parts = append(parts, component.Part{Name: "healthz", Runnable: s})
	}
	registerMetrics()
	if s := server("metrics", o.MetricsBindAddress, component.ServerConfig{Metrics: true, Profiling: true, Health: health, Logger: logger}); s != nil {
		parts = append(parts, component.Part{Name: "metrics", Runnable: s})
	}
	return parts
}

// afterSync does what follows from rules that are in the kernel.
func afterSync(checks *healthserver.Server, logger *slog.Logger) func(context.Context, syncer.Report) {
	return func(_ context.Context, done syncer.Report) {
		observe(done)
		if n, err := conntrack.Reconcile(done.Gone, done.Added); err != nil {
			logger.Warn("drop stale connections", "error", err)
		} else if n > 0 {
			logger.Info("stale connections dropped", "count", n)
		}
		if err := checks.Sync(done.Rules.HealthChecks); err != nil {
			logger.Error("serve health checks", "error", err)
		}
	}
}

// choose returns the backend for the mode, which the kernel can do.
func choose(ctx context.Context, mode string, all []backend.Backend) (backend.Backend, error) {
	var errs []error
	for _, b := range all {
		if mode != "auto" && mode != b.Name() {
			continue
		}
		err := b.Available(ctx)
		if err == nil {
			return b, nil
		}
		errs = append(errs, fmt.Errorf("--proxy-mode=%s: %w", b.Name(), err))
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("--proxy-mode: %s is not built in", mode)
	}
	return nil, errors.Join(errs...)
}

// backend chooses, and removes what another mode left, which would fight with
// ours.
func (o *Options) backend(ctx context.Context, logger *slog.Logger) (backend.Backend, error) {
	all := backends()
	chosen, err := choose(ctx, o.Mode, all)
	if err != nil {
		return nil, err
	}
	for _, other := range all {
		if other != chosen {
			if err := other.Cleanup(ctx); err != nil {
				logger.Warn("clean up after another proxy mode", "mode", other.Name(), "error", err)
			}
		}
	}
	logger.Info("proxy mode", "mode", chosen.Name())
	return chosen, nil
}

func (o *Options) client() (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	config.QPS, config.Burst = o.QPS, o.Burst
	config.ContentType = runtime.ContentTypeProtobuf
	config.UserAgent = "skeg-proxy/" + component.Version
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return client, nil
}

func (o *Options) dns(objects *watch.Watch, logger *slog.Logger) (*dns.Server, error) {
	var addrs []netip.Addr
	for _, text := range o.ClusterDNS {
		if a, err := netip.ParseAddr(text); err == nil { // validated
			addrs = append(addrs, a)
		}
	}
	if err := dns.EnsureAddresses(addrs); err != nil {
		return nil, err
	}
	upstreams, err := dns.Upstreams(o.ResolvConf, func(ip string) bool { return slices.Contains(o.ClusterDNS, ip) })
	if err != nil {
		logger.Warn("names outside the cluster are not resolved", "error", err)
	}
	return dns.New(dns.Config{Source: objects, Domain: o.ClusterDomain, Addresses: addrs, Upstreams: upstreams, Logger: logger}), nil
}

// forwardPackets lets the node pass packets on between pods and other nodes.
// A kernel without IPv6 has nothing to forward there.
func forwardPackets() error {
	for _, path := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"} {
		now, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && strings.Contains(path, "ipv6") || string(now) == "1\n" {
			continue
		}
		if err := os.WriteFile(path, []byte("1\n"), 0o644); err != nil {
			return fmt.Errorf("enable forwarding: %w", err)
		}
	}
	return nil
}

func cleanup(ctx context.Context) error {
	errs := []error{dns.RemoveAddresses()}
	for _, b := range backends() {
		errs = append(errs, b.Cleanup(ctx))
	}
	return errors.Join(errs...)
}

package app

import (
	"context"
	"crypto/tls"
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/internal/component"
	"github.com/skeg-dev/skeg/internal/pki"
	"github.com/skeg-dev/skeg/kubelet/node"
	"github.com/skeg-dev/skeg/kubelet/server"
)

// buildServers makes the health endpoint and the kubelet's own API.
func (k *kubelet) buildServers(context.Context) error {
	o := k.options
	health := component.NewHealth(component.Check{Name: "pods", Probe: func(context.Context) error { return k.pool.Ready() }})
	if o.HealthPort != 0 {
		k.serving = append(k.serving, component.Part{Name: "health server", Runnable: component.NewServer(component.ServerConfig{
			Name: "health", Address: o.HealthAddress, Port: o.HealthPort, Health: health, Logger: k.logger,
		})})
	}
	if o.Port == 0 {
		return nil
	}
	settings, err := k.serverTLS()
	if err != nil {
		return fmt.Errorf("prepare TLS: %w", err)
	}
	k.serverCert = settings.GetCertificate
	return k.buildAPI(settings, health)
}

// serverTLS finds the serving certificate: given, from the cluster, or made here.
func (k *kubelet) serverTLS() (*tls.Config, error) {
	o := k.options
	if o.CertFile == "" && !o.RotateServerCerts {
		serving := component.ServingOptions{CertDir: o.CertDir, PairName: "kubelet"}
		settings, source, err := serving.TLS(append(k.hostIPs(), o.HostnameOverride), k.logger)
		if err != nil {
			return nil, err
		}
		k.serving = append(k.serving, component.Part{Name: "serving certificate", Runnable: source})
		return settings, nil
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if o.CertFile != "" {
		source, err := pki.FileSource(o.CertFile, o.KeyFile, k.logger)
		if err != nil {
			return nil, err
		}
		k.serving = append(k.serving, component.Part{Name: "serving certificate", Runnable: source})
		settings.GetCertificate = source.GetCertificate
		return settings, nil
	}
	cert, err := node.NewServingCertificate(o.HostnameOverride, o.CertDir, k.ips, k.client, k.measures.ServerRenewFailures)
	if err != nil {
		return nil, err
	}
	// It is issued by another component, for which nothing here waits.
	k.serving = append(k.serving, component.Part{Name: "serving certificate", Runnable: component.RunFunc(cert.Run)})
	settings.GetCertificate = cert.Current
	return settings, nil
}

// buildAPI makes the kubelet's own API. Who may use it is the API server's to
// say.
func (k *kubelet) buildAPI(settings *tls.Config, health *component.Health) error {
	o := k.options
	api, err := server.New(server.Config{
		NodeName: o.HostnameOverride, Pods: k.pool.Pods, Dial: k.network.Dial,
		Runtime: remembering{Runtime: k.runtime, pods: k.pool.Pods, dirs: k.hooks.Dirs},
		Traffic: func(uid types.UID) (server.Traffic, bool) {
			t, ok := k.network.Traffic(uid)
			return server.Traffic(t), ok
		},
		Configz: func() any { return o.configuration() },
		RootDir: o.RootDir, ProbeMetrics: k.probes.Metrics(), Log: k.logger,
	})
	if err != nil {
		return fmt.Errorf("make API: %w", err)
	}
	guard, err := component.NewDelegation(component.DelegationConfig{
		Client: k.client, ClientCAFile: o.Auth.ClientCAFile, AlwaysAllowPaths: []string{"/healthz"},
		DenyAnonymous: true, Resources: api.Resources, Logger: k.logger,
	})
	if err != nil {
		return fmt.Errorf("make API guard: %w", err)
	}
	k.serving = append(k.serving, component.Part{Name: "api server", Runnable: component.NewServer(component.ServerConfig{
		Name: "kubelet", Address: o.Address, Port: o.Port, TLS: settings, Health: health,
		Handler: imagesAPI{store: k.images, next: api.Handler(), logger: k.logger},
		Metrics: true, Auth: guard, Logger: k.logger,
	})})
	return nil
}

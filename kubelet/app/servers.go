package app

import (
	"context"
	"crypto/tls"
	"fmt"

	"github.com/skeg-dev/skeg/internal/component"
	"github.com/skeg-dev/skeg/internal/pki"
	"github.com/skeg-dev/skeg/kubelet/node"
)

// buildServers makes the health endpoint and the kubelet's own API.
func (k *kubelet) buildServers(ctx context.Context) error {
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
	_ = settings
	return nil
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
	cert, err := node.NewServingCertificate(o.HostnameOverride, o.CertDir, k.ips, k.client)
	if err != nil {
		return nil, err
	}
	// It is issued by another component, for which nothing here waits.
	k.serving = append(k.serving, component.Part{Name: "serving certificate", Runnable: component.RunFunc(cert.Run)})
	settings.GetCertificate = cert.Current
	return settings, nil
}

// Package app wires the controller manager: client, informers, the controllers
// of registry.go, leader election and the HTTPS listener. It is the only
// package that knows all others. Top-level goroutines are the parts of the run
// group in Run; each controller's run is one in the part "controllers".
package app

import (
	"context"
	"log/slog"

	"k8s.io/client-go/kubernetes"

	"github.com/skeg-dev/skeg/internal/component"
	"github.com/skeg-dev/skeg/internal/kubeclient"
)

// Run works until ctx ends.
func (o *Options) Run(ctx context.Context, logger *slog.Logger) error {
	component.RegisterMetrics()
	config, err := kubeclient.Config(o.Client, "controller-manager")
	if err != nil {
		return err
	}
	client, err := kubeclient.New(config)
	if err != nil {
		return err
	}
	leases, err := kubeclient.Unlimited(config, o.Leader.RenewDeadline/2)
	if err != nil {
		return err
	}
	work, err := newControllers(o, config, client)
	if err != nil {
		return err
	}
	leader := component.NewLeaderElection(component.LeaderConfig{
		Options: o.Leader, Client: leases, Logger: logger,
		Parts: []component.Part{
			{Name: "events", Runnable: component.RunFunc(work.recordEvents)},
			{Name: "controllers", Runnable: work},
		},
	})
	parts, err := o.serving(client, component.NewHealth(leader.Check()), logger)
	if err != nil {
		return err
	}
	group := &component.Group{Logger: logger, Parts: append(parts, component.Part{Name: "leader election", Runnable: leader})}
	return group.Run(ctx)
}

// serving makes the HTTPS listener with health, metrics and profiles, and what
// keeps its certificate fresh.
func (o *Options) serving(client kubernetes.Interface, health *component.Health, logger *slog.Logger) ([]component.Part, error) {
	if o.Serving.Port == 0 {
		return nil, nil
	}
	tls, source, err := o.Serving.TLS([]string{o.Serving.BindAddress}, logger)
	if err != nil {
		return nil, err
	}
	guard, err := component.NewDelegation(component.DelegationConfig{
		Client: client, ClientCAFile: o.Delegation.ClientCAFile, AlwaysAllowPaths: o.Delegation.AlwaysAllowPaths, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	server := component.NewServer(component.ServerConfig{
		Name: "controller-manager", Address: o.Serving.BindAddress, Port: o.Serving.Port,
		TLS: tls, Health: health, Metrics: true, Profiling: true, Auth: guard, Logger: logger,
	})
	return []component.Part{{Name: "certificate", Runnable: source}, {Name: "server", Runnable: server}}, nil
}

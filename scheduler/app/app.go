// Package app wires the scheduler: informers feed the cache and the queue, the
// cycle takes from the queue and binds. It is the only package that knows all
// others. Top-level goroutines are the parts of the run group in Run.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/events"

	"github.com/skeg-dev/skeg/internal/component"
	schedcache "github.com/skeg-dev/skeg/scheduler/cache"
	"github.com/skeg-dev/skeg/scheduler/cycle"
	"github.com/skeg-dev/skeg/scheduler/framework"
	"github.com/skeg-dev/skeg/scheduler/plugins"
	"github.com/skeg-dev/skeg/scheduler/queue"
)

// Run schedules until ctx ends.
func (o *Options) Run(ctx context.Context, logger *slog.Logger) error {
	component.RegisterMetrics()
	config, err := o.clientConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	s := newScheduler(o, client, logger)
	leader := component.NewLeaderElection(component.LeaderConfig{
		Options: o.Leader, Client: client, Logger: logger,
		Parts: []component.Part{
			{Name: "events", Runnable: component.RunFunc(s.recordEvents)},
			{Name: "queue", Runnable: s.queue},
			{Name: "cycle", Runnable: s.cycle},
		},
	})
	health := component.NewHealth(leader.Check(), component.Check{Name: "informers", Probe: func(context.Context) error { return s.Ready() }})
	serving, err := o.serving(client, health, logger)
	if err != nil {
		return err
	}
	group := &component.Group{Logger: logger, Parts: append(serving,
		component.Part{Name: "informers", Runnable: s},
		component.Part{Name: "leader election", Runnable: leader},
	)}
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
		Name: "scheduler", Address: o.Serving.BindAddress, Port: o.Serving.Port,
		TLS: tls, Health: health, Metrics: true, Profiling: true, Auth: guard, Logger: logger,
	})
	return []component.Part{{Name: "certificate", Runnable: source}, {Name: "server", Runnable: server}}, nil
}

func (o *Options) clientConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags(o.Master, o.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	config.QPS, config.Burst = o.QPS, o.Burst
	config.ContentType = runtime.ContentTypeProtobuf
	config.UserAgent = "skeg-scheduler/" + component.Version
	return config, nil
}

// scheduler holds the wired parts. As a Runnable it runs the informers.
type scheduler struct {
	factory informers.SharedInformerFactory
	queue   *queue.Queue
	cycle   *cycle.Scheduler
	events  events.EventBroadcaster
	synced  []cache.InformerSynced
}

func newScheduler(o *Options, client kubernetes.Interface, logger *slog.Logger) *scheduler {
	factory, pods := newInformers(client)
	known := newLookups(factory)
	m := sharedMetrics()
	runner := framework.NewRunner(plugins.Registry(plugins.Config{Workloads: known, NamespaceLabels: known.namespaceLabels})).Observed(m.phase(o.SchedulerName))
	s := &scheduler{
		factory: factory,
		queue:   queue.New(queue.Config{Framework: runner, Incoming: m.entered}),
		events:  events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()}),
		synced:  known.synced,
	}
	nodes := factory.Core().V1().Nodes().Informer()
	f := &feed{cache: schedcache.New(), queue: s.queue, ours: func(p *corev1.Pod) bool { return p.Spec.SchedulerName == o.SchedulerName }}
	for informer, handler := range map[cache.SharedIndexInformer]cache.ResourceEventHandler{pods: f.podHandler(), nodes: f.nodeHandler()} {
		// The error is that of an informer that has stopped; ours is not started.
		if registered, err := informer.AddEventHandler(handler); err == nil {
			s.synced = append(s.synced, registered.HasSynced)
		}
	}
	m.watch(s.queue.Len, f.cache.Len)
	s.cycle = cycle.New(cycle.Config{
		Client: client, Queue: s.queue, Cache: f.cache, Logger: logger,
		Runners:           map[string]*framework.Runner{o.SchedulerName: runner},
		Events:            map[string]events.EventRecorder{o.SchedulerName: s.events.NewRecorder(scheme.Scheme, o.SchedulerName)},
		PercentageOfNodes: o.PercentageOfNodes,
		Observe:           m.attempt,
		ObserveAlgorithm:  m.searched,
		ObserveBound:      m.bound,
		ObservePreemption: m.preempted,
		Budgets:           known.budgets.PodDisruptionBudgets,
		Latest: func(name types.NamespacedName) *corev1.Pod {
			obj, ok, err := pods.GetIndexer().GetByKey(name.String())
			if err != nil || !ok {
				return nil
			}
			return obj.(*corev1.Pod)
		},
	})
	return s
}

// Run runs the informers until ctx ends.
func (s *scheduler) Run(ctx context.Context) error {
	s.factory.StartWithContext(ctx)
	<-ctx.Done()
	s.factory.Shutdown()
	return nil
}

// Ready is nil once the cache holds what the API server has.
func (s *scheduler) Ready() error {
	for _, synced := range s.synced {
		if !synced() {
			return errors.New("informers have not synced")
		}
	}
	return nil
}

func (s *scheduler) recordEvents(ctx context.Context) error {
	if err := s.events.StartRecordingToSinkWithContext(ctx); err != nil {
		return fmt.Errorf("record events: %w", err)
	}
	<-ctx.Done()
	s.events.Shutdown()
	return nil
}

// Package probe runs the startup, liveness and readiness probes of running
// containers and keeps what they say. The kubelet's lifecycle starts and ends
// them and reads the results when the callback wakes it; probes connect to the
// Pod over the network or run commands through the container contract.
// Goroutines: one per probe of a running container, until it is forgotten.
package probe

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Target is a running container to be probed. The objects must not be changed.
type Target struct {
	Pod       *corev1.Pod
	Container *corev1.Container
	ID        container.ID
	// IP to connect to: the Pod's, or the node's for a host network Pod.
	IP string
	// StartedAt is when the container started; zero is now.
	StartedAt time.Time
}

// Results is what probes say of a container. Without a probe of that kind
// Started and Ready are true, the failed ones false.
type Results struct {
	Started, Ready bool
	// StartupFailed, LivenessFailed: the threshold is exceeded, restart it.
	StartupFailed, LivenessFailed bool
}

// Outcome of one probe.
type Outcome string

// The outcomes. A warning is a success with something to tell.
const (
	Success Outcome = "success"
	Warning Outcome = "warning"
	Failure Outcome = "failure"
)

// Result is an outcome and what the probed thing said, for people.
type Result struct {
	Outcome Outcome
	Output  string
}

// Prober performs one kind of probe.
type Prober interface {
	// Match reports whether the handler is of this kind.
	Match(h *corev1.ProbeHandler) bool
	// Probe asks once; ctx has the probe's timeout, and its end is a Failure.
	// An error means "unknown": nothing was learned about the container.
	Probe(ctx context.Context, target Target, h *corev1.ProbeHandler) (Result, error)
}

// Config is what Probes needs.
type Config struct {
	// Runtime runs commands; required for exec probes.
	Runtime container.Containers
	// Changed is called when results of the Pod changed; it must not block.
	// Required.
	Changed func(pod types.UID)
	// Event tells the user of failures; nil does not.
	Event func(pod *corev1.Pod, containerName, eventType, reason, message string)
	// Log must not be nil.
	Log *slog.Logger
}

// Probes looks after all probes of the node. Its methods are safe for
// concurrent use.
type Probes struct {
	config  Config
	probers []Prober
	total   *prometheus.CounterVec

	mu         sync.Mutex // guards containers and the probed values
	containers map[container.ID]*probed
	running    sync.WaitGroup
}

// probed is one container with probes.
type probed struct {
	target  Target
	results Results
	started chan struct{} // closed when the startup probe succeeded
	stop    context.CancelFunc
}

// New returns Probes without workers.
func New(config Config) (*Probes, error) {
	if config.Changed == nil || config.Log == nil {
		return nil, errors.New("probe: Changed and Log are required")
	}
	if config.Event == nil {
		config.Event = func(*corev1.Pod, string, string, string, string) {}
	}
	return &Probes{
		config: config, probers: probers(config), containers: map[container.ID]*probed{},
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "prober_probe_total",
			Help: "Cumulative number of a liveness, readiness or startup probe for a container by result.",
		}, []string{"probe_type", "result", "container", "pod", "namespace", "pod_uid"}),
	}, nil
}

// Metrics is the collector behind /metrics/probes.
func (p *Probes) Metrics() prometheus.Collector { return p.total }

// Run waits until ctx ends, then ends all workers.
func (p *Probes) Run(ctx context.Context) error {
	<-ctx.Done()
	p.mu.Lock()
	for id, c := range p.containers {
		c.stop()
		delete(p.containers, id)
	}
	p.mu.Unlock()
	p.running.Wait()
	return nil
}

// Ensure starts the workers of a running container, once; later calls with the
// same ID only bring newer objects.
func (p *Probes) Ensure(target Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.containers[target.ID]; c != nil {
		target.StartedAt = c.target.StartedAt
		c.target = target
		return
	}
	if target.StartedAt.IsZero() {
		target.StartedAt = time.Now()
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &probed{target: target, started: make(chan struct{}), stop: stop}
	c.results = initial(target)
	if c.results.Started {
		close(c.started)
	}
	p.containers[target.ID] = c
	for _, k := range kinds {
		if spec := k.spec(target.Container); spec != nil && (k.name != startup || !c.results.Started) {
			w := &worker{probes: p, container: c, kind: k, spec: spec}
			p.running.Go(func() { w.run(ctx) })
		}
	}
}

// initial results: what has no probe is well; after a restart of the kubelet,
// what the status said of this very start of the container still holds.
func initial(target Target) Results {
	results := Results{
		Started: target.Container.StartupProbe == nil,
		Ready:   target.Container.ReadinessProbe == nil,
	}
	for _, list := range [][]corev1.ContainerStatus{target.Pod.Status.ContainerStatuses, target.Pod.Status.InitContainerStatuses} {
		for i := range list {
			s := &list[i]
			if s.Name != target.ID.Name || s.State.Running == nil || int(s.RestartCount) != target.ID.Attempt {
				continue
			}
			results.Ready = results.Ready || s.Ready
			results.Started = results.Started || (s.Started != nil && *s.Started)
		}
	}
	return results
}

// Results of a container; all false if Ensure was not called for it.
func (p *Probes) Results(id container.ID) Results {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.containers[id]
	if c == nil {
		return Results{}
	}
	results := c.results
	// Not ready before it has started (API reference, Container.startupProbe).
	results.Ready = results.Ready && results.Started
	return results
}

// Forget ends the workers of one container.
func (p *Probes) Forget(id container.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(id)
}

// ForgetPod ends the workers of all containers of a Pod.
func (p *Probes) ForgetPod(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.containers {
		if id.Pod == uid {
			p.forget(id)
		}
	}
	p.total.DeletePartialMatch(prometheus.Labels{"pod_uid": string(uid)})
}

// forget is called with mu held. Workers end on their own.
func (p *Probes) forget(id container.ID) {
	if c := p.containers[id]; c != nil {
		c.stop()
		delete(p.containers, id)
	}
}

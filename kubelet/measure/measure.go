// Package measure holds the kubelet's own metrics, under upstream's names and
// labels, and the decorators that take them: around the container runtime
// (runtime.go), and around what Pods' lives call (pods.go). What is a state
// rather than an event is read when metrics are asked for (state.go). Only
// app/ uses it. Goroutines: one for each subscription to the runtime's events.
package measure

import (
	"sync"
	"time"

	"k8s.io/component-base/metrics"
	"k8s.io/utils/clock"
)

const subsystem = "kubelet"

// startBuckets are for the start of a Pod, from half a second to an hour.
var startBuckets = []float64{0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600}

// Set is all metrics of one kubelet. Nothing is kept before Register.
type Set struct {
	// ClientRenewFailures and ServerRenewFailures count failed renewals of the
	// kubelet's certificates.
	ClientRenewFailures, ServerRenewFailures *metrics.Counter

	clock          clock.PassiveClock
	name           *metrics.GaugeVec
	operations     *metrics.CounterVec
	failures       *metrics.CounterVec
	seconds        *metrics.HistogramVec
	podStart       *metrics.Histogram
	podWorker      *metrics.HistogramVec
	relist         *metrics.Histogram
	relistInterval *metrics.Histogram
	cgroups        *metrics.HistogramVec
	evictions      *metrics.CounterVec
	configError    *metrics.Gauge
	state          *state

	mu sync.Mutex
	// listed is when the runtime's containers were last listed; guarded by mu.
	listed time.Time
}

// New makes the metrics.
func New(clock clock.PassiveClock) *Set {
	operation := []string{"operation_type"}
	return &Set{
		clock: clock,
		ClientRenewFailures: metrics.NewCounter(&metrics.CounterOpts{
			Namespace: subsystem, Subsystem: "certificate_manager", Name: "client_expiration_renew_errors", StabilityLevel: metrics.ALPHA,
			Help: "Number of failed renewals of the client certificate",
		}),
		ServerRenewFailures: metrics.NewCounter(&metrics.CounterOpts{
			Subsystem: subsystem, Name: "server_expiration_renew_errors", StabilityLevel: metrics.ALPHA,
			Help: "Number of failed renewals of the serving certificate",
		}),
		name: metrics.NewGaugeVec(&metrics.GaugeOpts{
			Subsystem: subsystem, Name: "node_name", StabilityLevel: metrics.ALPHA,
			Help: "Constant 1, labelled by the node's name",
		}, []string{"node"}),
		operations: metrics.NewCounterVec(&metrics.CounterOpts{
			Subsystem: subsystem, Name: "runtime_operations_total", StabilityLevel: metrics.ALPHA,
			Help: "Number of calls to the container runtime, by operation",
		}, operation),
		failures: metrics.NewCounterVec(&metrics.CounterOpts{
			Subsystem: subsystem, Name: "runtime_operations_errors_total", StabilityLevel: metrics.ALPHA,
			Help: "Number of calls to the container runtime that failed, by operation",
		}, operation),
		seconds: metrics.NewHistogramVec(&metrics.HistogramOpts{
			Subsystem: subsystem, Name: "runtime_operations_duration_seconds", Buckets: metrics.ExponentialBuckets(.005, 2.5, 14), StabilityLevel: metrics.ALPHA,
			Help: "Duration of calls to the container runtime in seconds, by operation",
		}, operation),
		podStart: metrics.NewHistogram(&metrics.HistogramOpts{
			Subsystem: subsystem, Name: "pod_start_duration_seconds", Buckets: startBuckets, StabilityLevel: metrics.ALPHA,
			Help: "Time from the first sight of a pod until it runs in seconds",
		}),
		podWorker: metrics.NewHistogramVec(&metrics.HistogramOpts{
			Subsystem: subsystem, Name: "pod_worker_duration_seconds", Buckets: metrics.DefBuckets, StabilityLevel: metrics.ALPHA,
			Help: "Duration of one look at a pod in seconds, by what gave rise to it: create, update or sync",
		}, operation),
		relist: metrics.NewHistogram(&metrics.HistogramOpts{
			Subsystem: subsystem, Name: "pleg_relist_duration_seconds", Buckets: metrics.DefBuckets, StabilityLevel: metrics.ALPHA,
			Help: "Duration of full lists of the node's containers in seconds",
		}),
		relistInterval: metrics.NewHistogram(&metrics.HistogramOpts{
			Subsystem: subsystem, Name: "pleg_relist_interval_seconds", Buckets: metrics.DefBuckets, StabilityLevel: metrics.ALPHA,
			Help: "Time between full lists of the node's containers in seconds",
		}),
		cgroups: metrics.NewHistogramVec(&metrics.HistogramOpts{
			Subsystem: subsystem, Name: "cgroup_manager_duration_seconds", Buckets: metrics.DefBuckets, StabilityLevel: metrics.ALPHA,
			Help: "Duration of work on pods' cgroups in seconds, by operation",
		}, operation),
		evictions: metrics.NewCounterVec(&metrics.CounterOpts{
			Subsystem: subsystem, Name: "evictions", StabilityLevel: metrics.ALPHA,
			Help: "Number of pods ended because the node ran short, by signal",
		}, []string{"eviction_signal"}),
		configError: metrics.NewGauge(&metrics.GaugeOpts{
			Subsystem: subsystem, Name: "node_config_error", StabilityLevel: metrics.ALPHA,
			Help: "1 while the kubelet runs with a configuration it could not take, else 0; one that is wrong at start ends it",
		}),
		state: newState(clock),
	}
}

// Register adds the metrics to a registry by its two functions, and says
// whose they are.
func (s *Set) Register(node string, register func(...metrics.Registerable), custom func(...metrics.StableCollector)) {
	register(s.ClientRenewFailures, s.ServerRenewFailures, s.name, s.operations, s.failures, s.seconds,
		s.podStart, s.podWorker, s.relist, s.relistInterval, s.cgroups, s.evictions, s.configError)
	custom(s.state)
	s.name.WithLabelValues(node).Set(1)
	s.configError.Set(0)
}

// Evicted counts a Pod that was ended for a signal's sake.
func (s *Set) Evicted(signal string) { s.evictions.WithLabelValues(signal).Inc() }

// Looked is one look of a Pod's worker.
func (s *Set) Looked(operation string, took time.Duration) {
	s.podWorker.WithLabelValues(operation).Observe(took.Seconds())
}

// operation counts a call to the runtime that began at start.
func (s *Set) operation(name string, start time.Time, err error) {
	s.operations.WithLabelValues(name).Inc()
	s.seconds.WithLabelValues(name).Observe(s.clock.Since(start).Seconds())
	if err != nil {
		s.failures.WithLabelValues(name).Inc()
	}
}

// fullList notes a list of all containers; start is when it was asked for, if
// that is known.
func (s *Set) fullList(start time.Time, known bool) {
	now := s.clock.Now()
	if known {
		s.relist.Observe(now.Sub(start).Seconds())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.listed.IsZero() {
		s.relistInterval.Observe(now.Sub(s.listed).Seconds())
	}
	s.listed = now
}

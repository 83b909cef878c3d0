package app

import (
	"strconv"
	"sync"
	"time"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/skeg-dev/skeg/scheduler/framework"
)

// schedulerMetrics has upstream's names, labels and buckets, which dashboards
// and alerts query.
type schedulerMetrics struct {
	attempts          *metrics.CounterVec
	attemptSeconds    *metrics.HistogramVec
	algorithmSeconds  *metrics.Histogram
	phaseSeconds      *metrics.HistogramVec
	sliSeconds        *metrics.HistogramVec
	podAttempts       *metrics.Histogram
	incoming          *metrics.CounterVec
	preemptions       *metrics.Counter
	preemptionVictims *metrics.Histogram
	sizes             *sizes
}

// sharedMetrics returns the process's metrics, registered once.
var sharedMetrics = sync.OnceValue(func() *schedulerMetrics {
	m := newMetrics()
	legacyregistry.MustRegister(m.attempts, m.attemptSeconds, m.algorithmSeconds, m.phaseSeconds, m.sliSeconds,
		m.podAttempts, m.incoming, m.preemptions, m.preemptionVictims)
	legacyregistry.CustomMustRegister(m.sizes)
	return m
})

func newMetrics() *schedulerMetrics {
	const subsystem = "scheduler"
	attemptBuckets := metrics.ExponentialBuckets(0.001, 2, 15)
	return &schedulerMetrics{
		attempts: metrics.NewCounterVec(&metrics.CounterOpts{
			Subsystem: subsystem, Name: "schedule_attempts_total", StabilityLevel: metrics.STABLE,
			Help: "Number of attempts to schedule pods, by result",
		}, []string{"result", "profile"}),
		attemptSeconds: metrics.NewHistogramVec(&metrics.HistogramOpts{
			Subsystem: subsystem, Name: "scheduling_attempt_duration_seconds", Buckets: attemptBuckets, StabilityLevel: metrics.STABLE,
			Help: "Duration of an attempt in seconds, from taking the pod to its binding",
		}, []string{"result", "profile"}),
		algorithmSeconds: metrics.NewHistogram(&metrics.HistogramOpts{
			Subsystem: subsystem, Name: "scheduling_algorithm_duration_seconds", Buckets: attemptBuckets, StabilityLevel: metrics.ALPHA,
			Help: "Duration of finding a node in seconds",
		}),
		phaseSeconds: metrics.NewHistogramVec(&metrics.HistogramOpts{
			Subsystem: subsystem, Name: "framework_extension_point_duration_seconds", Buckets: metrics.ExponentialBuckets(0.0001, 2, 12), StabilityLevel: metrics.STABLE,
			Help: "Duration of all plugins of a phase in seconds",
		}, []string{"extension_point", "status", "profile"}),
		sliSeconds: metrics.NewHistogramVec(&metrics.HistogramOpts{
			Subsystem: subsystem, Name: "pod_scheduling_sli_duration_seconds", Buckets: metrics.ExponentialBuckets(0.01, 2, 20), StabilityLevel: metrics.BETA,
			Help: "Time from a pod's entry into the queue to its binding in seconds, by number of attempts",
		}, []string{"attempts"}),
		podAttempts: metrics.NewHistogram(&metrics.HistogramOpts{
			Subsystem: subsystem, Name: "pod_scheduling_attempts", Buckets: metrics.ExponentialBuckets(1, 2, 5), StabilityLevel: metrics.STABLE,
			Help: "Number of attempts until a pod was scheduled",
		}),
		incoming: metrics.NewCounterVec(&metrics.CounterOpts{
			Subsystem: subsystem, Name: "queue_incoming_pods_total", StabilityLevel: metrics.STABLE,
			Help: "Number of pods that entered a part of the queue, by event",
		}, []string{"event", "queue"}),
		preemptions: metrics.NewCounter(&metrics.CounterOpts{
			Subsystem: subsystem, Name: "preemption_attempts_total", StabilityLevel: metrics.STABLE,
			Help: "Number of times room was made by removing pods",
		}),
		preemptionVictims: metrics.NewHistogram(&metrics.HistogramOpts{
			Subsystem: subsystem, Name: "preemption_victims", Buckets: metrics.ExponentialBuckets(1, 2, 7), StabilityLevel: metrics.STABLE,
			Help: "Number of pods removed to make room for one",
		}),
		sizes: &sizes{
			pending: metrics.NewDesc("scheduler_pending_pods", "Number of pods that wait, by part of the queue", []string{"queue"}, nil, metrics.STABLE, ""),
			cached:  metrics.NewDesc("scheduler_cache_size", "Number of nodes, pods and assumed pods in the cache", []string{"type"}, nil, metrics.ALPHA, ""),
		},
	}
}

func (m *schedulerMetrics) attempt(profile, result string, took time.Duration) {
	m.attempts.WithLabelValues(result, profile).Inc()
	m.attemptSeconds.WithLabelValues(result, profile).Observe(took.Seconds())
}

func (m *schedulerMetrics) searched(took time.Duration) { m.algorithmSeconds.Observe(took.Seconds()) }

// maxAttemptsLabel bounds the values of the label attempts: more count as "15+".
const maxAttemptsLabel = 15

func (m *schedulerMetrics) bound(attempts int, waited time.Duration) {
	label := strconv.Itoa(attempts)
	if attempts >= maxAttemptsLabel {
		label = strconv.Itoa(maxAttemptsLabel) + "+"
	}
	m.sliSeconds.WithLabelValues(label).Observe(waited.Seconds())
	m.podAttempts.Observe(float64(attempts))
}

func (m *schedulerMetrics) preempted(victims int) {
	m.preemptions.Inc()
	m.preemptionVictims.Observe(float64(victims))
}

func (m *schedulerMetrics) entered(queue, event string) {
	m.incoming.WithLabelValues(event, queue).Inc()
}

// codeNames are upstream's for the label status.
var codeNames = map[framework.Code]string{
	framework.Success: "Success", framework.Error: "Error", framework.Unschedulable: "Unschedulable",
	framework.Unresolvable: "UnschedulableAndUnresolvable", framework.Skip: "Skip", framework.Pending: "Pending",
}

func (m *schedulerMetrics) phase(profile string) func(string, framework.Code, time.Duration) {
	return func(phase string, code framework.Code, took time.Duration) {
		m.phaseSeconds.WithLabelValues(phase, codeNames[code], profile).Observe(took.Seconds())
	}
}

// watch says where the sizes are read when metrics are asked for.
func (m *schedulerMetrics) watch(pending func() (active, backoff, unschedulable, gated int), cached func() (nodes, pods, assumed int)) {
	m.sizes.mu.Lock()
	defer m.sizes.mu.Unlock()
	m.sizes.queue, m.sizes.cache = pending, cached
}

// sizes collects gauges at the moment they are asked for.
type sizes struct {
	metrics.BaseStableCollector
	pending, cached *metrics.Desc

	mu    sync.Mutex // guards both
	queue func() (active, backoff, unschedulable, gated int)
	cache func() (nodes, pods, assumed int)
}

// DescribeWithStability lists the gauges.
func (s *sizes) DescribeWithStability(ch chan<- *metrics.Desc) {
	ch <- s.pending
	ch <- s.cached
}

// CollectWithStability reads them.
func (s *sizes) CollectWithStability(ch chan<- metrics.Metric) {
	s.mu.Lock()
	queue, cache := s.queue, s.cache
	s.mu.Unlock()
	if queue == nil || cache == nil {
		return
	}
	gauge := func(d *metrics.Desc, n int, label string) {
		ch <- metrics.NewLazyConstMetric(d, metrics.GaugeValue, float64(n), label)
	}
	active, backoff, unschedulable, gated := queue()
	gauge(s.pending, active, "active")
	gauge(s.pending, backoff, "backoff")
	gauge(s.pending, unschedulable, "unschedulable")
	gauge(s.pending, gated, "gated")
	nodes, pods, assumed := cache()
	gauge(s.cached, nodes, "nodes")
	gauge(s.cached, pods, "pods")
	gauge(s.cached, assumed, "assumed_pods")
}

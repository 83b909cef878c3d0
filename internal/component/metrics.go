package component

import (
	"context"
	"net/http"
	"net/http/pprof"
	"net/url"
	"runtime"
	"sync"
	"time"

	"k8s.io/client-go/tools/leaderelection"
	clientmetrics "k8s.io/client-go/tools/metrics"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/component-base/metrics/prometheus/workqueue"
)

// clientBuckets are upstream's for rest_client_request_duration_seconds.
var clientBuckets = []float64{0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60}

var metricsOnce sync.Once

// RegisterMetrics registers what every binary reports: kubernetes_build_info,
// rest_client_*, workqueue_* and leader_election_*; process_* and go_* are in
// the registry from the start. Further calls do nothing.
func RegisterMetrics() {
	metricsOnce.Do(func() {
		registerBuildInfo()
		registerClientMetrics()
		registerLeaderMetrics()
		// The package hooks itself into client-go's work queues when it is
		// linked; naming it here is what links it.
		_ = workqueue.WorkQueueSubsystem
	})
}

// MetricsHandler serves /metrics of the process's registry.
func MetricsHandler() http.Handler {
	RegisterMetrics()
	return legacyregistry.Handler()
}

func registerBuildInfo() {
	info := metrics.NewGaugeVec(&metrics.GaugeOpts{
		Name:           "kubernetes_build_info",
		Help:           "Constant 1, labelled by the version this binary was built from",
		StabilityLevel: metrics.BETA,
	}, []string{"major", "minor", "git_version", "git_commit", "git_tree_state", "build_date", "go_version", "compiler", "platform"})
	legacyregistry.MustRegister(info)
	v := VersionInfo()
	info.WithLabelValues(v.Major, v.Minor, v.GitVersion, v.GitCommit, v.GitTreeState, v.BuildDate, v.GoVersion, v.Compiler, v.Platform).Set(1)
}

// clientMetrics are client-go's observations, under upstream's names.
type clientMetrics struct {
	latency, limiter *metrics.HistogramVec
	requests         *metrics.CounterVec
	retries          *metrics.CounterVec
}

func registerClientMetrics() {
	m := &clientMetrics{
		latency: metrics.NewHistogramVec(&metrics.HistogramOpts{
			Name: "rest_client_request_duration_seconds", Buckets: clientBuckets, StabilityLevel: metrics.ALPHA,
			Help: "Request latency in seconds, by verb and host",
		}, []string{"verb", "host"}),
		limiter: metrics.NewHistogramVec(&metrics.HistogramOpts{
			Name: "rest_client_rate_limiter_duration_seconds", Buckets: clientBuckets, StabilityLevel: metrics.ALPHA,
			Help: "Time spent waiting in the client's rate limiter in seconds, by verb and host",
		}, []string{"verb", "host"}),
		requests: metrics.NewCounterVec(&metrics.CounterOpts{
			Name: "rest_client_requests_total", StabilityLevel: metrics.ALPHA,
			Help: "Number of HTTP requests, by status code, method and host",
		}, []string{"code", "method", "host"}),
		retries: metrics.NewCounterVec(&metrics.CounterOpts{
			Name: "rest_client_request_retries_total", StabilityLevel: metrics.ALPHA,
			Help: "Number of request retries, by status code, verb and host",
		}, []string{"code", "verb", "host"}),
	}
	legacyregistry.MustRegister(m.latency, m.limiter, m.requests, m.retries)
	clientmetrics.Register(clientmetrics.RegisterOpts{
		RequestLatency:     observer{m.latency},
		RateLimiterLatency: observer{m.limiter},
		RequestResult:      results{m.requests},
		RequestRetry:       retries{m.retries},
	})
}

// leaderMetrics are client-go's observations of leader election.
type leaderMetrics struct {
	leading *metrics.GaugeVec
	slow    *metrics.CounterVec
}

func registerLeaderMetrics() {
	m := &leaderMetrics{
		leading: metrics.NewGaugeVec(&metrics.GaugeOpts{
			Name: "leader_election_master_status", StabilityLevel: metrics.ALPHA,
			Help: "1 while this process holds the lease, by the lease's name",
		}, []string{"name"}),
		slow: metrics.NewCounterVec(&metrics.CounterOpts{
			Name: "leader_election_slowpath_total", StabilityLevel: metrics.ALPHA,
			Help: "Number of renewals that had to read the lease first, by the lease's name",
		}, []string{"name"}),
	}
	legacyregistry.MustRegister(m.leading, m.slow)
	leaderelection.SetProvider(m)
}

// NewLeaderMetric makes client-go report to m.
func (m *leaderMetrics) NewLeaderMetric() leaderelection.LeaderMetric { return m }

// On reports that the lease is held.
func (m *leaderMetrics) On(name string) { m.leading.WithLabelValues(name).Set(1) }

// Off reports that it is not.
func (m *leaderMetrics) Off(name string) { m.leading.WithLabelValues(name).Set(0) }

// SlowpathExercised counts.
func (m *leaderMetrics) SlowpathExercised(name string) { m.slow.WithLabelValues(name).Inc() }

type observer struct{ *metrics.HistogramVec }

// Observe records one latency.
func (o observer) Observe(ctx context.Context, verb string, u url.URL, latency time.Duration) {
	o.WithContext(ctx).WithLabelValues(verb, u.Host).Observe(latency.Seconds())
}

type results struct{ *metrics.CounterVec }

// Increment counts one answer.
func (c results) Increment(ctx context.Context, code, method, host string) {
	c.WithContext(ctx).WithLabelValues(code, method, host).Inc()
}

type retries struct{ *metrics.CounterVec }

// IncrementRetry counts one retry.
func (c retries) IncrementRetry(ctx context.Context, code, method, host string) {
	c.WithContext(ctx).WithLabelValues(code, method, host).Inc()
}

// InstallProfiling registers /debug/pprof/. contention also records blocking
// and mutex profiles, which costs a little all the time.
func InstallProfiling(mux *http.ServeMux, contention bool) {
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	if contention {
		runtime.SetBlockProfileRate(1)
		runtime.SetMutexProfileFraction(1)
	}
}

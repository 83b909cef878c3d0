// Package filter is the pipeline that every request passes before it is
// routed: a file per filter, registry.go in order. It is put together by app/,
// calls authentication and authorization, and starts no goroutines.
package filter

import (
	"bufio"
	"log/slog"
	"net"
	"net/http"
	"time"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/authz"
)

// Authenticator finds out who sends a request. ok is false when it has no
// opinion; an error means that the credentials are bad.
type Authenticator interface {
	Authenticate(r *http.Request) (u authn.User, ok bool, err error)
}

// Config is what the filters need.
type Config struct {
	// Authenticator and Authorizer are required.
	Authenticator Authenticator
	Authorizer    authz.Authorizer
	// RequestTimeout bounds requests that are not long-running; required.
	RequestTimeout time.Duration
	// MaxInFlight and MaxMutatingInFlight bound concurrent requests; 0 is
	// unbounded.
	MaxInFlight, MaxMutatingInFlight int
	// Metrics is required.
	Metrics *Metrics
	// Logger is required.
	Logger *slog.Logger
}

// Filter wraps a handler.
type Filter func(c Config, next http.Handler) http.Handler

// Chain wraps a handler in all filters.
func Chain(c Config, next http.Handler) http.Handler {
	filters := Registry()
	for i := len(filters) - 1; i >= 0; i-- {
		next = filters[i](c, next)
	}
	return next
}

// recorder remembers what was answered. It passes Flush and Hijack on.
type recorder struct {
	http.ResponseWriter
	code     int
	bytes    int64
	hijacked bool
}

// Unwrap serves http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// WriteHeader notes the status.
func (r *recorder) WriteHeader(code int) {
	if r.code == 0 && code >= http.StatusOK {
		r.code = code
	}
	r.ResponseWriter.WriteHeader(code)
}

// Write notes the size.
func (r *recorder) Write(p []byte) (int, error) {
	if r.code == 0 {
		r.code = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err //nolint:wrapcheck // the writer's own
}

// Flush implements http.Flusher for those who ask the old way.
func (r *recorder) Flush() {
	http.NewResponseController(r.ResponseWriter).Flush() //nolint:errcheck // Flusher has no error
}

// Hijack implements http.Hijacker for those who ask the old way.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(r.ResponseWriter).Hijack()
	if err == nil {
		r.hijacked = true
		if r.code == 0 {
			r.code = http.StatusSwitchingProtocols
		}
	}
	return conn, rw, err //nolint:wrapcheck // the writer's own
}

// Metrics are the request metrics under upstream's names, which dashboards
// and alerts query.
type Metrics struct {
	total        *metrics.CounterVec
	duration     *metrics.HistogramVec
	sli          *metrics.HistogramVec
	sizes        *metrics.HistogramVec
	longRunning  *metrics.GaugeVec
	inFlight     *metrics.GaugeVec
	terminations *metrics.CounterVec
}

var (
	endpointLabels = []string{"verb", "group", "version", "resource", "subresource", "scope", "component"}
	dryRunLabels   = []string{"verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"}
	totalLabels    = append(dryRunLabels[:len(dryRunLabels):len(dryRunLabels)], "code")
	// durationBuckets are upstream's: dashboards compare them with their SLOs.
	durationBuckets = []float64{
		0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60,
	}
)

// RegisterMetrics makes the metrics and registers them; ones that are registered
// already (a second server in the process) stay as they are and the new ones
// are counted but not shown.
func RegisterMetrics() *Metrics {
	const subsystem = "apiserver"
	counter := func(name, help string, labels []string) *metrics.CounterVec {
		return metrics.NewCounterVec(&metrics.CounterOpts{Subsystem: subsystem, Name: name, Help: help, StabilityLevel: metrics.STABLE}, labels)
	}
	gauge := func(name, help string, labels []string) *metrics.GaugeVec {
		return metrics.NewGaugeVec(&metrics.GaugeOpts{Subsystem: subsystem, Name: name, Help: help, StabilityLevel: metrics.STABLE}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels []string) *metrics.HistogramVec {
		return metrics.NewHistogramVec(&metrics.HistogramOpts{Subsystem: subsystem, Name: name, Help: help, Buckets: buckets, StabilityLevel: metrics.STABLE}, labels)
	}
	m := &Metrics{
		total:        counter("request_total", "Requests by verb, dry run, resource, scope and response code.", totalLabels),
		duration:     histogram("request_duration_seconds", "Time to answer a request.", durationBuckets, dryRunLabels),
		sli:          histogram("request_sli_duration_seconds", "Time to answer a request, without time spent waiting for others.", durationBuckets[2:], endpointLabels),
		sizes:        histogram("response_sizes", "Size of answers in bytes.", metrics.ExponentialBuckets(1000, 10, 7), endpointLabels),
		longRunning:  gauge("longrunning_requests", "Long-running requests now.", endpointLabels),
		inFlight:     gauge("current_inflight_requests", "Requests now, by kind.", []string{"request_kind"}),
		terminations: counter("request_terminations_total", "Requests refused in self-defence.", append(endpointLabels[:len(endpointLabels):len(endpointLabels)], "code")),
	}
	for _, collector := range []metrics.Registerable{m.total, m.duration, m.sli, m.sizes, m.longRunning, m.inFlight, m.terminations} {
		if err := legacyregistry.Register(collector); err != nil {
			collector.Create(nil)
		}
	}
	return m
}

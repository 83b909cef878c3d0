package filter

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/skeg-dev/skeg/apiserver/request"
)

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

// NewMetrics makes the metrics and registers them; ones that are registered
// already (a second server in the process) stay as they are and the new ones
// are counted but not shown.
func NewMetrics() *Metrics {
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

func (m *Metrics) dropped(info *request.Info, _ string) {
	m.terminations.WithLabelValues(append(endpoint(info), "429")...).Inc()
}

// Observe measures and logs each request.
func Observe(c Config, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		info := request.InfoFrom(r.Context())
		rec := &recorder{ResponseWriter: w}
		labels := endpoint(info)
		if info.LongRunning() {
			gauge := c.Metrics.longRunning.WithLabelValues(labels...)
			gauge.Inc()
			defer gauge.Dec()
		}
		defer func() { c.Metrics.observe(r, info, labels, rec, time.Since(began)) }()
		next.ServeHTTP(rec, r)
		if c.Logger.Enabled(r.Context(), slog.LevelDebug) {
			c.Logger.Debug("request served", "verb", info.Verb, "uri", r.URL.RequestURI(), "code", rec.code,
				"took", time.Since(began), "agent", r.UserAgent(), "client", r.RemoteAddr, "audit", request.AuditID(r.Context()))
		}
	})
}

func (m *Metrics) observe(r *http.Request, info *request.Info, labels []string, rec *recorder, took time.Duration) {
	code := rec.code
	if code == 0 {
		code = http.StatusOK
	}
	if code == http.StatusNotFound && !info.IsResource {
		return // paths that do not exist must not grow the number of series
	}
	withDryRun := make([]string, 0, len(labels)+2)
	withDryRun = append(withDryRun, labels[0], dryRun(r))
	withDryRun = append(withDryRun, labels[1:]...)
	m.total.WithLabelValues(append(withDryRun[:len(withDryRun):len(withDryRun)], strconv.Itoa(code))...).Inc()
	if info.LongRunning() {
		return
	}
	m.duration.WithLabelValues(withDryRun...).Observe(took.Seconds())
	m.sli.WithLabelValues(labels...).Observe(took.Seconds())
	if info.Verb == "get" || info.Verb == "list" {
		m.sizes.WithLabelValues(labels...).Observe(float64(rec.bytes))
	}
}

func dryRun(r *http.Request) string {
	if !strings.Contains(r.URL.RawQuery, "dryRun") {
		return ""
	}
	return strings.Join(r.URL.Query()["dryRun"], ",")
}

// endpoint returns the values of endpointLabels.
func endpoint(i *request.Info) []string {
	if !i.IsResource {
		return []string{strings.ToUpper(i.Verb), "", "", "", firstSegment(i.Path), "", "apiserver"}
	}
	return []string{verbLabel(i.Verb), i.Group, i.Version, i.Resource, i.Subresource, scope(i), "apiserver"}
}

// firstSegment keeps the number of series of non-resource paths small.
func firstSegment(path string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return "/" + first
}

// verbLabel spells verbs as upstream's metrics do.
func verbLabel(verb string) string {
	switch verb {
	case "create":
		return "POST"
	case "update":
		return "PUT"
	}
	return strings.ToUpper(verb)
}

func scope(i *request.Info) string {
	switch {
	case i.Name != "":
		return "resource"
	case i.Namespace != "":
		return "namespace"
	}
	return "cluster"
}

package filter

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/skeg-dev/skeg/apiserver/request"
)

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

package component

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthText(t *testing.T) {
	h := NewHealth(
		Check{Name: "etcd", Live: true, Probe: func(context.Context) error { return nil }},
		Check{Name: "informers", Probe: func(context.Context) error { return errors.New("secret reason") }},
	)
	mux := http.NewServeMux()
	h.Install(mux)
	for path, want := range map[string]struct {
		code int
		body string
	}{
		"/livez":                               {200, "ok"},
		"/livez?verbose":                       {200, "[+]ping ok\n[+]etcd ok\nlivez check passed\n"},
		"/livez/etcd":                          {200, "ok"},
		"/livez/informers":                     {404, "404 page not found\n"},
		"/readyz":                              {500, "[+]ping ok\n[+]etcd ok\n[-]informers failed: reason withheld\n[+]shutdown ok\nreadyz check failed\n"},
		"/readyz?exclude=informers":            {200, "ok"},
		"/readyz?exclude=informers&verbose=1":  {200, "[+]ping ok\n[+]etcd ok\n[+]informers excluded: ok\n[+]shutdown ok\nreadyz check passed\n"},
		"/readyz?exclude=informers,x&verbose=": {200, "[+]ping ok\n[+]etcd ok\n[+]informers excluded: ok\n[+]shutdown ok\nwarn: some health checks cannot be excluded: no matches for \"x\"\nreadyz check passed\n"},
		"/readyz/informers":                    {500, "internal server error: secret reason\n"},
	} {
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		if rec.Code != want.code || rec.Body.String() != want.body {
			t.Errorf("%s: %d %q, want %d %q", path, rec.Code, rec.Body, want.code, want.body)
		}
	}
	h.Add(Check{Name: "informers", Probe: func(context.Context) error { return nil }})
	if err := h.Ready(t.Context()); err != nil {
		t.Errorf("Ready: %v", err)
	}
	h.Drain()
	if h.Ready(t.Context()) == nil || h.Live(t.Context()) != nil {
		t.Error("draining must fail readyz only")
	}
}

func TestMetrics(t *testing.T) {
	rec := httptest.NewRecorder()
	MetricsHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body, err := io.ReadAll(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"go_goroutines", "process_start_time_seconds", `kubernetes_build_info{`, Version} {
		if !strings.Contains(string(body), want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

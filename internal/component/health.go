package component

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Check is one named question about the process's health.
type Check struct {
	// Name appears in ?verbose and as path, e.g. /readyz/etcd.
	Name string
	// Probe returns nil when all is well. It must be quick: it runs on each
	// request for a health path.
	Probe func(ctx context.Context) error
	// Live puts the check into /livez as well: a failure then means that only
	// a restart helps. All checks are in /readyz and /healthz.
	Live bool
}

// Health answers /livez, /readyz and /healthz in upstream's text format
// (kubernetes.io, "Kubernetes API health endpoints"). The zero value is ready
// to use and has the checks "ping" and, for readyz, "shutdown". All methods
// are safe for concurrent use.
type Health struct {
	mu       sync.RWMutex // guards checks
	checks   []Check
	stopping atomic.Bool
}

// NewHealth returns a Health with the given checks beside the built-in ones.
func NewHealth(checks ...Check) *Health {
	h := &Health{}
	h.Add(checks...)
	return h
}

// Add appends checks; a name that is there already is replaced.
func (h *Health) Add(checks ...Check) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range checks {
		at := slices.IndexFunc(h.checks, func(old Check) bool { return old.Name == c.Name })
		if at >= 0 {
			h.checks[at] = c
			continue
		}
		h.checks = append(h.checks, c)
	}
}

// Drain makes readyz fail from now on, while livez stays as it is: load
// balancers then stop sending before the listener closes.
func (h *Health) Drain() { h.stopping.Store(true) }

// Live runs the liveness checks and returns the first failure.
func (h *Health) Live(ctx context.Context) error { return firstFailure(ctx, h.selected("livez")) }

// Ready runs the readiness checks and returns the first failure.
func (h *Health) Ready(ctx context.Context) error { return firstFailure(ctx, h.selected("readyz")) }

func firstFailure(ctx context.Context, checks []Check) error {
	for _, c := range checks {
		if err := c.Probe(ctx); err != nil {
			return fmt.Errorf("check %s: %w", c.Name, err)
		}
	}
	return nil
}

// Install registers the health paths.
func (h *Health) Install(mux *http.ServeMux) {
	for _, kind := range []string{"livez", "readyz", "healthz"} {
		handler := h.Handler(kind)
		mux.Handle("/"+kind, handler)
		mux.Handle("/"+kind+"/", handler)
	}
}

// Handler serves one of "livez", "readyz", "healthz" and the paths below it.
func (h *Health) Handler(kind string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Cache-Control", "no-cache, private")
		checks := h.selected(kind)
		if name := strings.Trim(strings.TrimPrefix(r.URL.Path, "/"+kind), "/"); name != "" {
			serveOne(w, r, checks, name)
			return
		}
		serveAll(w, r, kind, checks)
	})
}

// selected lists the checks of a kind in order: ping first, shutdown last.
func (h *Health) selected(kind string) []Check {
	h.mu.RLock()
	defer h.mu.RUnlock()
	checks := []Check{{Name: "ping", Live: true, Probe: func(context.Context) error { return nil }}}
	for _, c := range h.checks {
		if kind != "livez" || c.Live {
			checks = append(checks, c)
		}
	}
	if kind == "readyz" {
		checks = append(checks, Check{Name: "shutdown", Probe: func(context.Context) error {
			if h.stopping.Load() {
				return fmt.Errorf("process is shutting down")
			}
			return nil
		}})
	}
	return checks
}

func serveOne(w http.ResponseWriter, r *http.Request, checks []Check, name string) {
	at := slices.IndexFunc(checks, func(c Check) bool { return c.Name == name })
	if at < 0 {
		http.NotFound(w, r)
		return
	}
	if err := checks[at].Probe(r.Context()); err != nil {
		http.Error(w, fmt.Sprintf("internal server error: %v", err), http.StatusInternalServerError)
		return
	}
	plain(w, "ok")
}

func serveAll(w http.ResponseWriter, r *http.Request, kind string, checks []Check) {
	excluded := excludedNames(r)
	lines := &strings.Builder{}
	var failed []string
	for _, c := range checks {
		if _, ok := excluded[c.Name]; ok {
			excluded[c.Name] = true
			fmt.Fprintf(lines, "[+]%s excluded: ok\n", c.Name)
			continue
		}
		if err := c.Probe(r.Context()); err != nil {
			// The reason may say more than a stranger should read.
			fmt.Fprintf(lines, "[-]%s failed: reason withheld\n", c.Name)
			failed = append(failed, c.Name)
			slog.Warn("health check failed", "path", kind, "check", c.Name, "err", err)
			continue
		}
		fmt.Fprintf(lines, "[+]%s ok\n", c.Name)
	}
	if unknown := unmatched(excluded); len(unknown) > 0 {
		fmt.Fprintf(lines, "warn: some health checks cannot be excluded: no matches for %s\n", strings.Join(unknown, ", "))
	}
	_, verbose := r.URL.Query()["verbose"]
	switch {
	case len(failed) > 0:
		http.Error(w, fmt.Sprintf("%s%s check failed", lines, kind), http.StatusInternalServerError)
	case verbose:
		plain(w, fmt.Sprintf("%s%s check passed\n", lines, kind))
	default:
		plain(w, "ok")
	}
}

func plain(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write([]byte(text)) // the client went away: nobody is left to tell
}

// excludedNames maps each name of ?exclude= to whether a check had it.
func excludedNames(r *http.Request) map[string]bool {
	excluded := map[string]bool{}
	for _, value := range r.URL.Query()["exclude"] {
		for name := range strings.SplitSeq(value, ",") {
			if name != "" {
				excluded[name] = false
			}
		}
	}
	return excluded
}

func unmatched(excluded map[string]bool) []string {
	var names []string
	for name, matched := range excluded {
		if !matched {
			names = append(names, fmt.Sprintf("%q", name))
		}
	}
	slices.Sort(names)
	return names
}

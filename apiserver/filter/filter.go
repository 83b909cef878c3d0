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

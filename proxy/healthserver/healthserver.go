// Package healthserver answers load balancers on the healthCheckNodePort of
// Services with traffic policy Local: 200 when this node has endpoints, 503
// when it has none. App hands it the rules after each sync. One goroutine per
// open port, ended by Close or when the Service goes.
package healthserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// Server holds the listeners. Use New. All methods are safe for concurrent use.
type Server struct {
	logger *slog.Logger

	mu    sync.Mutex // guards ports
	ports map[uint16]*port
}

type port struct {
	http *http.Server

	mu    sync.Mutex // guards check
	check ruleset.HealthCheck
}

// New makes a server without ports.
func New(logger *slog.Logger) *Server {
	return &Server{logger: logger, ports: map[uint16]*port{}}
}

// Sync opens, updates and closes ports, so that they are those of checks. A
// port that cannot be opened is tried again at the next call.
func (s *Server) Sync(checks []ruleset.HealthCheck) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	wanted := map[uint16]bool{}
	for _, c := range checks {
		wanted[c.Port] = true
		if p, open := s.ports[c.Port]; open {
			p.set(c)
			continue
		}
		p, err := s.open(c)
		if err != nil {
			errs = append(errs, fmt.Errorf("health check of service %s: %w", c.Service, err))
			continue
		}
		s.ports[c.Port] = p
	}
	for number, p := range s.ports {
		if !wanted[number] {
			errs = append(errs, p.http.Close())
			delete(s.ports, number)
		}
	}
	return errors.Join(errs...)
}

// Close closes all ports.
func (s *Server) Close() error { return s.Sync(nil) }

func (s *Server) open(c ruleset.HealthCheck) (*port, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(int(c.Port))))
	if err != nil {
		return nil, err
	}
	p := &port{check: c}
	p.http = &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	go func() {
		if err := p.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.logger.Error("serve health check", "service", c.Service, "port", c.Port, "error", err)
		}
	}()
	return p, nil
}

func (p *port) set(c ruleset.HealthCheck) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.check = c
}

// ServeHTTP answers in upstream kube-proxy's form.
func (p *port) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	c := p.check
	p.mu.Unlock()
	namespace, name, _ := strings.Cut(c.Service, "/")
	body, err := json.Marshal(map[string]any{
		"service":             map[string]string{"namespace": namespace, "name": name},
		"localEndpoints":      c.LocalEndpoints,
		"serviceProxyHealthy": true,
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(c.LocalEndpoints))
	if c.LocalEndpoints == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(append(body, '\n')) // the client is gone: nothing to do
}

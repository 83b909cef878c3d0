package component

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	// headerTimeout bounds how long a client may take to send its headers, so
	// that slow ones cannot hold connections for nothing.
	headerTimeout = 32 * time.Second
	// idleTimeout closes connections that nobody uses.
	idleTimeout = 90 * time.Second
	// maxHeaderBytes is Go's default, spelled out because it is a limit.
	maxHeaderBytes = 1 << 20
	// drainTimeout bounds how long a stop waits for running requests.
	drainTimeout = 10 * time.Second
)

// ServerConfig describes one listener.
type ServerConfig struct {
	// Name is for logs.
	Name string
	// Address and Port to listen on; Port 0 takes a free one. Listener, when
	// not nil, is used instead of both.
	Address  string
	Port     int
	Listener net.Listener
	// TLS; nil serves plain HTTP, which is for loopback only.
	TLS *tls.Config
	// Handler serves what the paths below do not; may be nil.
	Handler http.Handler
	// Health serves /livez, /readyz and /healthz; may be nil.
	Health *Health
	// Metrics serves /metrics.
	Metrics bool
	// Profiling serves /debug/pprof/.
	Profiling bool
	// Auth guards everything; nil lets everybody in, which is for loopback only.
	Auth *Delegation
	// Logger; nil means slog.Default().
	Logger *slog.Logger
}

// Server is a listener as a Runnable with Ready.
type Server struct {
	config ServerConfig

	mu       sync.Mutex // guards listener
	listener net.Listener
}

// NewServer returns a Server; it listens from Run on.
func NewServer(config ServerConfig) *Server {
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	return &Server{config: config}
}

// Ready returns nil once the socket accepts connections.
func (s *Server) Ready() error {
	if s.Addr() == nil {
		return errors.New("not listening yet")
	}
	return nil
}

// Addr is where it listens, nil before Run.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Run serves until ctx ends, then lets running requests finish for a while.
func (s *Server) Run(ctx context.Context) error {
	listener := s.config.Listener
	if listener == nil {
		var listen net.ListenConfig
		var err error
		listener, err = listen.Listen(ctx, "tcp", net.JoinHostPort(s.config.Address, strconv.Itoa(s.config.Port)))
		if err != nil {
			return fmt.Errorf("listen for %s: %w", s.config.Name, err)
		}
	}
	server := &http.Server{
		Handler:           s.handler(),
		TLSConfig:         s.tlsConfig(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ErrorLog:          log.New(errorLog{s.config.Logger}, "", 0),
	}
	s.mu.Lock()
	s.listener = listener
	s.mu.Unlock()
	s.config.Logger.Info("listening", "server", s.config.Name, "address", listener.Addr().String(), "tls", server.TLSConfig != nil)
	served := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			served <- server.ServeTLS(listener, "", "")
		} else {
			served <- server.Serve(listener)
		}
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", s.config.Name, err)
	case <-ctx.Done():
	}
	return shutdown(ctx, server)
}

func shutdown(ctx context.Context, server *http.Server) error {
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := server.Shutdown(draining)
	if errors.Is(err, context.DeadlineExceeded) {
		return server.Close() // what still runs are streams; their clients reconnect
	}
	return err
}

func (s *Server) tlsConfig() *tls.Config {
	if s.config.TLS == nil {
		return nil
	}
	config := s.config.TLS.Clone()
	if s.config.Auth != nil && config.ClientAuth == tls.NoClientCert {
		config.ClientAuth = tls.RequestClientCert // Delegation verifies it
	}
	return config
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	if s.config.Health != nil {
		s.config.Health.Install(mux)
	}
	if s.config.Metrics {
		mux.Handle("/metrics", MetricsHandler())
	}
	if s.config.Profiling {
		InstallProfiling(mux, false)
	}
	if s.config.Handler != nil {
		mux.Handle("/", s.config.Handler)
	}
	if s.config.Auth != nil {
		return s.config.Auth.Wrap(mux)
	}
	return mux
}

// errorLog sends net/http's complaints (failed handshakes and the like, each
// some stranger's doing) to the debug log.
type errorLog struct{ logger *slog.Logger }

// Write logs one line.
func (l errorLog) Write(line []byte) (int, error) {
	l.logger.Debug("http server", "message", string(line))
	return len(line), nil
}

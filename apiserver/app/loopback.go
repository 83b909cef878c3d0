package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/skeg-dev/skeg/internal/component"
)

// loopback lets the server be its own client without the network: a listener
// whose connections are pipes in memory, and a token only this process knows.
type loopback struct {
	token  string
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newLoopback() *loopback {
	return &loopback{token: rand.Text(), conns: make(chan net.Conn), closed: make(chan struct{})}
}

// config is the client's side, a member of system:masters.
func (l *loopback) config() *rest.Config {
	return &rest.Config{
		Host: "http://loopback", BearerToken: l.token, Dial: l.dial, QPS: -1,
		UserAgent:     component.UserAgent("apiserver"),
		ContentConfig: rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf"},
	}
}

func (l *loopback) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, errors.New("dial loopback: closed")
	case <-ctx.Done():
		return nil, fmt.Errorf("dial loopback: %w", ctx.Err())
	}
}

// Accept implements net.Listener.
func (l *loopback) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *loopback) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *loopback) Addr() net.Addr { return loopbackAddr{} }

type loopbackAddr struct{}

// Network implements net.Addr.
func (loopbackAddr) Network() string { return "pipe" }

// String implements net.Addr.
func (loopbackAddr) String() string { return "loopback" }

// serve returns the part that answers the loopback client.
func (l *loopback) serve(h http.Handler, logger *slog.Logger) component.Runnable {
	return component.RunFunc(func(ctx context.Context) error {
		server := &http.Server{
			Handler: h, ReadHeaderTimeout: time.Minute,
			BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		}
		stopped := context.AfterFunc(ctx, func() {
			if err := server.Close(); err != nil {
				logger.Warn("loopback not closed cleanly", "err", err)
			}
		})
		defer stopped()
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve loopback: %w", err)
		}
		return nil
	})
}

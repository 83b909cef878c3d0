package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/skeg-dev/skeg/apiserver/etcdserver"
	"github.com/skeg-dev/skeg/internal/component"
)

// database is an etcd: one in this process, or a connection to another.
type database interface {
	component.Runnable
	Ready() error
	// Client is not nil once Ready returns nil.
	Client() *etcdserver.Client
}

func newDatabase(o *Options, logger *slog.Logger) database {
	if len(o.Etcd.Servers) == 0 {
		return etcdserver.New(etcdserver.Config{
			DataDir: o.Etcd.DataDir, UnsafeNoFsync: o.Etcd.UnsafeNoFsync, Logger: logger,
		})
	}
	return &remote{config: etcdserver.DialConfig{
		Endpoints: o.Etcd.Servers, Logger: logger,
		TLS: etcdserver.TLSFiles{CertFile: o.Etcd.CertFile, KeyFile: o.Etcd.KeyFile, CAFile: o.Etcd.CAFile},
	}}
}

// remote is somebody else's etcd.
type remote struct {
	config etcdserver.DialConfig
	mu     sync.Mutex // guards client
	client *etcdserver.Client
}

// Run connects, and disconnects when ctx ends.
func (r *remote) Run(ctx context.Context) error {
	client, err := etcdserver.Dial(r.config)
	if err != nil {
		return fmt.Errorf("connect to etcd: %w", err)
	}
	r.mu.Lock()
	r.client = client
	r.mu.Unlock()
	<-ctx.Done()
	if err := client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("disconnect from etcd: %w", err)
	}
	return nil
}

// Client implements database.
func (r *remote) Client() *etcdserver.Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.client
}

// Ready implements database. Whether etcd answers is for /readyz to say.
func (r *remote) Ready() error {
	if r.Client() == nil {
		return errors.New("not connected to etcd yet")
	}
	return nil
}

// late is a group that can be built only when the parts before it are ready.
type late struct {
	build func() (*component.Group, error)
	group atomic.Pointer[component.Group]
}

// Run builds the group and runs it.
func (l *late) Run(ctx context.Context) error {
	group, err := l.build()
	if err != nil {
		return err
	}
	l.group.Store(group)
	return group.Run(ctx) //nolint:wrapcheck // names the part
}

// Ready implements component's Ready.
func (l *late) Ready() error {
	group := l.group.Load()
	if group == nil {
		return errors.New("not built yet")
	}
	return group.Ready() //nolint:wrapcheck // says what
}

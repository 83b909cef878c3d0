package etcdserver

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skeg-dev/skeg/internal/testkit"
)

// start runs a server until the returned function stops it.
func start(t *testing.T, config Config) (*Server, func()) {
	t.Helper()
	config.Logger, _ = testkit.NewLogger(t)
	s := New(config)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	select {
	case <-s.Started():
	case err := <-done:
		t.Fatalf("run: %v", err)
	}
	t.Cleanup(stop)
	return s, stop
}

func TestDataSurvivesARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	first, stop := start(t, Config{DataDir: dir})
	if err := first.Ready(); err != nil {
		t.Fatal(err)
	}
	put, err := first.Client().Put(t.Context(), "/registry/a", "1")
	if err != nil {
		t.Fatal(err)
	}
	stop()
	second, _ := start(t, Config{DataDir: dir})
	got, err := second.Client().Get(t.Context(), "/registry/a")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "1" || got.Kvs[0].ModRevision != put.Header.Revision {
		t.Fatalf("after a restart: %+v, %v", got, err)
	}
	if err := Check(t.Context(), second.Client()); err != nil {
		t.Fatal(err)
	}
}

func TestNotReadyBeforeRun(t *testing.T) {
	s := New(Config{DataDir: t.TempDir()})
	if s.Ready() == nil || s.Client() != nil {
		t.Fatal("ready without running")
	}
	if err := Check(t.Context(), s.Client()); err == nil {
		t.Fatal("healthy without running")
	}
}

func TestNoDataDirectory(t *testing.T) {
	if err := New(Config{}).Run(t.Context()); err == nil {
		t.Fatal("no error")
	}
}

func TestClientsFromOutside(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	s, _ := start(t, Config{DataDir: t.TempDir(), UnsafeNoFsync: true, ListenClientURL: "unix://" + socket})
	outside, err := Dial(DialConfig{Endpoints: []string{"unix://" + socket}})
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	if _, err := outside.Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	got, err := s.Client().Get(t.Context(), "k")
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
}

// TestStopEndsWatches: nothing of the in-process client blocks the stop.
func TestStopEndsWatches(t *testing.T) {
	s, stop := start(t, Config{DataDir: t.TempDir(), UnsafeNoFsync: true})
	events := s.Client().Watch(t.Context(), "", clientv3.WithPrefix())
	lease, err := s.Client().Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Client().Put(t.Context(), "k", "v", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	<-events
	stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		select {
		case _, ok := <-events:
			if !ok {
				return
			}
		case <-ctx.Done():
			t.Fatal("the watch did not end")
		}
	}
}

func TestDialNeedsEndpoints(t *testing.T) {
	if _, err := Dial(DialConfig{}); err == nil {
		t.Fatal("no error")
	}
	if _, err := Dial(DialConfig{Endpoints: []string{"https://127.0.0.1:1"}, TLS: TLSFiles{CertFile: "/nowhere", KeyFile: "/nowhere"}}); err == nil {
		t.Fatal("missing TLS files are no error")
	}
}

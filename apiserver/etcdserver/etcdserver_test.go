package etcdserver

import (
	"context"
	"testing"
)

func start(t *testing.T, dir string) (*Server, func()) {
	t.Helper()
	s, err := New(t.Context(), Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestDataOutlivesARestart(t *testing.T) {
	dir := t.TempDir()
	s, stop := start(t, dir)
	if err := s.Ready(); err != nil {
		t.Error(err)
	}
	if _, err := s.Client().Put(t.Context(), "/a", "b"); err != nil {
		t.Fatal(err)
	}
	stop()
	s, stop = start(t, dir)
	defer stop()
	resp, err := s.Client().Get(t.Context(), "/a")
	if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != "b" {
		t.Errorf("after a restart: %v, %v", resp, err)
	}
}

func TestClientListenerServesOthers(t *testing.T) {
	s, err := New(t.Context(), Config{DataDir: t.TempDir(), ListenClient: "http://127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.etcd.Clients); n != 1 {
		t.Errorf("%d client listeners", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestNoDirectoryIsAnError(t *testing.T) {
	if _, err := New(t.Context(), Config{}); err == nil {
		t.Error("started without a directory")
	}
}

// Package etcdtest starts an embedded etcd for a test or benchmark, in a
// temporary directory, and stops it at its end. Called only by tests.
// Goroutines: etcd's, until the test ends.
package etcdtest

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/skeg-dev/skeg/apiserver/etcdserver"
	"github.com/skeg-dev/skeg/internal/testkit"
)

// Start returns a running server. Without fsync it is fast and not durable,
// which is what a test wants and a benchmark does not.
func Start(t testing.TB, fsync bool) *etcdserver.Server {
	t.Helper()
	logger, _ := testkit.NewLogger(t)
	s := etcdserver.New(etcdserver.Config{DataDir: filepath.Join(t.TempDir(), "etcd"), UnsafeNoFsync: !fsync, Logger: logger})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Started():
	case err := <-done:
		cancel()
		t.Fatalf("run etcd: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run etcd: %v", err)
		}
	})
	return s
}

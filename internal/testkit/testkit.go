// Package testkit is what tests of several components share: waiting for
// something to become true, builders of API objects, a gate for tests that
// need root, and a log that can be read back. Called only by tests; it starts
// no goroutines.
package testkit

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience is how long Eventually waits: long, because it costs nothing when
// all goes well, and test machines are loaded.
const Patience = 60 * time.Second

const pause = 10 * time.Millisecond

// Eventually waits until check returns nil and fails the test with its last
// error when that does not happen within Patience.
func Eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s: %v", what, err)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("waiting for %s: %v", what, err)
		case <-ticker.C:
		}
	}
}

// RequireRoot skips the test, saying why, unless it runs as root.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes namespaces, mounts or links; run `sudo -E go test`")
	}
}

// Log is a slog handler's output that a test can read back. Safe for
// concurrent use.
type Log struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

// Write appends.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String returns everything written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Contains reports whether text was written.
func (l *Log) Contains(text string) bool { return strings.Contains(l.String(), text) }

// NewLogger returns a logger down to Debug and the Log behind it; the log is
// printed when the test fails.
func NewLogger(t testing.TB) (*slog.Logger, *Log) {
	l := &Log{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", l.String())
		}
	})
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})), l
}

package lifecycle

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// logWriter stands for the runtime: it writes to the path it opened last.
type logWriter struct {
	container.Sandboxes
	path     string
	reopened int
}

func (w *logWriter) ListSandboxes(context.Context) ([]container.Sandbox, error) {
	id := container.ID{Pod: types.UID("u"), Name: "c"}
	return []container.Sandbox{{Containers: []container.Status{{ID: id, State: container.Running, LogPath: w.path}}}}, nil
}

func (w *logWriter) ReopenLog(context.Context, container.ID) error {
	w.reopened++
	return os.WriteFile(w.path, nil, 0o640)
}

func TestLogRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writer := &logWriter{path: filepath.Join(dir, "0.log")}
	now := testclock.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	rotation := &LogRotation{
		Runtime: writer, Reopener: writer, MaxBytes: 10, MaxFiles: 3, Clock: now, Logger: slog.New(slog.DiscardHandler),
	}
	for i := range 5 {
		if err := os.WriteFile(writer.path, []byte(strings.Repeat("x", 20)), 0o640); err != nil {
			t.Fatal(err)
		}
		now.Step(time.Minute)
		if err := rotation.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if writer.reopened != i+1 {
			t.Fatalf("reopened %d times after %d rotations", writer.reopened, i+1)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	want := "0.log 0.log.20260101-000400.gz 0.log.20260101-000500"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("files %q, want %q", got, want)
	}
	if err := rotation.sweep(t.Context()); err != nil || writer.reopened != 5 {
		t.Errorf("a small log was rotated: %d, %v", writer.reopened, err)
	}
}

package lifecycle

import (
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// LogRotation keeps containers' logs from filling the disk: a log that has
// grown too large is renamed, older ones are compressed, the oldest removed.
//
//	<attempt>.log                          being written
//	<attempt>.log.<YYYYMMDD-hhmmss>        the one before, still read by "logs"
//	<attempt>.log.<YYYYMMDD-hhmmss>.gz     older ones
type LogRotation struct {
	Runtime container.Sandboxes
	// Reopener has the runtime write to a new file; required.
	Reopener container.LogReopener
	// MaxBytes is the size at which a log is rotated, MaxFiles how many are kept.
	MaxBytes int64
	MaxFiles int
	Clock    clock.WithTicker
	Logger   *slog.Logger
}

// rotationInterval is upstream's containerLogMonitorInterval.
const rotationInterval = 10 * time.Second

// Run looks at all logs until ctx ends.
func (r *LogRotation) Run(ctx context.Context) error {
	ticker := r.Clock.NewTicker(rotationInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
		if err := r.sweep(ctx); err != nil && ctx.Err() == nil {
			r.Logger.Warn("rotating logs", "error", err)
		}
	}
}

func (r *LogRotation) sweep(ctx context.Context) error {
	sandboxes, err := r.Runtime.ListSandboxes(ctx)
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	var errs []error
	for _, sandbox := range sandboxes {
		for _, status := range sandbox.Containers {
			if status.State != container.Running || status.LogPath == "" {
				continue
			}
			info, err := os.Stat(status.LogPath)
			if errors.Is(err, fs.ErrNotExist) {
				// A rotation was cut short between renaming and reopening.
				errs = append(errs, r.Reopener.ReopenLog(ctx, status.ID))
				continue
			}
			if err == nil && info.Size() > r.MaxBytes {
				err = r.rotate(ctx, status.ID, status.LogPath)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (r *LogRotation) rotate(ctx context.Context, id container.ID, path string) error {
	if err := r.shrink(path); err != nil {
		return err
	}
	rotated := path + "." + r.Clock.Now().UTC().Format("20060102-150405")
	if err := os.Rename(path, rotated); err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	if err := r.Reopener.ReopenLog(ctx, id); err != nil {
		return fmt.Errorf("reopen log: %w", errors.Join(err, os.Rename(rotated, path)))
	}
	return nil
}

// shrink compresses the rotated logs and removes all but the newest that may
// stay beside the one in use and the one about to be rotated.
func (r *LogRotation) shrink(path string) error {
	old, err := filepath.Glob(path + ".*")
	if err != nil {
		return fmt.Errorf("list rotated logs: %w", err)
	}
	slices.SortFunc(old, func(a, b string) int { return cmp.Compare(b, a) })
	kept := 0
	for _, file := range old {
		switch {
		case strings.HasSuffix(file, ".tmp") || kept >= r.MaxFiles-2:
			if err := os.Remove(file); err != nil {
				return fmt.Errorf("remove old log: %w", err)
			}
		case strings.HasSuffix(file, ".gz"):
			kept++
		default:
			if err := compress(file); err != nil {
				return fmt.Errorf("compress old log: %w", err)
			}
			kept++
		}
	}
	return nil
}

// compress replaces a file by its .gz; one left by a crash is made anew.
func compress(path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	temporary := path + ".tmp"
	out, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	zipped := gzip.NewWriter(out)
	_, err = io.Copy(zipped, in)
	if err = errors.Join(err, zipped.Close(), out.Sync(), out.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, path+".gz"); err != nil {
		return err
	}
	return os.Remove(path)
}

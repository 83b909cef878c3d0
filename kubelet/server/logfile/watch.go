//go:build linux

package logfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// watch tells of changes in a log's directory: writes, and new files after
// rotation.
type watch struct {
	file   *os.File
	events chan struct{} // of size 1
	done   chan struct{}
}

func newWatch(path string) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch log: %w", err)
	}
	w := &watch{file: os.NewFile(uintptr(fd), "inotify"), events: make(chan struct{}, 1), done: make(chan struct{})}
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		return nil, fmt.Errorf("watch log: %w", errors.Join(err, w.file.Close()))
	}
	go w.run()
	return w, nil
}

// run ends when the file is closed.
func (w *watch) run() {
	defer close(w.done)
	// Events are read to empty the queue; which ones they were does not matter.
	buf := make([]byte, 4096)
	for {
		if _, err := w.file.Read(buf); err != nil {
			return
		}
		select {
		case w.events <- struct{}{}:
		default:
		}
	}
}

func (w *watch) close() {
	_ = w.file.Close() // nothing is written to it
	<-w.done
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxLogLine is where a longer line is split, as containerd does; readers of
// the format put the parts together by the P and F tags.
const maxLogLine = 16 << 10

// logFile is a container's log in the CRI format, a line an entry:
//
//	2026-11-23T05:00:00.123456789Z stdout F the line
//
// with P instead of F for a part that the next entry of the stream continues.
type logFile struct {
	path string
	mu   sync.Mutex // guards all below
	file *os.File
	out  bytes.Buffer
	bad  bool // the last write failed; said once
}

func openLog(path string) (*logFile, error) {
	l := &logFile{path: path}
	if path == "" {
		return l, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("create log directory: %w", err)
	}
	return l, l.reopen()
}

// reopen opens the path again, after a rotation has renamed the file.
func (l *logFile) reopen() error {
	if l.path == "" {
		return nil
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	l.mu.Lock()
	old := l.file
	l.file = f
	l.mu.Unlock()
	if old == nil {
		return nil
	}
	if err := old.Close(); err != nil {
		return fmt.Errorf("close rotated log: %w", err)
	}
	return nil
}

// logStream is one of a container's streams on its way into the log.
type logStream struct {
	log     *logFile
	name    string // "stdout", "stderr"
	pending []byte // an unfinished line, shorter than maxLogLine
}

// write appends output; it never fails: a log that cannot be written must not
// stop the container. What the disk does not take is lost, and the shim's log
// says so.
func (s *logStream) write(chunk []byte) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	now := time.Now().UTC()
	for len(chunk) > 0 {
		end := bytes.IndexByte(chunk, '\n')
		room := maxLogLine - len(s.pending)
		switch {
		case end >= 0 && end <= room:
			s.entry(now, 'F', chunk[:end])
			chunk = chunk[end+1:]
		case len(chunk) >= room:
			s.entry(now, 'P', chunk[:room])
			chunk = chunk[room:]
		default:
			s.pending = append(s.pending, chunk...)
			chunk = nil
		}
	}
	s.log.flush()
}

// end writes a last line that has no newline.
func (s *logStream) end() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if len(s.pending) > 0 {
		s.entry(time.Now().UTC(), 'F', nil)
		s.log.flush()
	}
}

func (s *logStream) entry(at time.Time, tag byte, rest []byte) {
	b := s.log.out.AvailableBuffer()
	b = at.AppendFormat(b, time.RFC3339Nano)
	b = append(append(append(b, ' '), s.name...), ' ', tag, ' ')
	b = append(append(append(b, s.pending...), rest...), '\n')
	s.log.out.Write(b)
	s.pending = s.pending[:0]
}

// flush hands the entries to the kernel. Called with mu held.
func (l *logFile) flush() {
	defer func() {
		l.out.Reset()
		if l.out.Cap() > 4*maxLogLine {
			l.out = bytes.Buffer{}
		}
	}()
	if l.file == nil {
		return
	}
	_, err := l.file.Write(l.out.Bytes())
	if err != nil && !l.bad {
		slog.Error("container output is lost", "log", l.path, "error", err)
	}
	l.bad = err != nil
}

func (l *logFile) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	if err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}

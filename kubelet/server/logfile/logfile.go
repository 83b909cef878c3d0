//go:build linux

// Package logfile reads container logs in the CRI format, the way "logs" wants
// them: from the end, since a time, with or without timestamps, and following
// what is written, across rotation, without polling. kubelet/server calls it.
// Goroutines: one per followed log, while Read runs.
//
// Each line of a log file is
//
//	2026-11-23T10:00:00.123456789Z stdout F text
//
// where the third field is P for a part of a line that goes on in the next.
package logfile

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Options say what of a log to read. Negative numbers mean all.
type Options struct {
	// Tail is how many lines from the end.
	Tail int64
	// Since leaves out what is older; zero does not.
	Since time.Time
	// Limit is how many bytes to return at most.
	Limit int64
	// Timestamps puts the time before each line.
	Timestamps bool
	// Stream is "stdout" or "stderr"; "" is both.
	Stream string
	// Follow goes on until the channel is closed; nil reads what is there.
	// Close it when the container has ended and its output is written.
	Follow <-chan struct{}
}

// errLimit ends reading at Options.Limit.
var errLimit = errors.New("limit reached")

// Read writes the log at path to w. It returns nil at the end, or when ctx
// ends; a log that does not exist is os.ErrNotExist.
func Read(ctx context.Context, path string, options Options, w io.Writer) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	r := &reader{path: path, file: file, options: options, out: w, left: options.Limit}
	defer func() { _ = r.file.Close() }() // read-only, nothing to lose
	var changes *watch
	if options.Follow != nil {
		// Before the first read, so that nothing written meanwhile is missed.
		if changes, err = newWatch(path); err != nil {
			return err
		}
		defer changes.close()
	}
	if err := seekTail(file, options.Tail); err != nil {
		return err
	}
	err = r.read(ctx, changes)
	if errors.Is(err, errLimit) || ctx.Err() != nil {
		return nil
	}
	return err
}

// reader is the state of one Read.
type reader struct {
	path    string
	file    *os.File
	options Options
	out     io.Writer
	left    int64
	pending []byte // a line that is not finished yet
	inLine  bool   // the last thing written was a part
}

func (r *reader) read(ctx context.Context, changes *watch) error {
	if changes == nil {
		if err := r.toEnd(); err != nil {
			return err
		}
		return r.flush()
	}
	ended := false
	for {
		if err := r.toEnd(); err != nil {
			return err
		}
		if rotated, err := r.rotate(); err != nil {
			return err
		} else if rotated {
			continue
		}
		if ended {
			return r.flush()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changes.events:
		case <-r.options.Follow:
			ended = true // one more look: it may have written before it ended
		}
	}
}

// toEnd handles all whole lines up to the end of the file.
func (r *reader) toEnd() error {
	in := bufio.NewReaderSize(r.file, 64<<10)
	for {
		part, err := in.ReadBytes('\n')
		r.pending = append(r.pending, part...)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		line := r.pending
		r.pending = nil
		if err := r.line(line); err != nil {
			return err
		}
	}
}

// flush handles a last line that was cut short.
func (r *reader) flush() error {
	if len(r.pending) == 0 {
		return nil
	}
	return r.line(append(r.pending, '\n'))
}

// rotate goes on with the new file once there is one. What was still written
// to the old one is read first: the writer has moved on by then.
func (r *reader) rotate() (bool, error) {
	next, err := os.Open(r.path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // between renaming and making the new one
	}
	if err != nil {
		return false, fmt.Errorf("open rotated log: %w", err)
	}
	same, err := sameFile(r.file, next)
	if err != nil || same {
		return false, errors.Join(err, next.Close())
	}
	if err := r.toEnd(); err != nil {
		return false, errors.Join(err, next.Close())
	}
	if err := r.file.Close(); err != nil {
		return false, errors.Join(err, next.Close())
	}
	r.file, r.pending = next, nil
	return true, nil
}

func sameFile(a, b *os.File) (bool, error) {
	infoA, err := a.Stat()
	if err != nil {
		return false, fmt.Errorf("stat log: %w", err)
	}
	infoB, err := b.Stat()
	if err != nil {
		return false, fmt.Errorf("stat log: %w", err)
	}
	return os.SameFile(infoA, infoB), nil
}

// line writes what is wanted of one line of the file.
func (r *reader) line(line []byte) error {
	stamp, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok {
		return nil // not of the format: a write that a crash cut short
	}
	stream, rest, ok := bytes.Cut(rest, []byte{' '})
	if !ok {
		return nil
	}
	tag, text, ok := bytes.Cut(rest, []byte{' '})
	if !ok {
		return nil
	}
	if r.options.Stream != "" && string(stream) != r.options.Stream {
		return nil
	}
	if !r.options.Since.IsZero() {
		at, err := time.Parse(time.RFC3339Nano, string(stamp))
		if err != nil || at.Before(r.options.Since) {
			return nil
		}
	}
	if r.options.Timestamps && !r.inLine {
		if err := r.write(append(append([]byte{}, stamp...), ' ')); err != nil {
			return err
		}
	}
	r.inLine = bytes.HasPrefix(tag, []byte{'P'})
	if r.inLine {
		text = bytes.TrimSuffix(text, []byte{'\n'})
	}
	return r.write(text)
}

func (r *reader) write(data []byte) error {
	limited := r.options.Limit >= 0
	if limited && int64(len(data)) > r.left {
		data = data[:r.left]
	}
	if _, err := r.out.Write(data); err != nil {
		return fmt.Errorf("send log: %w", err)
	}
	if limited {
		if r.left -= int64(len(data)); r.left == 0 {
			return errLimit
		}
	}
	return nil
}

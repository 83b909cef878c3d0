//go:build linux

package logfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skeg-dev/skeg/kubelet/server/logfile"
)

const sample = `2026-11-23T10:00:01.000000000Z stdout F one
2026-11-23T10:00:02.000000000Z stderr F two
2026-11-23T10:00:03.000000000Z stdout P three 
2026-11-23T10:00:03.000000001Z stdout F and a half
torn
2026-11-23T10:00:04.000000000Z stdout F four
`

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func all() logfile.Options { return logfile.Options{Tail: -1, Limit: -1} }

func TestRead(t *testing.T) {
	since, err := time.Parse(time.RFC3339, "2026-11-23T10:00:03Z")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*logfile.Options)
		want   string
	}{
		"all":        {func(*logfile.Options) {}, "one\ntwo\nthree and a half\nfour\n"},
		"timestamps": {func(o *logfile.Options) { o.Timestamps, o.Tail = true, 1 }, "2026-11-23T10:00:04.000000000Z four\n"},
		"parts have one timestamp": {func(o *logfile.Options) { o.Timestamps, o.Since, o.Limit = true, since, 48 },
			"2026-11-23T10:00:03.000000000Z three and a half\n"},
		"tail":          {func(o *logfile.Options) { o.Tail = 2 }, "four\n"},
		"tail of more":  {func(o *logfile.Options) { o.Tail = 100 }, "one\ntwo\nthree and a half\nfour\n"},
		"tail of none":  {func(o *logfile.Options) { o.Tail = 0 }, ""},
		"since":         {func(o *logfile.Options) { o.Since = since }, "three and a half\nfour\n"},
		"limit":         {func(o *logfile.Options) { o.Limit = 6 }, "one\ntw"},
		"limit of none": {func(o *logfile.Options) { o.Limit = 0 }, ""},
		"stderr":        {func(o *logfile.Options) { o.Stream = "stderr" }, "two\n"},
	} {
		t.Run(name, func(t *testing.T) {
			options := all()
			test.change(&options)
			var out bytes.Buffer
			if err := logfile.Read(t.Context(), write(t, sample), options, &out); err != nil {
				t.Fatal(err)
			}
			if out.String() != test.want {
				t.Errorf("got %q, want %q", out.String(), test.want)
			}
		})
	}
}

func TestLongTail(t *testing.T) {
	var content, want strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&content, "2026-11-23T10:00:01.000000000Z stdout F line %d\n", i)
		if i >= 5000-3000 {
			fmt.Fprintf(&want, "line %d\n", i)
		}
	}
	options := all()
	options.Tail = 3000
	var out bytes.Buffer
	if err := logfile.Read(t.Context(), write(t, content.String()), options, &out); err != nil {
		t.Fatal(err)
	}
	if out.String() != want.String() {
		t.Errorf("got %d bytes, want %d", out.Len(), want.Len())
	}
}

func TestMissing(t *testing.T) {
	if err := logfile.Read(t.Context(), "/nowhere/0.log", all(), &bytes.Buffer{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// sink collects output and tells of it.
type sink struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	wrote chan struct{}
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.wrote <- struct{}{}:
	default:
	}
	return s.buf.Write(p)
}

func (s *sink) await(t *testing.T, want string) {
	t.Helper()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	for {
		s.mu.Lock()
		got := s.buf.String()
		s.mu.Unlock()
		if got == want {
			return
		}
		select {
		case <-s.wrote:
		case <-late.C:
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

func TestFollowAcrossRotation(t *testing.T) {
	path := write(t, "2026-11-23T10:00:01Z stdout F one\n")
	ended := make(chan struct{})
	options := all()
	options.Follow = ended
	out := &sink{wrote: make(chan struct{}, 1)}
	done := make(chan error, 1)
	go func() { done <- logfile.Read(context.Background(), path, options, out) }()
	out.await(t, "one\n")

	log, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	put := func(text string) {
		t.Helper()
		if _, err := log.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	put("2026-11-23T10:00:02Z stdout F t")
	put("wo\n")
	out.await(t, "one\ntwo\n")

	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	put("2026-11-23T10:00:03Z stdout F three\n")
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if log, err = os.Create(path); err != nil {
		t.Fatal(err)
	}
	put("2026-11-23T10:00:04Z stdout F four\n")
	out.await(t, "one\ntwo\nthree\nfour\n")

	put("2026-11-23T10:00:05Z stdout F five\n")
	close(ended)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	out.await(t, "one\ntwo\nthree\nfour\nfive\n")
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
}

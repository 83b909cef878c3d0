package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/kubelet/container"
)

func TestSignalNumber(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{
		"SIGTERM": 15, "term": 15, "9": 9, "SIGRTMIN": 34, "RTMIN+3": 37, "SIGRTMAX-1": 63, "SIGQUIT": int(unix.SIGQUIT),
		"0": 0, "65": 0, "SIGNOPE": 0, "RTMIN+99": 0, "RTMIN-x": 0, "": 0,
	} {
		got, err := signalNumber(name)
		if int(got) != want || (err == nil) != (want != 0) {
			t.Errorf("signalNumber(%q) = %d, %v; want %d", name, got, err, want)
		}
	}
}

// logged is the log after chunks of output, each line as "tag:length".
func logged(t *testing.T, chunks ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dir", "log")
	l, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &logStream{log: l, name: "stdout"}
	for _, c := range chunks {
		s.write([]byte(c))
	}
	s.end()
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		out = append(out, fmt.Sprintf("%s:%d", f[2], len(f[3])))
	}
	return strings.Join(out, " ")
}

func TestLogLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", maxLogLine)
	for name, test := range map[string]struct {
		chunks []string
		want   string
	}{
		"nothing":            {nil, ""},
		"lines in a chunk":   {[]string{"one\n\nthree\n"}, "F:3 F:0 F:5"},
		"line over chunks":   {[]string{"on", "e\ntw", "o"}, "F:3 F:3"},
		"exactly full":       {[]string{long + "\n"}, "F:16384"},
		"full, newline late": {[]string{long, "\n"}, "P:16384 F:0"},
		"one too long":       {[]string{long + "b\n"}, "P:16384 F:1"},
		"two and a half":     {[]string{long + long + "half"}, "P:16384 P:16384 F:4"},
		"pending and full":   {[]string{"b", long}, "P:16384 F:1"},
	} {
		if got := logged(t, test.chunks...); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestHubKeepsTheLatest(t *testing.T) {
	t.Parallel()
	h := newHub()
	sub := h.subscribe()
	a, b := container.ID{Name: "a"}, container.ID{Name: "b"}
	for _, s := range []container.Status{{ID: a, State: container.Created}, {ID: b}, {ID: a, State: container.Exited}} {
		h.publish(s)
	}
	<-sub.wake
	if got := h.take(sub); len(got) != 2 || got[0].ID != a || got[0].State != container.Exited || got[1].ID != b {
		t.Errorf("pending %+v", got)
	}
	h.unsubscribe(sub)
	h.publish(container.Status{ID: a})
	if got := h.take(sub); len(got) != 0 {
		t.Errorf("after unsubscribing %+v", got)
	}
}

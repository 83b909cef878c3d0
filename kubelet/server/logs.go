package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/server/logfile"
)

// serveLogs answers with a container's log, of its newest attempt or with
// ?previous=true the one before.
func (s *Server) serveLogs(w http.ResponseWriter, r *http.Request) {
	pod := s.pod(w, r)
	if pod == nil {
		return
	}
	name := r.PathValue("container")
	if !hasContainer(pod, name) {
		http.Error(w, fmt.Sprintf("container %q not found in pod %q", name, pod.Name), http.StatusNotFound)
		return
	}
	options, err := logOptions(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	status, found, err := s.current(r.Context(), pod.UID, name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	previous := flag(r.URL.Query(), "previous")
	path, err := logPath(pod, name, status, found, previous)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if flag(r.URL.Query(), "follow") {
		options.Follow = s.untilExit(ctx, status.ID, previous)
	}
	w.Header().Set("Content-Type", "text/plain")
	out := &flushWriter{w: w}
	err = logfile.Read(ctx, path, options, out)
	switch {
	case err == nil:
		out.begin()
	case errors.Is(err, os.ErrNotExist):
		if !out.begun { // no output yet, or removed by the user
			out.begin()
		}
	case !out.begun:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		s.config.Log.Debug("log ended early", "path", path, "err", err)
	}
}

// logPath finds the file, or says in upstream's words why there is none.
func logPath(pod *corev1.Pod, name string, status container.Status, found, previous bool) (string, error) {
	if !found || (status.State == container.Created && !previous) {
		reason := "ContainerCreating"
		for _, list := range [][]corev1.ContainerStatus{
			pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses,
		} {
			for i := range list {
				if list[i].Name == name && list[i].State.Waiting != nil {
					reason = list[i].State.Waiting.Reason
				}
			}
		}
		if previous {
			return "", fmt.Errorf("previous terminated container %q in pod %q not found", name, pod.Name)
		}
		if reason == "ImagePullBackOff" || reason == "ErrImagePull" {
			return "", fmt.Errorf("container %q in pod %q is waiting to start: trying and failing to pull image", name, pod.Name)
		}
		return "", fmt.Errorf("container %q in pod %q is waiting to start: %s", name, pod.Name, reason)
	}
	if !previous {
		return status.LogPath, nil
	}
	// <attempt>.log, in the directory of the newest attempt's.
	before := filepath.Join(filepath.Dir(status.LogPath), strconv.Itoa(status.ID.Attempt-1)+".log")
	if _, err := os.Stat(before); err != nil {
		return "", fmt.Errorf("previous terminated container %q in pod %q not found", name, pod.Name)
	}
	return before, nil
}

// untilExit returns a channel that is closed when the container has ended,
// which for a previous attempt is at once.
func (s *Server) untilExit(ctx context.Context, id container.ID, previous bool) <-chan struct{} {
	ended := make(chan struct{})
	if previous {
		close(ended)
		return ended
	}
	events := s.config.Runtime.Subscribe(ctx)
	go func() {
		defer close(ended)
		for event := range events {
			if event.Full != nil && !runs(event.Full, id) {
				return
			}
			if event.Full == nil && event.Status.ID == id && event.Status.State == container.Exited {
				return
			}
		}
	}()
	return ended
}

func runs(sandboxes []container.Sandbox, id container.ID) bool {
	for _, sandbox := range sandboxes {
		for _, status := range sandbox.Containers {
			if status.ID == id {
				return status.State != container.Exited
			}
		}
	}
	return false
}

// logOptions reads the query, which has the fields of PodLogOptions.
func logOptions(query url.Values) (logfile.Options, error) {
	o := logfile.Options{Tail: -1, Limit: -1, Timestamps: flag(query, "timestamps")}
	for name, field := range map[string]*int64{"tailLines": &o.Tail, "limitBytes": &o.Limit} {
		if text := query.Get(name); text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil || n < 0 {
				return o, fmt.Errorf("invalid %s %q", name, text)
			}
			*field = n
		}
	}
	if text := query.Get("sinceSeconds"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return o, fmt.Errorf("invalid sinceSeconds %q", text)
		}
		o.Since = time.Now().Add(-time.Duration(n) * time.Second)
	}
	if text := query.Get("sinceTime"); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return o, fmt.Errorf("invalid sinceTime %q", text)
		}
		o.Since = at
	}
	switch text := query.Get("stream"); text {
	case "", corev1.LogStreamAll:
	case corev1.LogStreamStdout:
		o.Stream = "stdout"
	case corev1.LogStreamStderr:
		o.Stream = "stderr"
	default:
		return o, fmt.Errorf("invalid stream %q", text)
	}
	return o, nil
}

// flag reads a boolean; anything but a false is true, as in the API.
func flag(query url.Values, name string) bool {
	if !query.Has(name) {
		return false
	}
	value, err := strconv.ParseBool(query.Get(name))
	return value || err != nil
}

// flushWriter sends every write at once.
type flushWriter struct {
	w     http.ResponseWriter
	begun bool
}

// begin sends the head of an answer without content.
func (f *flushWriter) begin() {
	if !f.begun {
		f.begun = true
		f.w.WriteHeader(http.StatusOK)
	}
}

func (f *flushWriter) Write(p []byte) (int, error) {
	f.begun = true
	n, err := f.w.Write(p)
	if err != nil {
		return n, err
	}
	if err := http.NewResponseController(f.w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return n, err
	}
	return n, nil
}

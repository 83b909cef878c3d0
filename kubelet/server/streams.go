package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	"k8s.io/utils/exec"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// session is one exec or attach: run does it with the client's streams and
// returns its exit code.
type session struct {
	server *Server
	run    func(ctx context.Context, streams container.Streams, tty bool) (int, error)
}

func (s *Server) serveExec(w http.ResponseWriter, r *http.Request) {
	command := r.URL.Query()["command"]
	if len(command) == 0 {
		http.Error(w, "you must specify at least 1 command to exec", http.StatusBadRequest)
		return
	}
	s.serveSession(w, r, func(ctx context.Context, id container.ID, streams container.Streams, tty bool) (int, error) {
		return s.config.Runtime.Exec(ctx, id, container.ExecSpec{Args: command, TTY: tty, Streams: streams})
	})
}

func (s *Server) serveAttach(w http.ResponseWriter, r *http.Request) {
	s.serveSession(w, r, func(ctx context.Context, id container.ID, streams container.Streams, _ bool) (int, error) {
		return 0, s.config.Runtime.Attach(ctx, id, streams)
	})
}

type runFunc func(ctx context.Context, id container.ID, streams container.Streams, tty bool) (int, error)

func (s *Server) serveSession(w http.ResponseWriter, r *http.Request, run runFunc) {
	pod := s.pod(w, r)
	if pod == nil {
		return
	}
	id, ok := s.running(w, r, pod.UID)
	if !ok {
		return
	}
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// The request's context does not end with a hijacked connection; the end
	// of the session is the end of its streams.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	one := &session{server: s, run: func(ctx context.Context, streams container.Streams, tty bool) (int, error) {
		return run(ctx, id, streams, tty)
	}}
	s.config.Log.Info("session opened", "path", r.URL.Path)
	if wsstream.IsWebSocketRequest(r) {
		one.serveWebSocket(ctx, w, r, options)
		return
	}
	remotecommand.ServeExec(w, r.WithContext(ctx), one, pod.Name, string(pod.UID), id.Name, nil, options,
		s.config.StreamIdle, streamCreation, remotecommand.SupportedStreamingProtocols)
}

// running finds the container that a session is for, or answers the request.
func (s *Server) running(w http.ResponseWriter, r *http.Request, pod types.UID) (container.ID, bool) {
	name := r.PathValue("container")
	status, found, err := s.current(r.Context(), pod, name)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case !found:
		http.Error(w, fmt.Sprintf("container not found (%q)", name), http.StatusNotFound)
	case status.State != container.Running:
		http.Error(w, fmt.Sprintf("container %s is not running", name), http.StatusInternalServerError)
	default:
		return status.ID, true
	}
	return container.ID{}, false
}

// ExecInContainer makes a session the Executor that serves SPDY clients.
func (s *session) ExecInContainer(ctx context.Context, _, _, _ string, _ []string, in io.Reader, out, errs io.WriteCloser,
	tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration,
) error {
	streams := container.Streams{Stdin: in, Resize: windowSizes(ctx, resize)}
	// A nil of the concrete type would look connected.
	if out != nil {
		streams.Stdout = out
	}
	if errs != nil {
		streams.Stderr = errs
	}
	code, err := s.run(ctx, streams, tty)
	if err != nil {
		return err
	}
	if code != 0 {
		return exec.CodeExitError{Err: fmt.Errorf("exit status %d", code), Code: code}
	}
	return nil
}

// windowSizes converts a channel; nil stays nil.
func windowSizes(ctx context.Context, in <-chan remotecommand.TerminalSize) <-chan container.WindowSize {
	if in == nil {
		return nil
	}
	out := make(chan container.WindowSize)
	go func() {
		defer close(out)
		for size := range in {
			select {
			case out <- container.WindowSize{Width: size.Width, Height: size.Height}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// runOutputBytes bounds what /run returns.
const runOutputBytes = 10 << 20

// serveRun runs the command in ?cmd= and returns its output.
func (s *Server) serveRun(w http.ResponseWriter, r *http.Request) {
	pod := s.pod(w, r)
	if pod == nil {
		return
	}
	id, ok := s.running(w, r, pod.UID)
	if !ok {
		return
	}
	output := &boundedOutput{left: runOutputBytes}
	_, err := s.config.Runtime.Exec(r.Context(), id, container.ExecSpec{
		Args: r.URL.Query()["cmd"], Streams: container.Streams{Stdout: output, Stderr: output},
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if _, err := w.Write(output.data); err != nil {
		s.config.Log.Debug("could not write answer", "err", err)
	}
}

// boundedOutput keeps the beginning of a command's output.
type boundedOutput struct {
	mu   sync.Mutex // stdout and stderr are written at the same time
	data []byte
	left int
}

func (b *boundedOutput) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	keep := p[:min(len(p), b.left)]
	b.data = append(b.data, keep...)
	b.left -= len(keep)
	return len(p), nil
}

// forwarder connects streams to ports of Pods.
type forwarder struct {
	dial func(ctx context.Context, pod types.UID, port uint16) (net.Conn, error)
}

// PortForward copies both ways until both sides are done.
func (f *forwarder) PortForward(ctx context.Context, _, uid string, port int32, stream io.ReadWriteCloser) error {
	if port < 1 || port > 65535 {
		return fmt.Errorf("port %d is not between 1 and 65535", port)
	}
	defer func() { _ = stream.Close() }() // the client may have closed it
	conn, err := f.dial(ctx, types.UID(uid), uint16(port))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // closed by whoever ended first
	toPod := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, stream)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			err = errors.Join(err, half.CloseWrite())
		}
		toPod <- err
	}()
	_, err = io.Copy(stream, conn)
	if err != nil {
		return fmt.Errorf("copy from port %d: %w", port, err)
	}
	// The Pod's side has closed: nothing that is still sent can be answered.
	return nil
}

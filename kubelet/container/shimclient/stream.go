package shimclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/shim/protocol"
	"github.com/skeg-dev/skeg/kubelet/shim/record"
)

// Exec implements container.Containers.
func (c *Client) Exec(ctx context.Context, id container.ID, cmd container.ExecSpec) (int, error) {
	want := request(cmd.Streams)
	want.Args, want.TTY = cmd.Args, cmd.TTY
	r, err := c.stream(ctx, protocol.Request{Op: protocol.OpExec, ID: id, Exec: &want}, cmd.Streams)
	return r.ExitCode, err
}

// Attach implements container.Containers.
func (c *Client) Attach(ctx context.Context, id container.ID, streams container.Streams) error {
	want := request(streams)
	_, err := c.stream(ctx, protocol.Request{Op: protocol.OpAttach, ID: id, Exec: &want}, streams)
	return err
}

func request(s container.Streams) protocol.Exec {
	return protocol.Exec{Stdin: s.Stdin != nil, Stdout: s.Stdout != nil, Stderr: s.Stderr != nil}
}

// stream runs a session; hanging up, when ctx ends, ends it.
func (c *Client) stream(ctx context.Context, req protocol.Request, s container.Streams) (protocol.Response, error) {
	var none protocol.Response
	if !record.ValidName(string(req.ID.Pod)) {
		return none, fmt.Errorf("pod UID %q: %w", req.ID.Pod, container.ErrNotFound)
	}
	conn, err := dial(ctx, c.dir(req.ID.Pod))
	if errors.Is(err, errShimGone) {
		return none, fmt.Errorf("container %q: %w: %w", req.ID.Name, container.ErrNotRunning, err)
	}
	if err != nil {
		return none, err
	}
	defer conn.Close()
	if _, err := roundTrip(ctx, conn, req); err != nil {
		return none, err
	}
	release := context.AfterFunc(ctx, func() { _ = conn.Close() }) // hanging up is the message
	defer release()
	in := &uplink{conn: conn, done: make(chan struct{})}
	defer close(in.done)
	if s.Stdin != nil {
		go in.stdin(s.Stdin)
	}
	if s.Resize != nil {
		go in.resize(s.Resize)
	}
	r, err := receive(conn, s)
	if ctx.Err() != nil {
		return none, ctx.Err()
	}
	if err != nil {
		return none, fmt.Errorf("container %q: %w", req.ID.Name, err)
	}
	return r, r.Err()
}

// receive hands output on until the session's end.
func receive(conn net.Conn, s container.Streams) (protocol.Response, error) {
	for {
		kind, payload, err := protocol.Read(conn)
		if errors.Is(err, io.EOF) {
			return protocol.Response{}, errors.New("the connection to the process was lost")
		}
		if err != nil {
			return protocol.Response{}, err
		}
		switch kind {
		case protocol.FrameStdout:
			err = write(s.Stdout, payload)
		case protocol.FrameStderr:
			err = write(s.Stderr, payload)
		case protocol.FrameExit:
			var r protocol.Response
			if err := json.Unmarshal(payload, &r); err != nil {
				return r, fmt.Errorf("decode end of session: %w", err)
			}
			return r, nil
		default:
			err = fmt.Errorf("unknown frame %d", kind)
		}
		if err != nil {
			return protocol.Response{}, err
		}
	}
}

func write(w io.Writer, p []byte) error {
	if w == nil {
		return nil
	}
	if _, err := w.Write(p); err != nil {
		return fmt.Errorf("pass output on: %w", err)
	}
	return nil
}

// uplink is the client's side of a session. Its goroutines may outlive the
// session by one read of the caller's stdin, which cannot be interrupted.
type uplink struct {
	conn net.Conn
	mu   sync.Mutex // serialises frames
	done chan struct{}
}

func (u *uplink) send(kind protocol.Kind, payload []byte) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return protocol.Write(u.conn, kind, payload)
}

func (u *uplink) stdin(r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if u.send(protocol.FrameStdin, buf[:n]) != nil {
				return // the session has ended; receive says how
			}
		}
		if err != nil {
			_ = u.send(protocol.FrameStdinEnd, nil) // likewise
			return
		}
	}
}

func (u *uplink) resize(sizes <-chan container.WindowSize) {
	for {
		select {
		case <-u.done:
			return
		case size, open := <-sizes:
			if !open || u.send(protocol.FrameResize, protocol.EncodeSize(size)) != nil {
				return
			}
		}
	}
}

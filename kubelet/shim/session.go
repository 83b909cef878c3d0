package main

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/shim/protocol"
	"github.com/skeg-dev/skeg/kubelet/shim/runc"
)

// viewerPatience is how long an attached client may stop the container's output
// by not reading before it is let go.
const viewerPatience = 10 * time.Second

// viewer is an attached client.
type viewer struct {
	conn net.Conn
	mu   sync.Mutex // serialises frames
	want protocol.Exec
	once sync.Once
	gone chan struct{} // closed when it is let go
}

func (v *viewer) send(kind protocol.Kind, payload []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return protocol.Write(v.conn, kind, payload)
}

func (v *viewer) wants(kind protocol.Kind) bool {
	return kind == protocol.FrameStdout && v.want.Stdout || kind == protocol.FrameStderr && v.want.Stderr
}

// show gives a chunk of output to who is attached.
func (t *task) show(kind protocol.Kind, chunk []byte) {
	t.mu.Lock()
	var to []*viewer
	for v := range t.viewers {
		if v.wants(kind) {
			to = append(to, v)
		}
	}
	t.mu.Unlock()
	for _, v := range to {
		err := v.conn.SetWriteDeadline(time.Now().Add(viewerPatience))
		if err == nil {
			err = v.send(kind, chunk)
		}
		if err != nil {
			t.detach(v)
		}
	}
}

func (t *task) detach(v *viewer) {
	t.mu.Lock()
	delete(t.viewers, v)
	t.mu.Unlock()
	v.once.Do(func() { close(v.gone) })
}

// attach connects a client to the first process until either ends.
func (t *task) attach(conn net.Conn, want protocol.Exec) error {
	t.mu.Lock()
	proc, state := t.proc, t.status.State
	if state != container.Running || proc == nil {
		t.mu.Unlock()
		return protocol.WriteJSON(conn, protocol.FrameResponse, protocol.Fail(container.ErrNotRunning))
	}
	v := &viewer{conn: conn, want: want, gone: make(chan struct{})}
	v.mu.Lock() // the response goes first
	t.viewers[v] = true
	t.mu.Unlock()
	err := protocol.WriteJSON(conn, protocol.FrameResponse, protocol.Response{})
	v.mu.Unlock()
	defer t.detach(v)
	if err != nil {
		return err
	}
	in := &input{proc: proc, closeAtEnd: t.spec.StdinOnce && !t.spec.TTY, deaf: !want.Stdin || !t.spec.Stdin}
	hungUp := make(chan struct{})
	go func() {
		defer close(hungUp)
		in.read(conn)
		in.end()
	}()
	select {
	case <-t.exited:
		return errors.Join(conn.SetWriteDeadline(time.Now().Add(viewerPatience)),
			v.sendExit(protocol.Response{ExitCode: t.snapshot().ExitCode}))
	case <-hungUp:
	case <-v.gone:
	}
	return nil
}

func (v *viewer) sendExit(r protocol.Response) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return protocol.WriteJSON(v.conn, protocol.FrameExit, r)
}

// input is what a client sends to a process.
type input struct {
	proc       *runc.Process
	closeAtEnd bool // the end of the client's stdin is that of the process
	deaf       bool // no stdin was asked for
	ended      sync.Once
}

// read handles frames until the client hangs up.
func (in *input) read(conn net.Conn) {
	for {
		kind, payload, err := protocol.Read(conn)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, unix.ECONNRESET) {
				slog.Warn("session ends", "error", err)
			}
			return
		}
		switch kind {
		case protocol.FrameStdin:
			if in.deaf || in.proc.Stdin == nil {
				continue
			}
			if _, err := in.proc.Stdin.Write(payload); err != nil {
				in.deaf = true // the process does not read any more; its client may still watch
			}
		case protocol.FrameStdinEnd:
			in.end()
		case protocol.FrameResize:
			size, err := protocol.DecodeSize(payload)
			if err == nil {
				err = in.proc.Resize(size)
			}
			if err != nil && !errors.Is(err, os.ErrClosed) {
				slog.Warn("cannot resize terminal", "error", err)
			}
		default:
			slog.Warn("session ends at an unknown frame", "kind", kind)
			return
		}
	}
}

func (in *input) end() {
	if !in.closeAtEnd || in.deaf || in.proc.Stdin == nil {
		return
	}
	in.ended.Do(func() {
		if err := in.proc.Stdin.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			slog.Warn("cannot close stdin", "error", err)
		}
	})
}

// execSession runs a command for a client, whose hanging up ends it.
func (t *task) execSession(conn net.Conn, want protocol.Exec) error {
	proc, err := t.exec(want)
	if err != nil {
		return protocol.WriteJSON(conn, protocol.FrameResponse, protocol.Fail(err))
	}
	v := &viewer{conn: conn, want: want, gone: make(chan struct{})}
	if err := protocol.WriteJSON(conn, protocol.FrameResponse, protocol.Response{}); err != nil {
		slog.Warn("client left before its command started", "error", err)
	}
	in := &input{proc: proc, closeAtEnd: !want.TTY, deaf: !want.Stdin}
	go func() {
		in.read(conn)
		if err := proc.Signal(unix.SIGKILL); err != nil {
			slog.Warn("cannot end command", "error", err)
		}
	}()
	drained := v.pump(proc)
	exit, err := proc.Wait()
	t.sv.reaper.forget(proc.PID)
	drain(proc, drained)
	cerr := proc.Close()
	r := protocol.Fail(err)
	r.ExitCode = exit.Code
	return errors.Join(cerr, v.sendExit(r))
}

// pump moves a command's output to the client, which it waits for; what nobody
// wants is dropped so that the command does not block.
func (v *viewer) pump(proc *runc.Process) <-chan struct{} {
	var wg sync.WaitGroup
	for kind, f := range map[protocol.Kind]*os.File{protocol.FrameStdout: proc.Stdout, protocol.FrameStderr: proc.Stderr} {
		if f == nil {
			continue
		}
		wg.Go(func() {
			buf := make([]byte, 32<<10)
			lost := !v.wants(kind)
			for {
				n, err := f.Read(buf)
				if n > 0 && !lost {
					lost = v.send(kind, buf[:n]) != nil
				}
				if err != nil {
					logReadError("exec", err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	return done
}

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/shim/protocol"
	"github.com/skeg-dev/skeg/kubelet/shim/record"
)

// readyFD is where the starter listens: a line "ok" once requests are served,
// or what went wrong.
const readyFD = 3

// serve is the shim's life.
func serve(path string) error {
	ready := os.NewFile(readyFD, "ready")
	unix.CloseOnExec(readyFD)
	s, err := open(record.Dir(path))
	answer := "ok\n"
	if err != nil {
		answer = err.Error() + "\n"
	}
	if _, werr := io.WriteString(ready, answer); werr != nil {
		slog.Warn("nobody waits for the shim", "error", werr)
	}
	if cerr := ready.Close(); cerr != nil {
		slog.Warn("cannot close the ready pipe", "error", cerr)
	}
	if err != nil {
		return err
	}
	return s.run()
}

// server answers requests for one supervisor.
type server struct {
	sv       *supervisor
	listener *net.UnixListener
	lock     *os.File // held for life
	ended    chan error
}

func open(dir record.Dir) (*server, error) {
	lock, held, err := dir.Lock()
	if err != nil {
		return nil, err
	}
	if held {
		return nil, errors.New("another shim serves this sandbox")
	}
	// The working directory makes the socket's path short: it may have 108
	// bytes at most (unix(7)), and the kubelet's root may be deep.
	if err := os.Chdir(string(dir)); err != nil {
		return nil, fmt.Errorf("enter sandbox directory: %w", err)
	}
	sv, err := newSupervisor(dir)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(record.SocketName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove stale socket: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: record.SocketName, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return &server{sv: sv, listener: listener, lock: lock, ended: make(chan error, 1)}, nil
}

// run serves until a shutdown is asked for, by request or signal.
func (s *server) run() error {
	slog.Info("serving", "pod", s.sv.sandbox.Namespace+"/"+s.sv.sandbox.Name, "uid", s.sv.sandbox.Pod)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	signal.Ignore(unix.SIGHUP, unix.SIGPIPE)
	go s.accept()
	select {
	case sig := <-signals:
		slog.Info("ending", "signal", sig)
		return s.sv.shutdown()
	case err := <-s.ended:
		return err
	}
}

func (s *server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			s.ended <- fmt.Errorf("accept: %w", err)
			return
		}
		go func() {
			if err := s.handle(conn); err != nil && !hangup(err) {
				slog.Warn("request failed", "error", err)
			}
			if err := conn.Close(); err != nil && !hangup(err) {
				slog.Warn("cannot close connection", "error", err)
			}
		}()
	}
}

func hangup(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET)
}

// handle serves one connection: one request.
func (s *server) handle(conn net.Conn) error {
	var req protocol.Request
	if err := protocol.ReadJSON(conn, protocol.FrameRequest, &req); err != nil {
		return err
	}
	switch req.Op {
	case protocol.OpSubscribe:
		return s.subscribe(conn)
	case protocol.OpExec, protocol.OpAttach:
		t := s.sv.task(req.ID)
		if t == nil || req.Exec == nil {
			return protocol.WriteJSON(conn, protocol.FrameResponse, protocol.Fail(container.ErrNotFound))
		}
		if req.Op == protocol.OpAttach {
			return t.attach(conn, *req.Exec)
		}
		return t.execSession(conn, *req.Exec)
	case protocol.OpShutdown:
		err := s.sv.shutdown()
		werr := protocol.WriteJSON(conn, protocol.FrameResponse, protocol.Fail(err))
		s.ended <- err
		return werr
	}
	return protocol.WriteJSON(conn, protocol.FrameResponse, protocol.Fail(s.simple(req)))
}

// simple are the operations that answer success or an error.
func (s *server) simple(req protocol.Request) error {
	t := s.sv.task(req.ID)
	switch req.Op {
	case protocol.OpCreate:
		if req.Spec == nil {
			return errors.New("create container: no spec")
		}
		return s.sv.create(*req.Spec)
	case protocol.OpRemove:
		return s.sv.remove(req.ID)
	case protocol.OpStart:
		if t == nil {
			return fmt.Errorf("start container %q: %w", req.ID.Name, container.ErrNotFound)
		}
		return t.start()
	case protocol.OpStop:
		if t == nil {
			return nil
		}
		return t.stop(req.Grace)
	case protocol.OpReopenLog:
		if t == nil {
			return nil
		}
		return t.reopenLog()
	}
	return fmt.Errorf("unknown operation %q", req.Op)
}

func (t *task) reopenLog() error {
	t.mu.Lock()
	log := t.log
	t.mu.Unlock()
	if log == nil {
		return nil
	}
	return log.reopen()
}

// subscribe sends all statuses, then each change, until the client hangs up.
func (s *server) subscribe(conn net.Conn) error {
	sub := s.sv.hub.subscribe() // before the list, so that nothing is between
	defer s.sv.hub.unsubscribe(sub)
	if err := protocol.WriteJSON(conn, protocol.FrameResponse, protocol.Response{Statuses: s.sv.statuses()}); err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if _, _, err := protocol.Read(conn); err != nil && !hangup(err) {
			slog.Warn("subscription ends", "error", err)
		}
	}()
	for {
		select {
		case <-gone:
			return nil
		case <-sub.wake:
		}
		for _, status := range s.sv.hub.take(sub) {
			if err := protocol.WriteJSON(conn, protocol.FrameEvent, status); err != nil {
				return err
			}
		}
	}
}

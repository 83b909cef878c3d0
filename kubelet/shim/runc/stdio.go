package runc

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// stdio are the far ends of a process's streams until it has started, and with
// a TTY the socket its console comes through.
type stdio struct {
	far     []*os.File
	console *os.File
}

// connect makes the pipes of a process, or the socket for its console.
func connect(p *Process, ps processSpec) (*stdio, error) {
	s := &stdio{}
	if ps.tty {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("create console socket: %w", err)
		}
		s.console = os.NewFile(uintptr(pair[0]), "console")
		far := os.NewFile(uintptr(pair[1]), "console")
		s.far = []*os.File{far}
		p.inner.ConsoleSocket = far
		// What a terminal is until its viewer says otherwise.
		p.inner.ConsoleWidth, p.inner.ConsoleHeight = 80, 24
		return s, nil
	}
	if err := s.pipes(p, ps.stdin); err != nil {
		return nil, errors.Join(err, s.abort(p))
	}
	return s, nil
}

func (s *stdio) pipes(p *Process, stdin bool) error {
	in, err := os.Open(os.DevNull)
	if stdin {
		if err == nil {
			err = in.Close()
		}
		if err == nil {
			in, p.Stdin, err = os.Pipe()
		}
	}
	if err != nil {
		return fmt.Errorf("create stdin: %w", err)
	}
	s.far = append(s.far, in)
	var out, serr *os.File
	if p.Stdout, out, err = os.Pipe(); err != nil {
		return fmt.Errorf("create stdout: %w", err)
	}
	s.far = append(s.far, out)
	if p.Stderr, serr, err = os.Pipe(); err != nil {
		return fmt.Errorf("create stderr: %w", err)
	}
	s.far = append(s.far, serr)
	p.inner.Stdin, p.inner.Stdout, p.inner.Stderr = in, out, serr
	return nil
}

// started closes the far ends, so that the end of the process ends the
// streams, and fetches the console.
func (s *stdio) started(p *Process) error {
	err := s.closeFar()
	if s.console == nil {
		return err
	}
	master, rerr := receiveFile(s.console)
	cerr := s.console.Close()
	s.console = nil
	if err = errors.Join(err, rerr, cerr); err != nil {
		return err
	}
	p.Stdin, p.Stdout = master, master
	return nil
}

// abort closes everything after a start that failed.
func (s *stdio) abort(p *Process) error {
	err := s.closeFar()
	if s.console != nil {
		err = errors.Join(err, s.console.Close())
	}
	return errors.Join(err, p.Close())
}

func (s *stdio) closeFar() error {
	var err error
	for _, f := range s.far {
		err = errors.Join(err, f.Close())
	}
	s.far = nil
	return err
}

// Close closes the near ends. It may be repeated.
func (p *Process) Close() error {
	var err error
	for _, f := range []*os.File{p.Stdin, p.Stdout, p.Stderr} {
		if f == nil {
			continue
		}
		if cerr := f.Close(); cerr != nil && !errors.Is(cerr, os.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}
	if err != nil {
		return fmt.Errorf("close stdio: %w", err)
	}
	return nil
}

// receiveFile takes the descriptor that libcontainer's init sends, and puts the
// terminal into the mode a terminal at the other end expects: newlines as they
// are written.
func receiveFile(socket *os.File) (*os.File, error) {
	name := make([]byte, 4096)
	oob := make([]byte, unix.CmsgSpace(4))
	var oobn int
	for {
		var err error
		_, oobn, _, _, err = unix.Recvmsg(int(socket.Fd()), name, oob, unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("receive console: %w", err)
		}
		break
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("receive console: %d messages: %w", len(messages), errors.Join(err, container.ErrStart))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("receive console: %d descriptors: %w", len(fds), errors.Join(err, container.ErrStart))
	}
	// Non-blocking, so that closing it ends a read.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, errors.Join(fmt.Errorf("receive console: %w", err), unix.Close(fds[0]))
	}
	return os.NewFile(uintptr(fds[0]), "console"), nil
}

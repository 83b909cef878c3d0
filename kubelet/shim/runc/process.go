package runc

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Process is a started process of a container and the near ends of its stdio.
// The owner reads Stdout and Stderr to their end and closes all files.
type Process struct {
	PID    int
	Stdin  *os.File // nil if none was asked for
	Stdout *os.File // with a TTY the same as Stdin
	Stderr *os.File // nil with a TTY
	TTY    bool
	inner  *libcontainer.Process
}

type processSpec struct {
	args             []string
	tty, stdin, init bool
}

// Exit is how a process ended.
type Exit struct {
	Code   int // 128 + signal if a signal ended it
	Signal int
}

// Wait blocks until the process has ended. Call it once.
func (p *Process) Wait() (Exit, error) {
	state, err := p.inner.Wait()
	if state == nil {
		return Exit{}, fmt.Errorf("wait for process %d: %w", p.PID, err)
	}
	if status, is := state.Sys().(syscall.WaitStatus); is && status.Signaled() {
		n := int(status.Signal())
		return Exit{Code: 128 + n, Signal: n}, nil
	}
	return Exit{Code: state.ExitCode()}, nil
}

// Signal sends the process a signal; one that is gone has it already.
func (p *Process) Signal(sig syscall.Signal) error {
	if err := p.inner.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// Resize sets the window size of the process's terminal.
func (p *Process) Resize(size container.WindowSize) error {
	if !p.TTY {
		return nil
	}
	return setSize(p.Stdout, size)
}

func setSize(tty *os.File, size container.WindowSize) error {
	conn, err := tty.SyscallConn()
	if err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	var ioErr error
	err = conn.Control(func(fd uintptr) {
		ioErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
	})
	if err = errors.Join(err, ioErr); err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}

func (c *Container) start(ps processSpec) (*Process, error) {
	spec := c.config.Spec
	lp := &libcontainer.Process{
		Args: ps.args,
		Env:  environment(spec.Env, c.config.Hostname, ps.tty),
		UID:  int(spec.Security.UID),
		GID:  int(spec.Security.GID),
		Cwd:  workingDir(spec),
		Init: ps.init,
	}
	noNewPrivileges := spec.Security.NoNewPrivileges
	lp.NoNewPrivileges = &noNewPrivileges
	caps, err := capabilitySet(spec.Security)
	if err != nil {
		return nil, err
	}
	lp.Capabilities = &configs.Capabilities{Bounding: caps, Permitted: caps, Effective: caps}
	for _, g := range spec.Security.AdditionalGroups {
		lp.AdditionalGroups = append(lp.AdditionalGroups, int(g))
	}
	p := &Process{inner: lp, TTY: ps.tty}
	stdio, err := connect(p, ps)
	if err != nil {
		return nil, err
	}
	if ps.init {
		err = c.inner.Run(lp)
	} else {
		err = c.inner.Start(lp)
	}
	if err != nil {
		return nil, errors.Join(startError(err), stdio.abort(p))
	}
	if err := stdio.started(p); err != nil {
		return nil, errors.Join(err, lp.Signal(unix.SIGKILL), stdio.abort(p))
	}
	if p.PID, err = lp.Pid(); err != nil {
		return nil, fmt.Errorf("read process id: %w", err)
	}
	return p, nil
}

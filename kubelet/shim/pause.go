package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// pause is PID 1 of a Pod's shared PID namespace: it reaps orphans and ends
// when the shim, which holds the other end of its stdin, is gone; the kernel
// then kills what is left in the namespace.
func pause() error {
	children := make(chan os.Signal, 1)
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE)
	signal.Notify(children, unix.SIGCHLD)
	gone := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		gone <- err
	}()
	for {
		select {
		case err := <-gone:
			return err
		case <-children:
			if err := reapAll(); err != nil {
				return err
			}
		}
	}
}

func reapAll() error {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ECHILD), err == nil && pid <= 0:
			return nil
		case err != nil:
			return fmt.Errorf("reap: %w", err)
		}
	}
}

// pauseProcess is the running pause of a Pod.
type pauseProcess struct {
	cmd  *exec.Cmd
	hold *os.File // closing it ends the process
}

func startPause() (*pauseProcess, error) {
	stdin, hold, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start pause: %w", err)
	}
	cmd := exec.Command("/proc/self/exe", "pause")
	cmd.Env = []string{}
	cmd.Stdin, cmd.Stderr = stdin, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	err = cmd.Start()
	if cerr := stdin.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start pause: %w", err), hold.Close())
	}
	return &pauseProcess{cmd: cmd, hold: hold}, nil
}

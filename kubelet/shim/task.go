package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/shim/protocol"
	"github.com/skeg-dev/skeg/kubelet/shim/record"
	"github.com/skeg-dev/skeg/kubelet/shim/runc"
)

// drainTime is how long output is awaited after a process has ended; only a
// process outside the container that holds its pipe makes it that long.
const drainTime = 5 * time.Second

// terminationLogBytes is how much of the termination message counts: the API's
// limit for a container (core/v1 ContainerStateTerminated.message).
const terminationLogBytes = 4096

// task is one container.
//
//	Created ──start──► Running ──process ends──► Exited
//	   └────────start fails, or stop──────────────►┘
type task struct {
	sv   *supervisor
	spec container.Spec
	op   sync.Mutex // held by start and remove, which must not overlap

	mu       sync.Mutex // guards all below
	status   container.Status
	cont     *runc.Container // while running
	proc     *runc.Process   // while running
	log      *logFile        // while running
	signaled bool            // the stop signal was sent
	exited   chan struct{}   // closed once the status is Exited and on disk
	viewers  map[*viewer]bool
}

func newTask(sv *supervisor, spec container.Spec, status container.Status) *task {
	t := &task{sv: sv, spec: spec, status: status, exited: make(chan struct{}), viewers: map[*viewer]bool{}}
	if status.State == container.Exited {
		close(t.exited)
	}
	return t
}

func (t *task) snapshot() container.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

// start runs the command. A container that has been started already is left alone.
func (t *task) start() error {
	t.op.Lock()
	defer t.op.Unlock()
	if t.snapshot().State != container.Created {
		return nil
	}
	cont, proc, log, err := t.launch()
	if err != nil {
		if rerr := t.finish(startFailed(err)); rerr != nil {
			return errors.Join(err, rerr)
		}
		return err
	}
	t.mu.Lock()
	t.cont, t.proc, t.log = cont, proc, log
	t.status.State, t.status.PID, t.status.StartedAt = container.Running, proc.PID, time.Now()
	status := t.status
	t.mu.Unlock()
	err = t.sv.dir.WriteStatus(status)
	t.sv.hub.publish(status)
	go t.await(t.pump())
	return err
}

// startFailed is the status of a container whose command never ran, with the
// exit code that CRI runtimes give it.
func startFailed(err error) func(*container.Status) {
	return func(s *container.Status) {
		s.ExitCode, s.Reason, s.Message = 128, "StartError", protocol.StartText(err)
	}
}

func (t *task) launch() (*runc.Container, *runc.Process, *logFile, error) {
	paths, err := t.sv.namespacesFor(t.spec)
	if err != nil {
		return nil, nil, nil, err
	}
	log, err := openLog(t.spec.LogPath)
	if err != nil {
		return nil, nil, nil, err
	}
	cont, err := runc.Create(runc.Config{
		Spec: t.spec, Hostname: t.sv.sandbox.Hostname, Namespaces: paths, Shm: t.sv.ns.shm,
		Cgroup: record.Cgroup(t.sv.sandbox, t.spec.ID), StateDir: t.sv.dir.Runc(), Key: record.Key(t.spec.ID),
	})
	if err != nil {
		return nil, nil, nil, errors.Join(err, log.close())
	}
	var proc *runc.Process
	err = t.sv.reaper.start(func() (int, error) {
		var err error
		if proc, err = cont.Run(); err != nil {
			return 0, err
		}
		return proc.PID, nil
	})
	if err != nil {
		if derr := cont.Destroy(); derr != nil {
			slog.Warn("cannot clean up after a failed start", "container", t.spec.ID.Name, "error", derr)
		}
		return nil, nil, nil, errors.Join(err, log.close())
	}
	return cont, proc, log, nil
}

// pump moves the process's output to the log and the viewers. The channel is
// closed when both streams have ended.
func (t *task) pump() <-chan struct{} {
	var wg sync.WaitGroup
	stream := func(f *os.File, name string, kind protocol.Kind) {
		if f == nil {
			return
		}
		wg.Go(func() {
			ls := &logStream{log: t.log, name: name}
			defer ls.end()
			buf := make([]byte, maxLogLine)
			for {
				n, err := f.Read(buf)
				if n > 0 {
					ls.write(buf[:n])
					t.show(kind, buf[:n])
				}
				if err != nil {
					logReadError(name, err)
					return
				}
			}
		})
	}
	stream(t.proc.Stdout, "stdout", protocol.FrameStdout)
	stream(t.proc.Stderr, "stderr", protocol.FrameStderr)
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	return done
}

// logReadError logs what is not the end of a stream: of a pipe, of a terminal
// (EIO), or by our own doing.
func logReadError(stream string, err error) {
	if !errors.Is(err, io.EOF) && !errors.Is(err, unix.EIO) && !errors.Is(err, os.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
		slog.Error("cannot read container output", "stream", stream, "error", err)
	}
}

// await waits for the end and records it: processes gone, output complete,
// record on disk, and only then anybody told.
func (t *task) await(drained <-chan struct{}) {
	exit, err := t.proc.Wait()
	ended := time.Now()
	t.sv.reaper.forget(t.proc.PID)
	logFailure("cannot wait for container", t.spec.ID, err)
	ooms, err := t.cont.OOMKills()
	logFailure("cannot read OOM count", t.spec.ID, err)
	logFailure("cannot remove container", t.spec.ID, t.cont.Destroy())
	drain(t.proc, drained)
	logFailure("cannot close stdio", t.spec.ID, t.proc.Close())
	logFailure("cannot close log", t.spec.ID, t.log.close())
	message := terminationMessage(t.spec)
	err = t.finish(func(s *container.Status) {
		s.ExitCode, s.Signal, s.FinishedAt, s.Message = exit.Code, exit.Signal, ended, message
		s.Reason = "Completed"
		if exit.Code != 0 {
			s.Reason = "Error"
			if s.OOMKilled = ooms > 0; s.OOMKilled {
				s.Reason = "OOMKilled"
			}
		}
	})
	logFailure("cannot write exit record", t.spec.ID, err)
}

func logFailure(message string, id container.ID, err error) {
	if err != nil {
		slog.Error("container step failed", "step", message, "container", id.Name, "attempt", id.Attempt, "error", err)
	}
}

// drain waits for the rest of the output, not forever.
func drain(p *runc.Process, drained <-chan struct{}) {
	for _, f := range []*os.File{p.Stdout, p.Stderr} {
		if f == nil {
			continue
		}
		if err := f.SetReadDeadline(time.Now().Add(drainTime)); err != nil && !errors.Is(err, os.ErrClosed) {
			slog.Error("cannot bound the wait for output", "error", err)
		}
	}
	<-drained
}

// terminationMessage is the end of the termination log, a file that the
// container may have filled with anything but cannot have replaced.
func terminationMessage(spec container.Spec) string {
	if spec.TerminationLog == "" {
		return ""
	}
	f, err := os.OpenFile(spec.TerminationLog, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	b, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-terminationLogBytes), terminationLogBytes))
	logFailure("cannot read termination message", spec.ID, err)
	return string(b)
}

// finish makes the status final, on disk, then public.
func (t *task) finish(set func(*container.Status)) error {
	t.mu.Lock()
	if t.status.State == container.Exited {
		t.mu.Unlock()
		return nil
	}
	set(&t.status)
	t.status.State, t.status.PID = container.Exited, 0
	if t.status.FinishedAt.IsZero() {
		t.status.FinishedAt = time.Now()
	}
	status := t.status
	t.cont, t.proc, t.log = nil, nil, nil
	t.mu.Unlock()
	err := t.sv.dir.WriteStatus(status)
	t.sv.hub.publish(status)
	close(t.exited)
	return err
}

// stop sends the stop signal once and SIGKILL to all after grace; it returns
// when the container has exited. A later call with less grace counts.
func (t *task) stop(grace time.Duration) error {
	t.op.Lock() // a start under way is awaited
	t.op.Unlock()
	t.mu.Lock()
	state, proc, cont, first := t.status.State, t.proc, t.cont, !t.signaled
	t.signaled = true
	t.mu.Unlock()
	switch {
	case state == container.Exited:
		return nil
	case state == container.Created:
		return t.finish(func(s *container.Status) { s.ExitCode, s.Reason = 137, "Error" })
	}
	if grace > 0 && first && proc != nil {
		if err := proc.Signal(t.stopSignal()); err != nil {
			return err
		}
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-t.exited:
		return nil
	case <-timer.C:
	}
	if cont != nil {
		if err := cont.KillAll(); err != nil {
			return err
		}
	}
	<-t.exited
	return nil
}

// exec starts a command beside the first.
func (t *task) exec(cmd protocol.Exec) (*runc.Process, error) {
	t.mu.Lock()
	cont, state := t.cont, t.status.State
	t.mu.Unlock()
	if state != container.Running || cont == nil {
		return nil, fmt.Errorf("exec in container %q: %w", t.spec.ID.Name, container.ErrNotRunning)
	}
	var proc *runc.Process
	err := t.sv.reaper.start(func() (int, error) {
		var err error
		if proc, err = cont.Exec(cmd.Args, cmd.TTY, cmd.Stdin); err != nil {
			return 0, err
		}
		return proc.PID, nil
	})
	if err != nil && t.snapshot().State != container.Running {
		return nil, fmt.Errorf("exec in container %q: %w", t.spec.ID.Name, container.ErrNotRunning)
	}
	return proc, err
}

// stopSignal is the spec's; one that nobody knows must not keep a container
// from being stopped.
func (t *task) stopSignal() syscall.Signal {
	if t.spec.StopSignal == "" {
		return unix.SIGTERM
	}
	sig, err := signalNumber(t.spec.StopSignal)
	if err != nil {
		slog.Warn("stopping with SIGTERM", "container", t.spec.ID.Name, "error", err)
		return unix.SIGTERM
	}
	return sig
}

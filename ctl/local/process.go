package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stopGrace is how long a process may take to drain after SIGTERM.
const stopGrace = 15 * time.Second

// process is one component of the cluster, started by `up` and found again by
// its pid file.
type process struct {
	name      string // "apiserver", "node-1-kubelet"
	args      []string
	namespace string // network namespace; "" is the host's
}

// pidRecord is the content of a pid file. The start time tells the process
// from a later one with the same id.
type pidRecord struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"startTime"` // in clock ticks since boot, /proc/<pid>/stat field 22
}

func (l Layout) pidFile(name string) string { return l.path("run", name+".pid") }

// start runs p detached from this terminal, unless it runs already. exited
// receives the exit status when the process ends while we are still here.
func start(l Layout, p process) (exited <-chan error, err error) {
	if _, running := findProcess(l, p.name); running {
		return nil, nil
	}
	logFile, err := os.OpenFile(l.Log(p.name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := inNamespace(p.namespace, cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }() // ends with the process, or with ours
	started, err := startTime(cmd.Process.Pid)
	if err != nil {
		return done, nil // gone already: done says how
	}
	return done, writeJSON(l.pidFile(p.name), pidRecord{PID: cmd.Process.Pid, StartTime: started})
}

// findProcess returns the process id recorded under name, and whether that
// very process runs.
func findProcess(l Layout, name string) (pid int, running bool) {
	var rec pidRecord
	if err := readJSON(l.pidFile(name), &rec); err != nil {
		return 0, false
	}
	started, err := startTime(rec.PID)
	return rec.PID, err == nil && started == rec.StartTime
}

// startTime reads field 22 of /proc/<pid>/stat (proc_pid_stat(5)); an error
// means that the process is gone or a zombie.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(data), ") ") // the command may hold spaces
	fields := strings.Fields(rest)
	const state, start = 0, 19 // counted from field 3
	if !ok || len(fields) <= start {
		return 0, fmt.Errorf("/proc/%d/stat: unexpected format", pid)
	}
	if fields[state] == "Z" || fields[state] == "X" {
		return 0, fmt.Errorf("process %d has ended", pid)
	}
	return strconv.ParseUint(fields[start], 10, 64)
}

// stop ends the process: SIGTERM, and SIGKILL after stopGrace. One that is
// gone already is a success.
func stop(ctx context.Context, l Layout, name string) error {
	pid, running := findProcess(l, name)
	if running {
		fd, err := unix.PidfdOpen(pid, 0)
		if err == nil {
			defer unix.Close(fd)
			err = endProcess(ctx, fd)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("stop %s (process %d): %w", name, pid, err)
		}
	}
	if err := os.Remove(l.pidFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func endProcess(ctx context.Context, pidfd int) error {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		// A process stopped by SIGSTOP must run to see SIGTERM.
		if err := errors.Join(unix.PidfdSendSignal(pidfd, sig, nil, 0), unix.PidfdSendSignal(pidfd, unix.SIGCONT, nil, 0)); err != nil {
			return err
		}
		deadline := time.Now().Add(stopGrace)
		for time.Now().Before(deadline) && ctx.Err() == nil {
			poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
			if n, err := unix.Poll(poll, 200); n > 0 {
				return nil
			} else if err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	}
	return errors.New("did not end after SIGKILL")
}

// processes lists the names with a pid file: nodes first, then the control
// plane with the API server last, which is the order to stop them in.
func processes(l Layout) ([]string, error) {
	files, err := filepath.Glob(l.path("run", "*.pid"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".pid"))
	}
	rank := func(name string) int {
		switch {
		case strings.HasPrefix(name, "node-"):
			return 0
		case name == "apiserver":
			return 2
		}
		return 1
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return names, nil
}

// lastLines returns the end of a log file for an error message.
func lastLines(path string, n int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// reaper collects orphans: processes of containers without a PID namespace of
// their own come to the shim, their nearest subreaper, when their parent dies.
// Children that somebody waits for are not its business.
type reaper struct {
	// starting is held for reading while a process is started, when children
	// exist that nobody has named yet.
	starting sync.RWMutex
	mu       sync.Mutex
	awaited  map[int]bool // guarded by mu
	wake     chan os.Signal
}

func newReaper() (*reaper, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become subreaper: %w", err)
	}
	r := &reaper{awaited: map[int]bool{}, wake: make(chan os.Signal, 1)}
	signal.Notify(r.wake, unix.SIGCHLD)
	return r, nil
}

// start runs a function that starts a process; the pid it returns (0 if none)
// is left to who waits for it, until forget.
func (r *reaper) start(f func() (pid int, err error)) error {
	r.starting.RLock()
	pid, err := f()
	if pid > 0 {
		r.mu.Lock()
		r.awaited[pid] = true
		r.mu.Unlock()
	}
	r.starting.RUnlock()
	select { // a scan may have been put off by this start
	case r.wake <- unix.SIGCHLD:
	default:
	}
	return err
}

func (r *reaper) forget(pid int) {
	r.mu.Lock()
	delete(r.awaited, pid)
	r.mu.Unlock()
}

// run reaps until the program ends.
func (r *reaper) run() {
	for range r.wake {
		if !r.starting.TryLock() {
			continue // the start's end wakes us again
		}
		err := r.scan()
		r.starting.Unlock()
		if err != nil {
			slog.Error("cannot reap orphans", "error", err)
		}
	}
}

func (r *reaper) scan() error {
	// Without CONFIG_PROC_CHILDREN the list is empty and orphans stay zombies
	// until the shim ends; every distribution has it.
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("list threads: %w", err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the thread ended
		}
		if err != nil {
			return fmt.Errorf("list children: %w", err)
		}
		for _, field := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return fmt.Errorf("list children: %w", err)
			}
			if err := r.reap(pid); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reaper) reap(pid int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.awaited[pid] {
		return nil
	}
	if _, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err != nil && !errors.Is(err, unix.ECHILD) && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("reap %d: %w", pid, err)
	}
	return nil
}

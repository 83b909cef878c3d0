package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// settle is how long to wait before looking again whether killed processes are
// gone: the kernel tears them down on its own time.
const settle = 5 * time.Millisecond

// Processes are those in a cgroup and below it; none if it is not there.
func (t *Tree) Processes(path string) ([]int, error) {
	seen := map[int]bool{}
	var all []int
	for _, point := range t.everywhere() {
		err := walk(filepath.Join(point, path), func(dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			if gone(err) {
				return nil
			}
			if err != nil {
				return err
			}
			for _, field := range strings.Fields(string(b)) {
				pid, err := strconv.Atoi(field)
				if err != nil {
					return err
				}
				if pid > 0 && !seen[pid] { // 0 is a process of another PID namespace
					seen[pid] = true
					all = append(all, pid)
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list processes of cgroup %s: %w", path, err)
		}
	}
	return all, nil
}

// Kill kills all processes of a cgroup and below, however fast they fork, and
// returns when they are gone or ctx ends. A cgroup that is not there has none.
func (t *Tree) Kill(ctx context.Context, path string) error {
	for {
		if err := t.killOnce(path); err != nil {
			return fmt.Errorf("kill cgroup %s: %w", path, err)
		}
		left, err := t.Processes(path)
		if err != nil || len(left) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kill cgroup %s: %d processes are left: %w", path, len(left), ctx.Err())
		case <-time.After(settle):
		}
	}
}

func (t *Tree) killOnce(path string) error {
	if t.V2() {
		err := write(filepath.Join(t.unified, path, "cgroup.kill"), "1")
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return ignoreGone(err)
		}
		// No such file: the cgroup is gone, or Linux is older than 5.14.
	}
	thaw, err := t.freeze(path)
	if err != nil {
		return err
	}
	pids, err := t.Processes(path)
	for _, pid := range pids {
		if kerr := unix.Kill(pid, unix.SIGKILL); kerr != nil && !errors.Is(kerr, unix.ESRCH) {
			err = errors.Join(err, kerr)
		}
	}
	return errors.Join(err, thaw())
}

// freeze stops a v1 cgroup, so that nothing forks while it is killed; the kill
// takes effect when it is thawed.
func (t *Tree) freeze(path string) (thaw func() error, err error) {
	file := t.file("freezer", path, "freezer.state")
	if t.V2() || file == "" {
		return func() error { return nil }, nil
	}
	if err := write(file, "FROZEN"); err != nil {
		if gone(err) {
			return func() error { return nil }, nil
		}
		return nil, err
	}
	return func() error { return ignoreGone(write(file, "THAWED")) }, nil
}

// Remove kills what runs in a cgroup and removes it and all below it, in all
// hierarchies. One that is not there is removed already.
func (t *Tree) Remove(ctx context.Context, path string) error {
	for {
		if err := t.Kill(ctx, path); err != nil {
			return err
		}
		busy, err := t.rmdir(path)
		if err != nil {
			return fmt.Errorf("remove cgroup %s: %w", path, err)
		}
		if !busy {
			return nil
		}
		select { // zombies hold it until they are reaped
		case <-ctx.Done():
			return fmt.Errorf("remove cgroup %s: it is still busy: %w", path, ctx.Err())
		case <-time.After(settle):
		}
	}
}

// RemoveChildren removes what is below a cgroup.
func (t *Tree) RemoveChildren(ctx context.Context, path string) error {
	children := map[string]bool{}
	for _, point := range t.everywhere() {
		entries, err := os.ReadDir(filepath.Join(point, path))
		if gone(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("list cgroup %s: %w", path, err)
		}
		for _, e := range entries {
			if e.IsDir() {
				children[e.Name()] = true
			}
		}
	}
	for name := range children {
		if err := t.Remove(ctx, filepath.Join(path, name)); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) rmdir(path string) (busy bool, err error) {
	for _, point := range t.everywhere() {
		var dirs []string
		err := walk(filepath.Join(point, path), func(dir string) error {
			dirs = append(dirs, dir)
			return nil
		})
		if err != nil {
			return false, err
		}
		slices.Reverse(dirs) // children first
		for _, dir := range dirs {
			err := unix.Rmdir(dir)
			switch {
			case errors.Is(err, unix.EBUSY), errors.Is(err, unix.ENOTEMPTY):
				busy = true
			case err != nil && !gone(err):
				return false, fmt.Errorf("rmdir %s: %w", dir, err)
			}
		}
	}
	return busy, nil
}

// walk visits a directory and all below it, parents first; what vanishes on
// the way is left out.
func walk(dir string, visit func(dir string) error) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if gone(err) {
			return nil
		}
		if err != nil || !e.IsDir() {
			return err
		}
		return visit(path)
	})
}

// gone reports that a cgroup is not there: ENODEV is what an open file of a
// removed cgroup gives.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }

func ignoreGone(err error) error {
	if gone(err) {
		return nil
	}
	return err
}

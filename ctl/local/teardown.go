package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Stop ends the components and all containers and removes the network, mounts
// and cgroups, and leaves the files. It may be repeated.
func Stop(ctx context.Context, l Layout) error {
	s, err := Load(l)
	if err != nil {
		return err
	}
	names, err := processes(l)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, stop(ctx, l, name))
	}
	errs = append(errs, killShims(l), killContainers(ctx, s), unmountBelow(l.path("nodes")), removeCgroups(s), restoreHost(s), removeNetwork(s))
	return errors.Join(errs...)
}

// Remove is Stop, and the files go too.
func Remove(ctx context.Context, l Layout) error {
	if err := Stop(ctx, l); err != nil && !errors.Is(err, ErrNoCluster) {
		return err
	}
	// Unmounted or not at all: never delete through a mount that is left.
	if left, err := mountsBelow(l.Dir); err != nil || len(left) > 0 {
		return errors.Join(err, fmt.Errorf("%s: still mounted: %s", l.Dir, strings.Join(left, " ")))
	}
	return os.RemoveAll(l.Dir)
}

// cgroupDirs are the directories of our cgroup in every mounted hierarchy
// (one on v2, one per controller on v1).
func (s Spec) cgroupDirs() []string {
	dirs := []string{filepath.Join("/sys/fs/cgroup", s.cgroup())}
	v1, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", s.cgroup())) // the pattern is right
	return append(dirs, v1...)
}

// killShims ends the parents of the nodes' containers, which outlive their
// kubelet: "kubelet-shim serve <directory below nodes/>".
func killShims(l Layout) error {
	cmdlines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range cmdlines {
		data, err := os.ReadFile(path)
		args := strings.Split(string(data), "\x00")
		if err != nil || len(args) < 3 || filepath.Base(args[0]) != "kubelet-shim" || args[1] != "serve" || !strings.HasPrefix(args[2], l.path("nodes")+"/") {
			continue // gone meanwhile, or another program
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("kill shim %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}

// killContainers sends SIGKILL to every process in our cgroups until none is
// left: the shims' containers, and shims that were put there.
func killContainers(ctx context.Context, s Spec) error {
	for range 200 {
		pids, err := cgroupProcesses(s)
		if err != nil || len(pids) == 0 {
			return err
		}
		for pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return errors.New("processes in the containers' cgroups did not end after SIGKILL")
}

func cgroupProcesses(s Spec) (map[int]bool, error) {
	pids := map[int]bool{}
	for _, dir := range s.cgroupDirs() {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return ignoreMissing(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return ignoreMissing(err)
			}
			for _, field := range strings.Fields(string(data)) {
				if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
					pids[pid] = true
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read cgroups: %w", err)
		}
	}
	return pids, nil
}

// ignoreMissing drops the errors of something that is going away.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

func removeCgroups(s Spec) error {
	var errs []error
	for _, root := range s.cgroupDirs() {
		var dirs []string
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return ignoreMissing(err)
		})
		errs = append(errs, err)
		for i := len(dirs) - 1; i >= 0; i-- { // children after parents in the walk
			errs = append(errs, ignoreMissing(removeCgroup(dirs[i])))
		}
	}
	return errors.Join(errs...)
}

// removeCgroup retries while the kernel still counts the last process.
func removeCgroup(dir string) error {
	var err error
	for range 50 {
		if err = unix.Rmdir(dir); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(20 * time.Millisecond) // the kernel gives no event for an emptied v1 cgroup
	}
	if err != nil {
		return fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	return nil
}

func unmountBelow(dir string) error {
	mounts, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range mounts {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m, err))
		}
	}
	return errors.Join(errs...)
}

// mountsBelow lists mount points below dir, deepest first.
func mountsBelow(dir string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var mounts []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := unescape(fields[4])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			mounts = append(mounts, point)
		}
	}
	sort.SliceStable(mounts, func(i, j int) bool { return len(mounts[i]) > len(mounts[j]) })
	return mounts, nil
}

// unescape undoes mountinfo's octal escapes of blank, tab, newline and backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Command guest is the first process of a guest made by package vm: it mounts
// what a system has, loads the modules, runs the commands of /commands and
// switches the machine off.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "run" {
		os.Exit(runAll())
	}
	code := 1
	err := setUp()
	if err == nil {
		code, err = runAndReap()
	}
	if err != nil {
		fmt.Println("guest:", err)
	}
	fmt.Printf("\nguest: exit %d\n", code)
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("guest: power off:", err)
	}
}

// runAndReap runs the commands in a child, so that this process can do what a
// first process is for: wait for orphans, whosever they are.
func runAndReap() (code int, err error) {
	child, err := os.StartProcess("/init", []string{"/init", "run"}, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stdout}, Env: os.Environ()})
	if err != nil {
		return 1, err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 1, err
		case pid == child.Pid:
			return status.ExitStatus(), nil
		}
	}
}

// leaveInitramfs moves everything to a tmpfs and makes that the root: the
// initial root cannot be left by pivot_root(2), which containers do.
func leaveInitramfs() error {
	const fresh = "/fresh"
	if err := os.Mkdir(fresh, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", fresh, "tmpfs", 0, "size=90%"); err != nil {
		return fmt.Errorf("mount the root: %w", err)
	}
	if err := moveFiles("/", fresh); err != nil {
		return err
	}
	if err := os.Chdir(fresh); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	return os.Chdir("/")
}

// moveFiles copies file by file and removes each source, as memory is short.
func moveFiles(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == from {
			return err
		}
		if path == to {
			return fs.SkipDir
		}
		target := filepath.Join(to, path)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		if !d.Type().IsRegular() {
			return nil // device nodes come from devtmpfs
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(target, data, info.Mode().Perm()); err != nil {
			return err
		}
		return os.Remove(path)
	})
}

func setUp() error {
	if err := leaveInitramfs(); err != nil {
		return err
	}
	for _, m := range []struct{ kind, target, options string }{
		{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"devtmpfs", "/dev", ""}, {"tmpfs", "/tmp", ""}, {"tmpfs", "/run", ""},
		{"tmpfs", "/var/lib", ""}, {"cgroup2", "/sys/fs/cgroup", "nsdelegate"}, {"devpts", "/dev/pts", "ptmxmode=0666"}, {"tmpfs", "/dev/shm", ""},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := unix.Mount(m.kind, m.target, m.kind, 0, m.options); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		fmt.Println("guest: share mounts:", err)
	}
	return loadModules()
}

func loadModules() error {
	modules, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	for _, path := range modules {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

func runAll() int {
	script, err := os.ReadFile("/commands")
	if err != nil {
		fmt.Println("guest:", err)
		return 1
	}
	for _, line := range strings.Split(strings.TrimSpace(string(script)), "\n") {
		args := strings.Split(line, "\x00")
		fmt.Println("guest: run", args)
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdout, cmd.Stderr, cmd.Dir = os.Stdout, os.Stdout, "/tmp"
		cmd.Env = append(os.Environ(), "PATH=/bin:/sbin:/usr/bin", "HOME=/root", "TMPDIR=/tmp")
		err := cmd.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() > 0 {
			return exit.ExitCode()
		}
		if err != nil {
			fmt.Println("guest:", err)
			return 1
		}
	}
	return 0
}

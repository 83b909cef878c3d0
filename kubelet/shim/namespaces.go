package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/shim/record"
	"github.com/skeg-dev/skeg/kubelet/shim/runc"
)

// namespaces are what a Pod's containers share. The shim pins them by open
// files, not by mounts: when it dies nothing is left to clean up.
type namespaces struct {
	paths runc.Namespaces
	shm   string
	files []*os.File // kept open for paths
	pause *pauseProcess
}

// newNamespaces makes them. The thread that does is in the new namespaces and
// ends with its goroutine.
func newNamespaces(dir record.Dir, spec container.SandboxSpec) (*namespaces, error) {
	n := &namespaces{shm: "/dev/shm"}
	n.paths.Net, n.paths.HostPID = spec.NetNS, spec.HostPID
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the runtime ends the thread
		done <- n.unshare(spec)
	}()
	if err := <-done; err != nil {
		return nil, err
	}
	if !spec.HostIPC {
		n.shm = dir.Shm()
		if err := mountShm(n.shm); err != nil {
			return nil, err
		}
	}
	if spec.SharePID && !spec.HostPID {
		pause, err := startPause()
		if err != nil {
			return nil, err
		}
		n.pause = pause
		n.paths.PID = fmt.Sprintf("/proc/%d/ns/pid", pause.cmd.Process.Pid)
	}
	return n, nil
}

func (n *namespaces) unshare(spec container.SandboxSpec) error {
	flags := 0
	if spec.Hostname != "" {
		flags |= unix.CLONE_NEWUTS
	}
	if !spec.HostIPC {
		flags |= unix.CLONE_NEWIPC
	}
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("create namespaces: %w", err)
	}
	var err error
	if spec.Hostname != "" {
		if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
			return fmt.Errorf("set hostname: %w", err)
		}
		if n.paths.UTS, err = n.pin("uts"); err != nil {
			return err
		}
	}
	if !spec.HostIPC {
		if n.paths.IPC, err = n.pin("ipc"); err != nil {
			return err
		}
	}
	return setSysctls(spec)
}

func (n *namespaces) pin(kind string) (string, error) {
	f, err := os.Open("/proc/thread-self/ns/" + kind)
	if err != nil {
		return "", fmt.Errorf("pin namespace: %w", err)
	}
	n.files = append(n.files, f)
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()), nil
}

// ipcSysctls are those of an IPC namespace (ipc_namespaces(7)), besides fs.mqueue.
var ipcSysctls = map[string]bool{
	"kernel.msgmax": true, "kernel.msgmnb": true, "kernel.msgmni": true, "kernel.sem": true, "kernel.shmall": true,
	"kernel.shmmax": true, "kernel.shmmni": true, "kernel.shm_rmid_forced": true,
}

// setSysctls sets a Pod's sysctls in its namespaces; the calling thread joins
// the network namespace. Those of the node are refused.
func setSysctls(spec container.SandboxSpec) error {
	if len(spec.Sysctls) == 0 {
		return nil
	}
	if spec.NetNS != "" {
		if err := joinNet(spec.NetNS); err != nil {
			return err
		}
	}
	for name, value := range spec.Sysctls {
		dotted := name
		if first := strings.IndexAny(name, "./"); first >= 0 && name[first] == '/' {
			dotted = strings.NewReplacer("/", ".", ".", "/").Replace(name)
		}
		ipc := ipcSysctls[dotted] || strings.HasPrefix(dotted, "fs.mqueue.")
		switch {
		case ipc && !spec.HostIPC:
		case strings.HasPrefix(dotted, "net.") && spec.NetNS != "":
		case dotted == "kernel.domainname" && spec.Hostname != "":
		default:
			return fmt.Errorf("%w: sysctl %q is not in a namespace of the Pod", container.ErrStart, name)
		}
		path := strings.NewReplacer(".", "/", "/", ".").Replace(dotted)
		if err := writeSysctl(path, value); err != nil {
			return fmt.Errorf("%w: sysctl %q: %w", container.ErrStart, name, err)
		}
	}
	return nil
}

func writeSysctl(path, value string) error {
	root, err := os.OpenRoot("/proc/sys")
	if err != nil {
		return err
	}
	f, err := root.OpenFile(filepath.Clean(path), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(value)
		err = errors.Join(err, f.Close())
	}
	return errors.Join(err, root.Close())
}

func joinNet(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("join network namespace: %w", err)
	}
	err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("join network namespace: %w", err)
	}
	return nil
}

// mountShm mounts the Pod's /dev/shm, of 64 MiB as every container runtime has
// it, anew if a shim that died left one.
func mountShm(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("create shm: %w", err)
	}
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount stale shm: %w", err)
	}
	if err := unix.Mount("shm", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777,size=65536k"); err != nil {
		return fmt.Errorf("mount shm: %w", err)
	}
	return nil
}

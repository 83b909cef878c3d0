//go:build linux

// Package netns makes network namespaces that outlive their maker, by bind
// mounting them on files, and runs functions inside them. The kubelet pins one
// per Pod; tests use it for nodes and peers. It starts one goroutine per call
// of Do or Create, for the duration of the call, because a thread whose
// namespace cannot be restored has to die with its goroutine.
package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// nsfsMagic is the statfs type of a namespace file (NSFS_MAGIC in
// include/uapi/linux/magic.h).
const nsfsMagic = 0x6e736673

const self = "/proc/thread-self/ns/net"

// Create makes a network namespace pinned at path, whose directory is made if
// need be. A namespace that is already there is left alone; a plain file left
// by a crash between making it and mounting is mounted over.
func Create(path string) error {
	pinned, err := Pinned(path)
	if err != nil || pinned {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make directory of network namespace: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY|unix.O_NOFOLLOW, 0o444)
	if err != nil {
		return fmt.Errorf("make mount point of network namespace: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("make mount point of network namespace: %w", err)
	}
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare network namespace: %w", err)
		}
		if err := unix.Mount(self, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("pin network namespace at %s: %w", path, err)
		}
		return nil
	})
}

// Pinned reports whether a namespace is mounted at path.
func Pinned(path string) (bool, error) {
	var st unix.Statfs_t
	err := unix.Statfs(path, &st)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("stat network namespace %s: %w", path, err)
	}
	return int64(st.Type) == nsfsMagic, nil
}

// Remove unpins the namespace at path, which ends it once no process and no
// socket is in it. Removing what is gone is a success.
func Remove(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err == nil {
			continue // mounts may be stacked after a crash
		}
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		return fmt.Errorf("unpin network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove mount point of network namespace: %w", err)
	}
	return nil
}

// Do runs fn on a thread inside the namespace at path; "" is the caller's own.
// Sockets fn opens stay in the namespace; goroutines it starts do not run
// there. It returns fn's error unchanged.
func Do(path string, fn func() error) error {
	if path == "" {
		return fn()
	}
	target, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer func() { _ = target.Close() }() // read-only, nothing to lose
	return onThread(func() error {
		if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", path, err)
		}
		return fn()
	})
}

// onThread runs fn on a locked thread that may change its network namespace
// and puts it back. If it cannot be put back, the thread ends with the
// goroutine instead of returning to the scheduler.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open(self)
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("open own network namespace: %w", err)
			return
		}
		defer func() { _ = home.Close() }() // read-only, nothing to lose
		err = fn()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

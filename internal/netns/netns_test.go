//go:build linux

package netns_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/skeg-dev/skeg/internal/netns"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
}

func create(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "netns", "pod")
	if err := netns.Create(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Remove(path); err != nil {
			t.Error(err)
		}
	})
	return path
}

func TestCreateIsIdempotentAndIsolated(t *testing.T) {
	needRoot(t)
	path := create(t)
	before := inode(t, path)
	if err := netns.Create(path); err != nil {
		t.Fatal(err)
	}
	if after := inode(t, path); after != before {
		t.Fatalf("second Create replaced the namespace: %s, was %s", after, before)
	}
	if own := inode(t, "/proc/self/ns/net"); own == before {
		t.Fatal("the namespace is the caller's own")
	}
	var inside []net.Interface
	err := netns.Do(path, func() (err error) {
		inside, err = net.Interfaces()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range inside {
		if link.Name == "eth0" {
			t.Fatalf("a new namespace has eth0: %v", inside)
		}
	}
}

func TestDoReturnsTheErrorAndTheThread(t *testing.T) {
	needRoot(t)
	path := create(t)
	own := inode(t, "/proc/thread-self/ns/net")
	boom := errors.New("boom")
	for range 20 {
		if err := netns.Do(path, func() error { return boom }); !errors.Is(err, boom) {
			t.Fatalf("got %v", err)
		}
		if now := inode(t, "/proc/thread-self/ns/net"); now != own {
			t.Fatalf("caller moved to %s", now)
		}
	}
}

func TestRemoveTwice(t *testing.T) {
	needRoot(t)
	path := create(t)
	for range 2 {
		if err := netns.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("mount point is still there: %v", err)
	}
}

func inode(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	stat, err := identity(info)
	if err != nil {
		t.Fatal(err)
	}
	return stat
}

// identity names a namespace by device and inode, as namespaces(7) says to.
func identity(info os.FileInfo) (string, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", errors.New("no inode for file")
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino), nil
}

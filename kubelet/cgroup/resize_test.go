package cgroup

import (
	"bufio"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skeg-dev/skeg/kubelet/container"
)

func TestResize(t *testing.T) {
	t.Parallel()
	tree := newTree(t)
	pod := tree.Pod("one", Burstable)
	child := filepath.Join(pod, "web_0")
	sized := func(quota, memory int64) container.Resources {
		return container.Resources{CPUShares: 512, CPUQuotaMicros: quota, MemoryLimitBytes: memory}
	}
	for _, path := range []string{pod, child} {
		if err := tree.Ensure(path, sized(50_000, 64<<20)); err != nil {
			t.Fatal(err)
		}
	}
	// Up and down again: on v1 the kernel refuses a child more than its parent has.
	for _, size := range []container.Resources{sized(100_000, 128<<20), sized(20_000, 32<<20)} {
		if err := tree.Resize(pod, size, map[string]container.Resources{child: size}); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{pod, child} {
			if s, err := tree.Stats(path); err != nil || s.MemoryLimitBytes != uint64(size.MemoryLimitBytes) {
				t.Errorf("%s: stats %+v, %v", path, s, err)
			}
		}
	}
	if err := tree.Resize(pod, sized(0, 0), map[string]container.Resources{child + "-missing": sized(0, 1<<20)}); err == nil {
		t.Error("resized what is missing")
	}
	// Below what is in use: refused, and nothing has changed.
	used := occupied(t, tree, child)
	if err := tree.Resize(pod, sized(0, 0), map[string]container.Resources{child: sized(0, used/2)}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("limit below use: %v", err)
	}
	if s, err := tree.Stats(child); err != nil || s.MemoryLimitBytes != 32<<20 {
		t.Errorf("after the refusal: %+v, %v", s, err)
	}
}

// occupied puts a process that holds memory into a cgroup, and returns what is
// in use.
func occupied(t *testing.T, tree *Tree, path string) int64 {
	t.Helper()
	procs := tree.file("memory", path, "cgroup.procs")
	cmd := exec.Command("/bin/sh", "-c", "echo 0 > "+procs+"; x=$(head -c 1000000 /dev/zero | tr '\\0' a); echo holding; read y")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(stdin.Close(), ignoreExit(cmd.Wait())); err != nil {
			t.Error(err)
		}
	})
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	s, err := tree.Stats(path)
	if err != nil || s.MemoryUsageBytes == 0 {
		t.Fatalf("nothing in use: %+v, %v", s, err)
	}
	return int64(s.MemoryUsageBytes)
}

// ignoreExit takes an exit status of the shell, whose input ended, for success.
func ignoreExit(err error) error {
	var status *exec.ExitError
	if errors.As(err, &status) {
		return nil
	}
	return err
}

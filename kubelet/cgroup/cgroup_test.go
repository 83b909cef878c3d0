package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/container"
)

func newTree(t *testing.T) *Tree {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("cgroups need root")
	}
	name := "/skeg-cgroup-test-" + fmt.Sprint(os.Getpid()) + "-" + strings.ToLower(t.Name())
	tree, err := New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := tree.Remove(ctx, name); err != nil {
			t.Error(err)
		}
		for _, point := range tree.everywhere() {
			if _, err := os.Stat(filepath.Join(point, name)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("left in %s: %v", point, err)
			}
		}
	})
	return tree
}

func TestPodsAndLimits(t *testing.T) {
	t.Parallel()
	tree := newTree(t)
	for range 2 {
		if err := tree.EnsureClasses(); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]QoS{}
	for uid, q := range map[string]QoS{"one": Guaranteed, "two": Burstable, "three": BestEffort} {
		path := tree.Pod(types.UID(uid), q)
		want[path] = q
		if err := tree.Ensure(path, container.Resources{CPUShares: 512, CPUQuotaMicros: 50_000, MemoryLimitBytes: 64 << 20, PidsLimit: 100}); err != nil {
			t.Fatal(err)
		}
	}
	pods, err := tree.Pods()
	if err != nil || len(pods) != len(want) {
		t.Fatalf("pods %v, %v", pods, err)
	}
	for _, p := range pods {
		if want[p.Path] != p.QoS || "pod"+string(p.UID) != filepath.Base(p.Path) {
			t.Errorf("pod %+v", p)
		}
	}
	path := pods[0].Path
	if s, err := tree.Stats(path); err != nil || s.MemoryLimitBytes != 64<<20 {
		t.Errorf("stats %+v, %v", s, err)
	}
	if err := tree.Ensure(path, container.Resources{}); err != nil {
		t.Fatal(err)
	}
	if s, err := tree.Stats(path); err != nil || s.MemoryLimitBytes != 0 {
		t.Errorf("stats without a limit %+v, %v", s, err)
	}
	if _, err := tree.Stats(path + "-missing"); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("stats of nothing: %v", err)
	}
}

func TestKillAndRemove(t *testing.T) {
	t.Parallel()
	tree := newTree(t)
	pod := tree.Pod("uid", Burstable)
	child := filepath.Join(pod, "main_0")
	if err := tree.Ensure(child, container.Resources{PidsLimit: 30}); err != nil {
		t.Fatal(err)
	}
	// A process that forks as fast as it can, in all hierarchies.
	var procs []string
	for _, point := range tree.everywhere() {
		if _, err := os.Stat(filepath.Join(point, child)); err == nil {
			procs = append(procs, filepath.Join(point, child, "cgroup.procs"))
		}
	}
	script := "for f in " + strings.Join(procs, " ") + "; do echo 0 > $f || exit 1; done; f() { f & f; }; f; sleep 1000"
	cmd := exec.Command("/bin/sh", "-c", script)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	deadline := time.After(time.Minute)
	for many := false; !many; {
		select {
		case <-deadline:
			t.Fatal("the processes do not show up")
		case <-time.After(time.Millisecond):
		}
		pids, err := tree.Processes(pod)
		if err != nil {
			t.Fatal(err)
		}
		many = len(pids) > 5
	}
	if err := tree.RemoveChildren(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	<-ended
	if tree.Exists(child) || !tree.Exists(pod) {
		t.Errorf("child is there: %v, pod: %v", tree.Exists(child), tree.Exists(pod))
	}
	for range 2 {
		if err := tree.Remove(t.Context(), pod); err != nil {
			t.Error(err)
		}
		if err := tree.Kill(t.Context(), pod); err != nil {
			t.Error(err)
		}
	}
}

func TestMountinfo(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct":              "/sys/fs/cgroup/cpu,cpuacct [cpu cpuacct]",
		"31 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,release_agent=/lib/agent,name=systemd": "/sys/fs/cgroup/systemd [name=systemd]",
		"32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw":                                            " []",
		"33 25 0:29 / /elsewhere/memory rw - cgroup cgroup rw,memory":                                            " []",
		"torn line": " []",
	} {
		point, controllers := v1Mount(line)
		if got := fmt.Sprint(point, " ", controllers); got != want {
			t.Errorf("%q is %q, want %q", line, got, want)
		}
	}
	if got := hybridMount("32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"); got != "/sys/fs/cgroup/unified" {
		t.Errorf("hybrid %q", got)
	}
}

package shimclient

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/skeg-dev/skeg/kubelet/cgroup"
	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/container/containertest"
)

// Set up by TestMain for all tests: they share a shim binary, a root file
// system and a cgroup.
var (
	shimPath string
	rootfs   string
	tree     *cgroup.Tree
)

func TestMain(m *testing.M) {
	code, err := setUp(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func setUp(m *testing.M) (code int, err error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("containers need root: run these tests as root")
	}
	dir, err := os.MkdirTemp("", "shimclient-test-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if shimPath, err = buildShim(dir); err != nil {
		return 0, err
	}
	rootfs = filepath.Join(dir, "rootfs")
	if err := makeRootfs(rootfs); err != nil {
		return 0, err
	}
	if tree, err = cgroup.New(fmt.Sprintf("/skeg-shimclient-test-%d", os.Getpid())); err != nil {
		return 0, err
	}
	code = m.Run()
	return code, tree.Remove(context.Background(), filepath.Dir(tree.Root()))
}

// buildShim makes the shim, unless SKEG_SHIM names one: a guest has no
// compiler.
func buildShim(dir string) (string, error) {
	if path := os.Getenv("SKEG_SHIM"); path != "" {
		return path, nil
	}
	path := filepath.Join(dir, "kubelet-shim")
	build := exec.Command("go", "build", "-tags", "seccomp netgo osusergo", "-ldflags", `-extldflags "-static"`,
		"-o", path, "../../shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build shim: %w: %s", err, out)
	}
	return path, nil
}

// makeRootfs is a root file system of busybox alone.
func makeRootfs(dir string) error {
	for _, d := range []string{"bin", "proc", "sys", "dev", "etc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return fmt.Errorf("the tests need the package busybox-static: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), busybox, 0o755); err != nil {
		return err
	}
	for _, applet := range []string{"sh", "cat", "echo", "sleep", "true", "false", "id", "hostname", "mount", "ls", "stty", "dd", "tail", "readlink", "grep", "touch", "ps", "kill", "mknod", "ipcs", "head", "chroot"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", applet)); err != nil {
			return err
		}
	}
	files := map[string]string{
		"etc/passwd":       "root:x:0:0:root:/root:/bin/sh\n",
		"bin/not-allowed":  "#!/bin/sh\n",
		"bin/not-a-binary": "this is no program\x00\x01\n",
	}
	for name, content := range files {
		mode := os.FileMode(0o644)
		if name == "bin/not-a-binary" {
			mode = 0o755
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			return err
		}
	}
	return nil
}

// newClient is a client on a root of its own.
func newClient(t *testing.T, root string) *Client {
	t.Helper()
	c, err := New(Config{Root: root, ShimPath: shimPath, Cgroups: tree})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func fixture(t *testing.T) containertest.Fixture {
	root := t.TempDir()
	return containertest.Fixture{
		Runtime: newClient(t, root),
		Rootfs:  rootfs,
		Sandbox: sandbox,
		Reopen:  func(t *testing.T) container.Runtime { return newClient(t, root) },
	}
}

// sandbox gives a sandbox its cgroup.
func sandbox(t *testing.T, spec container.SandboxSpec) container.SandboxSpec {
	t.Helper()
	spec.CgroupParent = tree.Pod(spec.Pod, cgroup.Burstable)
	if err := tree.Ensure(spec.CgroupParent, container.Resources{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Runs before the sandbox is removed, or after; either is an order the
		// kubelet could die in.
		if err := tree.Remove(context.Background(), spec.CgroupParent); err != nil {
			t.Error(err)
		}
	})
	return spec
}

func TestContract(t *testing.T) {
	t.Parallel()
	containertest.Suite(t, fixture)
}

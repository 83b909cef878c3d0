package vm

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// bootTimeout is generous: the guest is emulated, and the machine may be busy.
const bootTimeout = 15 * time.Minute

// guest runs and fails the test with the guest's output.
func guest(t *testing.T, c Config) string {
	t.Helper()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Fatalf("needs QEMU (apt-get install qemu-system-x86): %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bootTimeout)
	defer cancel()
	out, code, err := Run(ctx, c)
	if errors.Is(err, ErrNoKernel) {
		t.Skipf("the guest's kernel is Debian's: %v", err)
	}
	if err != nil || code != 0 {
		t.Fatalf("exit code %d, %v\n%s", code, err, out)
	}
	return out
}

// build makes a static test binary of a package of the workspace.
func build(t *testing.T, pkg, out string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), out)
	cmd := exec.Command("go", "test", "-c", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build tests of %s: %v\n%s", pkg, err, text)
	}
	return path
}

func TestExitCodeOfTheFirstFailure(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), bootTimeout)
	defer cancel()
	out, code, err := Run(ctx, Config{
		Files:    map[string]string{"/bin/busybox": "/bin/busybox"},
		Commands: [][]string{{"/bin/busybox", "cat", "/sys/fs/cgroup/cgroup.controllers"}, {"/bin/busybox", "sh", "-c", "exit 7"}, {"/bin/busybox", "echo", "too far"}},
	})
	if errors.Is(err, ErrNoKernel) {
		t.Skipf("the guest's kernel is Debian's: %v", err)
	}
	if err != nil || code != 7 || strings.Contains(out, "too far") && !strings.Contains(out, "guest: run") {
		t.Fatalf("code %d, %v\n%s", code, err, out)
	}
	if !strings.Contains(out, "memory") || !strings.Contains(out, "pids") {
		t.Errorf("cgroup v2 is not whole:\n%s", out)
	}
}

// kernelModules are what a node needs that Debian's kernel has as modules.
var kernelModules = []string{
	"overlay", "veth", "bridge", "dummy", "br_netfilter", "vxlan",
	"nf_tables", "nft_ct", "nft_nat", "nft_masq", "nft_chain_nat", "nft_fib_ipv4", "nft_fib_ipv6", "nft_fib_inet", "nft_numgen", "nft_reject_ipv4", "nft_reject_ipv6", "nft_reject_inet", "nft_redir", "nft_hash",
	"nf_conntrack", "nf_conntrack_netlink", "ip_vs", "ip_vs_rr", "ip_vs_sh", "xt_conntrack",
}

func TestContainersOnCgroupV2(t *testing.T) {
	shim := filepath.Join(t.TempDir(), "kubelet-shim")
	cmd := exec.Command("go", "build", "-tags", "seccomp netgo osusergo", "-ldflags", `-s -w -extldflags "-static"`, "-o", shim, "github.com/skeg-dev/skeg/kubelet/shim")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build shim: %v\n%s", err, text)
	}
	out := guest(t, Config{
		Modules: kernelModules,
		Files: map[string]string{
			"/bin/busybox": "/bin/busybox", "/bin/sh": "/bin/busybox", "/bin/sleep": "/bin/busybox", "/bin/cat": "/bin/busybox",
			"/bin/kubelet-shim":    shim,
			"/bin/cgroup.test":     build(t, "github.com/skeg-dev/skeg/kubelet/cgroup", "cgroup.test"),
			"/bin/shimclient.test": build(t, "github.com/skeg-dev/skeg/kubelet/container/shimclient", "shimclient.test"),
		},
		Commands: [][]string{
			{"/bin/cgroup.test", "-test.v"},
			{"/bin/busybox", "env", "SKEG_SHIM=/bin/kubelet-shim", "/bin/shimclient.test", "-test.v"},
		},
	})
	if n := strings.Count(out, "\n--- PASS"); n < 10 {
		t.Errorf("only %d tests passed:\n%s", n, out)
	}
	t.Logf("%d tests passed in the guest", strings.Count(out, "--- PASS"))
}

func TestIPVS(t *testing.T) {
	out := guest(t, Config{
		Modules:  kernelModules,
		Files:    map[string]string{"/bin/ipvs.test": build(t, "github.com/skeg-dev/skeg/proxy/backend/ipvs", "ipvs.test")},
		Commands: [][]string{{"/bin/ipvs.test", "-test.v", "-test.run", "TestKernel"}},
	})
	if strings.Contains(out, "--- SKIP") || !strings.Contains(out, "--- PASS: TestKernel") {
		t.Errorf("the packets were not sent:\n%s", out)
	}
}

// Package vm boots a guest kernel, for what the machine of the tests may lack:
// IPVS, cgroup v2. The kernel is Debian's, from its package, run by QEMU without
// hardware acceleration; the root is an initramfs of static programs whose
// first process, hack/vm/guest, loads modules, runs the commands and switches
// the guest off. It starts no goroutines of its own; the guest has no network
// but its own loopback.
package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Config of one run.
type Config struct {
	// Files are copied into the guest: path there to path here.
	Files map[string]string
	// Modules are loaded with those they depend on ("ip_vs_rr").
	Modules []string
	// Commands run one after another, until one fails.
	Commands [][]string
	// MemoryMiB is 2048 when 0.
	MemoryMiB int
}

// exitLine is what the guest prints at the end.
var exitLine = regexp.MustCompile(`(?m)^guest: exit (\d+)\r?$`)

// ErrGuest is wrapped when the guest ended without saying how its commands did.
var ErrGuest = errors.New("guest ended without a result")

// Run boots the guest and returns what it printed and the exit code of the
// first command that failed, or 0. ctx bounds it.
func Run(ctx context.Context, c Config) (output string, code int, err error) {
	dir, err := os.MkdirTemp("", "skeg-vm-")
	if err != nil {
		return "", 0, err
	}
	defer os.RemoveAll(dir)
	k, err := findKernel(ctx)
	if err != nil {
		return "", 0, err
	}
	initrd := filepath.Join(dir, "initrd")
	if err := c.writeInitramfs(ctx, k, dir, initrd); err != nil {
		return "", 0, err
	}
	memory := c.MemoryMiB
	if memory == 0 {
		memory = 2048
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", strconv.Itoa(memory),
		"-nographic", "-no-reboot", "-nic", "none", "-kernel", k.image, "-initrd", initrd,
		"-append", "console=ttyS0 panic=-1 quiet systemd.unified_cgroup_hierarchy=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	output = strings.ReplaceAll(out.String(), "\r\n", "\n")
	match := exitLine.FindStringSubmatch(output)
	if match == nil {
		return output, 0, fmt.Errorf("run guest: %w", errors.Join(ErrGuest, err, ctx.Err()))
	}
	code, err = strconv.Atoi(match[1])
	return output, code, err
}

// writeInitramfs makes the guest's root.
func (c *Config) writeInitramfs(ctx context.Context, k *kernel, dir, path string) error {
	init := filepath.Join(dir, "init")
	build := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", init, "github.com/skeg-dev/skeg/hack/vm/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest's first process: %w\n%s", err, out)
	}
	modules, err := k.order(c.Modules)
	if err != nil {
		return err
	}
	a := &archive{}
	for _, d := range []string{"proc", "sys", "dev", "tmp", "run", "etc", "root", "modules", "var", "var/log", "var/lib"} {
		a.dir(d)
	}
	if err := a.file("init", init); err != nil {
		return err
	}
	for i, m := range modules {
		if err := a.file(fmt.Sprintf("modules/%04d-%s", i, filepath.Base(m)), m); err != nil {
			return err
		}
	}
	for there, here := range c.Files {
		if err := a.file(strings.TrimPrefix(there, "/"), here); err != nil {
			return err
		}
	}
	var script strings.Builder
	for _, command := range c.Commands {
		script.WriteString(strings.Join(command, "\x00") + "\n")
	}
	a.bytes("commands", []byte(script.String()), 0o644)
	a.bytes("etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o644)
	a.bytes("etc/group", []byte("root:x:0:\n"), 0o644)
	return os.WriteFile(path, a.done(), 0o600)
}

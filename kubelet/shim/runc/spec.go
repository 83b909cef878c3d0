package runc

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// defaultPath is the PATH of a container whose image sets none, as containerd
// and runc have it.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// ociSpec is the container as an OCI runtime specification.
func ociSpec(cfg Config) (*specs.Spec, error) {
	s := cfg.Spec
	if len(s.Args) == 0 {
		return nil, errors.New("no command")
	}
	caps, err := capabilitySet(s.Security)
	if err != nil {
		return nil, err
	}
	adj, err := oomScoreAdj(s.Resources.OOMScoreAdj)
	if err != nil {
		return nil, err
	}
	spec := &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: s.Rootfs, Readonly: s.Security.ReadOnlyRoot},
		Process: &specs.Process{
			Args:            s.Args,
			Cwd:             workingDir(s),
			Terminal:        s.TTY,
			User:            specs.User{UID: uint32(s.Security.UID), GID: uint32(s.Security.GID)},
			NoNewPrivileges: s.Security.NoNewPrivileges,
			OOMScoreAdj:     &adj,
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps},
		},
		Linux: &specs.Linux{
			Namespaces:  namespaces(cfg.Namespaces),
			CgroupsPath: cfg.Cgroup,
			Resources:   resources(s.Resources),
		},
	}
	spec.Mounts, spec.Linux.RootfsPropagation = mounts(cfg)
	if err := devices(spec, s); err != nil {
		return nil, err
	}
	return spec, restrict(spec, s.Security)
}

func workingDir(s container.Spec) string {
	if s.WorkingDir == "" {
		return "/"
	}
	return s.WorkingDir
}

// environment adds what every container has: PATH, HOSTNAME, and TERM with a
// terminal. What the caller sets wins.
func environment(env []string, hostname string, tty bool) []string {
	has := func(name string) bool {
		return slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	}
	full := slices.Clone(env)
	if !has("PATH") {
		full = append(full, defaultPath)
	}
	if hostname != "" && !has("HOSTNAME") {
		full = append(full, "HOSTNAME="+hostname)
	}
	if tty && !has("TERM") {
		full = append(full, "TERM=xterm")
	}
	return full
}

func namespaces(n Namespaces) []specs.LinuxNamespace {
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	for _, ns := range []specs.LinuxNamespace{
		{Type: specs.NetworkNamespace, Path: n.Net},
		{Type: specs.UTSNamespace, Path: n.UTS},
		{Type: specs.IPCNamespace, Path: n.IPC},
	} {
		if ns.Path != "" {
			list = append(list, ns)
		}
	}
	if !n.HostPID {
		list = append(list, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: n.PID})
	}
	if cgroups.IsCgroup2UnifiedMode() {
		list = append(list, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return list
}

func resources(r container.Resources) *specs.LinuxResources {
	out := &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: r.CpusetCPUs}}
	if r.CPUShares > 0 {
		out.CPU.Shares = &r.CPUShares
	}
	if r.CPUQuotaMicros > 0 {
		out.CPU.Quota = &r.CPUQuotaMicros
		if r.CPUPeriodMicros > 0 {
			out.CPU.Period = &r.CPUPeriodMicros
		}
	}
	if r.MemoryLimitBytes > 0 {
		out.Memory = &specs.LinuxMemory{Limit: &r.MemoryLimitBytes}
		if cgroups.IsCgroup2UnifiedMode() {
			// Equal to the limit: no swap, as the kubelet's default (NoSwap) has it.
			// One victim takes the whole container, so that it is seen to fail.
			out.Memory.Swap = &r.MemoryLimitBytes
			out.Unified = map[string]string{"memory.oom.group": "1"}
		}
	}
	if r.PidsLimit > 0 {
		out.Pids = &specs.LinuxPids{Limit: &r.PidsLimit}
	}
	for size, bytes := range r.HugepageLimits {
		out.HugepageLimits = append(out.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: size, Limit: bytes})
	}
	return out
}

// oomScoreAdj lowers the wish to what the kernel permits this process: without
// CAP_SYS_RESOURCE nothing below its own value (proc_pid_oom_score_adj(5)).
func oomScoreAdj(want int) (int, error) {
	may, err := has(unix.CAP_SYS_RESOURCE)
	if err != nil || may {
		return want, err
	}
	b, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return 0, fmt.Errorf("read own OOM score: %w", err)
	}
	own, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("read own OOM score: %w", err)
	}
	return max(want, own), nil
}

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// defaults of the kernel (Documentation/scheduler/sched-bwc.rst, cpu.shares).
const (
	defaultShares       = 1024
	defaultPeriodMicros = 100_000
)

// EnsureClasses makes the cgroups above the Pods', with the shares Kubernetes
// gives their classes: BestEffort the least there is.
func (t *Tree) EnsureClasses() error {
	for path, shares := range map[string]uint64{t.Root(): defaultShares, t.Class(Burstable): 2, t.Class(BestEffort): 2} {
		if t.Exists(path) {
			continue // shares of a running node are not reset
		}
		if err := t.Ensure(path, container.Resources{CPUShares: shares}); err != nil {
			return err
		}
	}
	return nil
}

// Ensure makes a cgroup and its parents where they are missing and sets its
// limits: of Resources CPU shares, quota and period, memory, pids and cpus;
// zero takes a limit away. It may be repeated, also to change limits.
func (t *Tree) Ensure(path string, r container.Resources) error {
	if err := t.mkdir(path); err != nil {
		return fmt.Errorf("create cgroup %s: %w", path, err)
	}
	if err := t.set(path, r); err != nil {
		return fmt.Errorf("limit cgroup %s: %w", path, err)
	}
	return nil
}

// Resize changes the limits of a Pod's cgroup and of containers' below it, by
// path. The Pod's are loosened first and set last, since on v1 no child may
// have more than its parent. A memory limit below what is in use is refused:
// it would kill processes.
func (t *Tree) Resize(pod string, r container.Resources, containers map[string]container.Resources) error {
	for path, limits := range containers {
		if limits.MemoryLimitBytes <= 0 {
			continue
		}
		stats, err := t.Stats(path)
		if err != nil {
			return err
		}
		if used := stats.MemoryUsageBytes; used > uint64(limits.MemoryLimitBytes) {
			return fmt.Errorf("limit cgroup %s: memory in use, %d, is above the new limit, %d", path, used, limits.MemoryLimitBytes)
		}
	}
	loose := r
	loose.CPUQuotaMicros, loose.MemoryLimitBytes = 0, 0
	if err := t.set(pod, loose); err != nil {
		return fmt.Errorf("loosen cgroup %s: %w", pod, err)
	}
	for path, limits := range containers {
		if err := t.set(path, limits); err != nil {
			return fmt.Errorf("limit cgroup %s: %w", path, err)
		}
	}
	if err := t.set(pod, r); err != nil {
		return fmt.Errorf("limit cgroup %s: %w", pod, err)
	}
	return nil
}

func (t *Tree) mkdir(path string) error {
	for _, point := range t.points() {
		dir := point
		for _, part := range strings.Split(strings.Trim(path, "/"), "/") {
			if t.V2() {
				if err := delegate(dir); err != nil {
					return err
				}
			}
			parent := dir
			dir = filepath.Join(dir, part)
			err := os.Mkdir(dir, 0o755)
			if err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			if point == t.v1["cpuset"] {
				if err := inheritCpuset(parent, dir); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// delegate lets a v2 cgroup's children use the controllers it has.
func delegate(dir string) error {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	on, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	enabled := " " + strings.TrimSpace(string(on)) + " "
	for _, c := range strings.Fields(string(have)) {
		if strings.Contains(enabled, " "+c+" ") {
			continue
		}
		err := write(filepath.Join(dir, "cgroup.subtree_control"), "+"+c)
		if errors.Is(err, unix.EBUSY) && wanted(c) {
			return fmt.Errorf("enable controller %s: the cgroup itself holds processes (cgroup v2 wants them in a child): %w", c, err)
		}
		if err != nil && wanted(c) {
			return fmt.Errorf("enable controller %s: %w", c, err)
		}
	}
	return nil
}

func wanted(controller string) bool {
	return controller == "cpu" || controller == "memory" || controller == "pids"
}

// inheritCpuset gives a new v1 cpuset its parent's: an empty one takes no process.
func inheritCpuset(parent, dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(own)) != "" {
			continue
		}
		from, err := os.ReadFile(filepath.Join(parent, name))
		if err != nil {
			return err
		}
		if err := write(filepath.Join(dir, name), strings.TrimSpace(string(from))); err != nil {
			return err
		}
	}
	return nil
}

// setting is a value for a file; optional ones may have no such file.
type setting struct {
	controller, file, value string
	optional                bool
}

func (t *Tree) set(path string, r container.Resources) error {
	settings := v1Settings(r)
	if t.V2() {
		settings = v2Settings(r)
	}
	if r.CpusetCPUs != "" {
		settings = append(settings, setting{"cpuset", "cpuset.cpus", r.CpusetCPUs, false})
	}
	for _, s := range settings {
		file := t.file(s.controller, path, s.file)
		if file == "" && s.optional {
			continue
		}
		if file == "" {
			return fmt.Errorf("controller %s is not mounted", s.controller)
		}
		if err := write(file, s.value); err != nil && !(s.optional && errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return nil
}

func v1Settings(r container.Resources) []setting {
	return []setting{
		{"cpu", "cpu.shares", strconv.FormatUint(orDefault(r.CPUShares, defaultShares), 10), false},
		{"cpu", "cpu.cfs_period_us", strconv.FormatUint(orDefault(r.CPUPeriodMicros, defaultPeriodMicros), 10), true},
		{"cpu", "cpu.cfs_quota_us", limit(r.CPUQuotaMicros, "-1"), true},
		{"memory", "memory.limit_in_bytes", limit(r.MemoryLimitBytes, "-1"), false},
		{"pids", "pids.max", limit(r.PidsLimit, "max"), r.PidsLimit <= 0},
	}
}

func v2Settings(r container.Resources) []setting {
	shares := orDefault(r.CPUShares, defaultShares)
	period := strconv.FormatUint(orDefault(r.CPUPeriodMicros, defaultPeriodMicros), 10)
	return []setting{
		{"cpu", "cpu.weight", strconv.FormatUint(cgroups.ConvertCPUSharesToCgroupV2Value(shares), 10), false},
		{"cpu", "cpu.max", limit(r.CPUQuotaMicros, "max") + " " + period, true},
		{"memory", "memory.max", limit(r.MemoryLimitBytes, "max"), false},
		{"pids", "pids.max", limit(r.PidsLimit, "max"), r.PidsLimit <= 0},
	}
}

func orDefault(n, otherwise uint64) uint64 {
	if n == 0 {
		return otherwise
	}
	return n
}

func limit(n int64, none string) string {
	if n <= 0 {
		return none
	}
	return strconv.FormatInt(n, 10)
}

// write sets a control file; the kernel takes a value in one write.
func write(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("set %s to %q: %w", path, value, err)
	}
	return nil
}

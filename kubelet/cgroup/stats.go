package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Stats is a cgroup's use of resources, of all below it too. A file that is
// not there (the controller is off, or at the top of v2) counts 0; a cgroup
// that is not there is container.ErrNotFound. ID is left to the caller.
func (t *Tree) Stats(path string) (container.Stats, error) {
	if !t.Exists(path) {
		return container.Stats{}, fmt.Errorf("read cgroup %s: %w", path, container.ErrNotFound)
	}
	r := reader{t: t, path: path}
	s := container.Stats{At: time.Now()}
	var inactive uint64
	if t.V2() {
		s.CPUUsageNanos = r.keyed("cpu", "cpu.stat")["usage_usec"] * 1000
		memory := r.keyed("memory", "memory.stat")
		s.MemoryUsageBytes, s.MemoryLimitBytes = r.number("memory", "memory.current"), r.number("memory", "memory.max")
		s.MemoryRSSBytes, inactive = memory["anon"], memory["inactive_file"]
		s.PageFaults, s.MajorPageFaults = memory["pgfault"], memory["pgmajfault"]
	} else {
		s.CPUUsageNanos = r.number("cpuacct", "cpuacct.usage")
		memory := r.keyed("memory", "memory.stat")
		s.MemoryUsageBytes, s.MemoryLimitBytes = r.number("memory", "memory.usage_in_bytes"), r.number("memory", "memory.limit_in_bytes")
		s.MemoryRSSBytes, inactive = memory["total_rss"], memory["total_inactive_file"]
		s.PageFaults, s.MajorPageFaults = memory["total_pgfault"], memory["total_pgmajfault"]
	}
	s.Pids = r.number("pids", "pids.current")
	// What the kernel can take back at once is not in use: cAdvisor's definition
	// of the working set, which eviction and dashboards go by.
	s.MemoryWorkingSetBytes = s.MemoryUsageBytes - min(inactive, s.MemoryUsageBytes)
	if r.err != nil {
		return container.Stats{}, fmt.Errorf("read cgroup %s: %w", path, r.err)
	}
	return s, nil
}

// Throttling is a cgroup's CPU bandwidth: how many periods it ran in, in how
// many it was held back, and for how long in all.
type Throttling struct {
	Periods, Throttled uint64
	ThrottledFor       time.Duration
}

// Throttling reads it.
func (t *Tree) Throttling(path string) (Throttling, error) {
	r := reader{t: t, path: path}
	m := r.keyed("cpu", "cpu.stat")
	if r.err != nil {
		return Throttling{}, fmt.Errorf("read cgroup %s: %w", path, r.err)
	}
	nanos := m["throttled_time"] + m["throttled_usec"]*1000 // one or the other
	return Throttling{Periods: m["nr_periods"], Throttled: m["nr_throttled"], ThrottledFor: time.Duration(nanos)}, nil
}

// reader reads control files until one fails.
type reader struct {
	t    *Tree
	path string
	err  error
}

func (r *reader) text(controller, name string) string {
	file := r.t.file(controller, r.path, name)
	if file == "" || r.err != nil {
		return ""
	}
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.err = err
	}
	return strings.TrimSpace(string(b))
}

// unlimited is where v1 shows "no limit": the largest page-aligned number.
const unlimited = math.MaxInt64 &^ 0xffff

func (r *reader) number(controller, name string) uint64 {
	text := r.text(controller, name)
	if text == "" || text == "max" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		r.err = fmt.Errorf("%s: %w", name, err)
	}
	if n >= unlimited {
		return 0
	}
	return n
}

func (r *reader) keyed(controller, name string) map[string]uint64 {
	m := map[string]uint64{}
	for line := range strings.Lines(r.text(controller, name)) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			continue
		}
		n, err := strconv.ParseUint(fields[1], 10, 64)
		if err != nil {
			continue // signed or textual entries are none of ours
		}
		m[fields[0]] = n
	}
	return m
}

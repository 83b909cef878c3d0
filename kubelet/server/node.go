//go:build linux

package server

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// nodeStats is the whole machine, under the empty ID.
type nodeStats struct {
	container.Stats
	bootedAt time.Time
	maxPIDs  int64
}

// userHZ is the unit of /proc/stat: Linux has it fixed at 100 for user space
// on all architectures Go runs on.
const userHZ = 100

// readNode reads the machine's use of CPU and memory from /proc, which is the
// same in every container of it.
func readNode() (nodeStats, error) {
	n := nodeStats{Stats: container.Stats{At: time.Now()}}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return n, fmt.Errorf("read processor times: %w", err)
	}
	for line := range strings.Lines(string(stat)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) > 8 && fields[0] == "cpu":
			n.CPUUsageNanos = busyNanos(fields[1:])
		case len(fields) == 2 && fields[0] == "btime":
			seconds, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return n, fmt.Errorf("read boot time: %w", err)
			}
			n.bootedAt = time.Unix(seconds, 0)
		}
	}
	if err := n.readMemory(); err != nil {
		return n, err
	}
	n.readProcesses()
	return n, nil
}

// busyNanos adds user, nice, system, irq, softirq and steal, and leaves out
// idle and waiting; guest times are in user already (proc(5)).
func busyNanos(fields []string) uint64 {
	var ticks uint64
	for _, i := range []int{0, 1, 2, 5, 6, 7} {
		n, err := strconv.ParseUint(fields[i], 10, 64)
		if err == nil {
			ticks += n
		}
	}
	return ticks * uint64(time.Second/userHZ)
}

func (n *nodeStats) readMemory() error {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return fmt.Errorf("read memory use: %w", err)
	}
	kib := map[string]uint64{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		value, err := strconv.ParseUint(fields[1], 10, 64)
		if err == nil {
			kib[strings.TrimSuffix(fields[0], ":")] = value
		}
	}
	const k = 1 << 10
	n.MemoryLimitBytes = kib["MemTotal"] * k
	n.MemoryUsageBytes = (kib["MemTotal"] - kib["MemFree"]) * k
	n.MemoryWorkingSetBytes = (kib["MemTotal"] - kib["MemAvailable"]) * k
	n.MemoryRSSBytes = kib["AnonPages"] * k
	return nil
}

// readProcesses takes what it finds: limits are not everywhere readable.
func (n *nodeStats) readProcesses() {
	if data, err := os.ReadFile("/proc/sys/kernel/pid_max"); err == nil {
		if value, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil {
			n.maxPIDs = value
		}
	}
	// "0.05 0.03 0.01 2/345 6789": 345 threads exist.
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		if fields := strings.Fields(string(data)); len(fields) > 3 {
			if _, total, ok := strings.Cut(fields[3], "/"); ok {
				if value, err := strconv.ParseUint(total, 10, 64); err == nil {
					n.Pids = value
				}
			}
		}
	}
}

package eviction

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ObserveHost reads the signals of this machine. nodeDir is on the file system
// of Pods, imageDir on that of images.
func ObserveHost(nodeDir, imageDir string) (map[Signal]Level, error) {
	memory, err := memoryLevel("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	levels := map[Signal]Level{MemoryAvailable: memory}
	if levels[NodeFSAvailable], levels[NodeFSInodesFree], err = diskLevels(nodeDir); err != nil {
		return nil, err
	}
	if levels[ImageFSAvailable], levels[ImageFSInodesFree], err = diskLevels(imageDir); err != nil {
		return nil, err
	}
	for _, signal := range []Signal{NodeFSInodesFree, ImageFSInodesFree} {
		if levels[signal].Capacity == 0 {
			delete(levels, signal) // a file system that does not count them
		}
	}
	if levels[PIDAvailable], err = pidLevel(); err != nil {
		return nil, err
	}
	return levels, nil
}

func memoryLevel(path string) (Level, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Level{}, fmt.Errorf("read memory: %w", err)
	}
	var level Level
	for _, line := range strings.Split(string(data), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		var to *int64
		switch fields[0] {
		case "MemTotal:":
			to = &level.Capacity
		case "MemAvailable:":
			to = &level.Available
		default:
			continue
		}
		kib, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return Level{}, fmt.Errorf("parse %s: %w", path, err)
		}
		*to = kib << 10
	}
	return level, nil
}

func diskLevels(dir string) (space, inodes Level, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return Level{}, Level{}, fmt.Errorf("read file system of %s: %w", dir, err)
	}
	return Level{Available: int64(fs.Bavail) * fs.Bsize, Capacity: int64(fs.Blocks) * fs.Bsize},
		Level{Available: int64(fs.Ffree), Capacity: int64(fs.Files)}, nil
}

func pidLevel() (Level, error) {
	limit, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		return Level{}, fmt.Errorf("read process limit: %w", err)
	}
	most, err := strconv.ParseInt(strings.TrimSpace(string(limit)), 10, 64)
	if err != nil {
		return Level{}, fmt.Errorf("parse process limit: %w", err)
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return Level{}, fmt.Errorf("count processes: %w", err)
	}
	// The fourth field is runnable/all.
	fields := strings.Fields(string(load))
	if len(fields) < 4 {
		return Level{}, fmt.Errorf("parse /proc/loadavg: %q", load)
	}
	_, all, _ := strings.Cut(fields[3], "/")
	count, err := strconv.ParseInt(all, 10, 64)
	if err != nil {
		return Level{}, fmt.Errorf("parse /proc/loadavg: %w", err)
	}
	return Level{Available: most - count, Capacity: most}, nil
}

package app

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/eviction"
)

func (k *kubelet) buildEviction(context.Context) error {
	limits, err := k.options.thresholds()
	if err != nil {
		return err
	}
	images := filepath.Join(k.options.RootDir, "images")
	k.eviction = eviction.New(eviction.Config{
		Thresholds: limits,
		Observe: func() (map[eviction.Signal]eviction.Level, error) {
			return eviction.ObserveHost(k.options.RootDir, images)
		},
		Pods: k.pool.Pods, Usage: k.usage, Evict: k.pool.Evict, ReclaimDisk: k.reclaimDisk,
		Evicted: func(signal eviction.Signal) { k.measures.Evicted(string(signal)) },
		Changed: k.node.Changed, Clock: k.clock, Logger: k.logger,
	})
	return nil
}

// usage is what a Pod takes of memory and, in its volumes and logs, of disk.
func (k *kubelet) usage(ctx context.Context, uid types.UID) (eviction.Usage, error) {
	var usage eviction.Usage
	stats, err := k.runtime.Stats(ctx, uid)
	for _, s := range stats {
		if s.ID.Name == "" {
			usage.MemoryBytes, usage.PIDs = int64(s.MemoryWorkingSetBytes), int64(s.Pids)
		}
	}
	dirs := []string{k.hooks.Dirs.PodDir(uid)}
	logs, globErr := filepath.Glob(filepath.Join(k.options.LogDir, "*_"+string(uid)))
	if globErr == nil {
		dirs = append(dirs, logs...)
	}
	for _, dir := range dirs {
		usage.DiskBytes += diskUse(dir)
	}
	return usage, err
}

// diskUse sums the blocks below a directory, on its own file system only. What
// vanishes meanwhile is not counted.
func diskUse(dir string) int64 {
	var sum int64
	var device uint64
	if err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		info, err := os.Lstat(path)
		if err != nil {
			return nil
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		if device == 0 {
			device = stat.Dev
		}
		if stat.Dev != device {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		sum += stat.Blocks * 512
		return nil
	}); err != nil {
		return sum
	}
	return sum
}

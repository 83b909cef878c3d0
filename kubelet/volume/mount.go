//go:build linux

package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mountTmpfs mounts a tmpfs at dir unless one is there. options are as for
// mount(8), without "noswap", which is added where the kernel has it (6.3):
// what is kept in memory is often secret.
func mountTmpfs(dir, options string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make volume directory: %w", err)
	}
	mounted, err := isMounted(dir)
	if err != nil || mounted {
		return err
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	withNoswap := strings.TrimPrefix(options+",noswap", ",")
	err = unix.Mount("tmpfs", dir, "tmpfs", flags, withNoswap)
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("tmpfs", dir, "tmpfs", flags, options)
	}
	if err != nil {
		return fmt.Errorf("mount tmpfs at %s: %w", dir, err)
	}
	return nil
}

func isMounted(dir string) (bool, error) {
	mounted, err := mountinfo.Mounted(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("look for mount at %s: %w", dir, err)
	}
	return mounted && err == nil, nil
}

// removeTree unmounts everything at and below dir, then deletes it. It refuses
// while a mount is left, because deleting would reach into somebody's data.
func removeTree(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := unmountTree(dir); err != nil {
		return err
	}
	left, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("remove %s: %s is still mounted", dir, left[0])
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove volume directory: %w", err)
	}
	return nil
}

// unmountTree unmounts from the deepest up.
func unmountTree(dir string) error {
	points, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for _, point := range points {
		err := unix.Unmount(point, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			err = unix.Unmount(point, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	return nil
}

// mountsBelow lists mount points at and below dir, deepest and newest first.
func mountsBelow(dir string) ([]string, error) {
	real, err := filepath.EvalSymlinks(dir) // mountinfo has no links in paths
	if err != nil {
		return nil, fmt.Errorf("resolve volume directory: %w", err)
	}
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(real))
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	points := make([]string, len(infos))
	for i, info := range infos {
		points[i] = info.Mountpoint
	}
	slices.Reverse(points)
	slices.SortStableFunc(points, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	return points, nil
}

package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Mount makes a writable root directory of an image (by ID) for a key, which is
// a path element, and returns it. A key that is mounted already is left alone.
func (s *Store) Mount(_ context.Context, key, imageID string) (rootfs string, err error) {
	if !validKey(key) {
		return "", fmt.Errorf("mount image: %q cannot be a directory", key)
	}
	s.mounting.Lock()
	defer s.mounting.Unlock()
	s.mu.Lock()
	r := s.records[imageID]
	s.lastUsed[imageID] = time.Now()
	s.mu.Unlock()
	if r == nil {
		return "", fmt.Errorf("mount image %s: %w", imageID, ErrNotFound)
	}
	dir := s.path("mounts", key)
	if err := s.mount(dir, r); err != nil {
		return "", fmt.Errorf("mount image %s: %w", imageID, err)
	}
	return filepath.Join(dir, "rootfs"), nil
}

func validKey(key string) bool {
	return key != "" && len(key) < 256 && !strings.HasPrefix(key, ".") && !strings.ContainsAny(key, "/\x00")
}

func (s *Store) mount(dir string, r *Record) error {
	rootfs := filepath.Join(dir, "rootfs")
	mounted, err := mountinfo.Mounted(rootfs)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if mounted {
		return nil
	}
	// The image's name comes first: from now on it is in use.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := s.writeFile(filepath.Join(dir, "image"), []byte(r.ID)); err != nil {
		return err
	}
	for _, sub := range []string{"upper", "work", "rootfs"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	lowers := make([]string, 0, len(r.Layers)) // the highest first, as overlayfs wants them
	for i := len(r.Layers) - 1; i >= 0; i-- {
		lowers = append(lowers, filepath.Join(s.layer(r.Layers[i].DiffID), "fs"))
	}
	if len(lowers) == 0 {
		empty := filepath.Join(dir, "empty")
		if err := os.MkdirAll(empty, 0o755); err != nil {
			return err
		}
		lowers = []string{empty}
	}
	if err := sameRoot(lowers[0], filepath.Join(dir, "upper")); err != nil {
		return err
	}
	return overlay(lowers, filepath.Join(dir, "upper"), filepath.Join(dir, "work"), rootfs)
}

// sameRoot gives the upper root directory, which is the one seen, owner and
// mode of the highest layer's.
func sameRoot(lower, upper string) error {
	info, err := os.Stat(lower)
	if err != nil {
		return err
	}
	if st, is := info.Sys().(*syscall.Stat_t); is {
		if err := os.Chown(upper, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	return os.Chmod(upper, info.Mode())
}

// overlay mounts. The newer interface takes each layer by itself; mount(2)
// takes all in one page, for which paths are given relative to the layers'
// directory by a thread with a working directory of its own.
func overlay(lowers []string, upper, work, target string) error {
	err := overlayByConfig(lowers, upper, work, target)
	if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	base := filepath.Dir(filepath.Dir(lowers[0]))
	relative := make([]string, len(lowers))
	for i, l := range lowers {
		rel, err := filepath.Rel(base, l)
		if err != nil {
			return err
		}
		relative[i] = rel
	}
	data := "lowerdir=" + strings.Join(relative, ":") + ",upperdir=" + upper + ",workdir=" + work
	if len(data) >= os.Getpagesize() {
		return fmt.Errorf("%d layers: this kernel can mount no more than about %d", len(lowers), os.Getpagesize()/(len(relative[0])+1))
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the runtime ends the thread
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Chdir(base)
		}
		if err == nil {
			err = unix.Mount("overlay", target, "overlay", 0, data)
		}
		done <- err
	}()
	return <-done
}

func overlayByConfig(lowers []string, upper, work, target string) error {
	fsfd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fsfd)
	if err := unix.FsconfigSetString(fsfd, "source", "overlay"); err != nil {
		return err
	}
	for _, l := range lowers {
		if err := unix.FsconfigSetString(fsfd, "lowerdir+", l); err != nil {
			return err
		}
	}
	for key, value := range map[string]string{"upperdir": upper, "workdir": work} {
		if err := unix.FsconfigSetString(fsfd, key, value); err != nil {
			return err
		}
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return err
	}
	mfd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(mfd)
	return unix.MoveMount(mfd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// Unmount removes a key's root directory with what was written to it. One that
// is not there is removed already.
func (s *Store) Unmount(_ context.Context, key string) error {
	if !validKey(key) {
		return fmt.Errorf("unmount image: %q cannot be a directory", key)
	}
	s.mounting.Lock()
	defer s.mounting.Unlock()
	dir := s.path("mounts", key)
	if id, err := os.ReadFile(filepath.Join(dir, "image")); err == nil {
		s.mu.Lock()
		s.lastUsed[string(id)] = time.Now()
		s.mu.Unlock()
	}
	err := unix.Unmount(filepath.Join(dir, "rootfs"), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount image: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove root directory: %w", err)
	}
	return nil
}

// Mounts lists the keys that have root directories and their images' IDs, for
// who cleans up after a crash.
func (s *Store) Mounts() (map[string]string, error) {
	entries, err := os.ReadDir(s.path("mounts"))
	if err != nil {
		return nil, fmt.Errorf("list root directories: %w", err)
	}
	all := map[string]string{}
	for _, e := range entries {
		id, err := os.ReadFile(s.path("mounts", e.Name(), "image"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list root directories: %w", err)
		}
		all[e.Name()] = string(id)
	}
	return all, nil
}

// mounted are the IDs of images that root directories are made of.
func (s *Store) mounted() (map[string]bool, error) {
	mounts, err := s.Mounts()
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, id := range mounts {
		used[id] = true
	}
	return used, nil
}

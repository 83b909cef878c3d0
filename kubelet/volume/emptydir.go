//go:build linux

package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// emptyDir is a directory on the node's disk, in memory or on huge pages.
// Limits on disk are for eviction; in memory the file system has them.
type emptyDir struct{}

func newEmptyDir() Driver { return &emptyDir{} }

func (*emptyDir) Name() string { return "kubernetes.io/empty-dir" }

func (*emptyDir) Match(v *corev1.Volume) bool { return v.EmptyDir != nil }

func (*emptyDir) Setup(_ context.Context, r Request) error {
	// Any user of any image may write (upstream's mode).
	const mode = 0o777
	source := r.Volume.EmptyDir
	switch {
	case source.Medium == corev1.StorageMediumDefault:
		if err := os.MkdirAll(r.Dir, mode); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	case source.Medium == corev1.StorageMediumMemory:
		options := ""
		if size := memorySize(r.Pod, source); size > 0 {
			options = "size=" + strconv.FormatInt(size, 10)
		}
		if err := mountTmpfs(r.Dir, options); err != nil {
			return err
		}
	default:
		return mountHugePages(r, source)
	}
	if err := os.Chmod(r.Dir, mode); err != nil { // past the umask
		return fmt.Errorf("set mode of directory: %w", err)
	}
	return own(r.Dir, r.Pod)
}

func (*emptyDir) Teardown(_ context.Context, dir string) error { return removeTree(dir) }

// memorySize is the volume's limit, or what the Pod's containers may use
// together if all have a limit, whichever is less; 0 is the kernel's default.
func memorySize(pod *corev1.Pod, source *corev1.EmptyDirVolumeSource) int64 {
	total := int64(0)
	for i := range pod.Spec.Containers {
		limit := pod.Spec.Containers[i].Resources.Limits.Memory().Value()
		if limit == 0 {
			total = 0
			break
		}
		total += limit
	}
	if source.SizeLimit != nil {
		if size := source.SizeLimit.Value(); size > 0 && (total == 0 || size < total) {
			return size
		}
	}
	return total
}

// mountHugePages mounts a hugetlbfs with the page size of the medium, or of
// the only size the containers ask for.
func mountHugePages(r Request, source *corev1.EmptyDirVolumeSource) error {
	size, ok := pageSize(r.Pod, source.Medium)
	if !ok {
		return fmt.Errorf("medium %q needs containers that request huge pages of one size", source.Medium)
	}
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	mounted, err := isMounted(r.Dir)
	if err != nil {
		return err
	}
	if !mounted {
		if err := unix.Mount("nodev", r.Dir, "hugetlbfs", 0, "pagesize="+size); err != nil {
			return fmt.Errorf("mount hugetlbfs with pages of %s: %w", size, err)
		}
	}
	return errors.Join(os.Chmod(r.Dir, 0o777), own(r.Dir, r.Pod))
}

// pageSize is the size in bytes, as the mount option takes it.
func pageSize(pod *corev1.Pod, medium corev1.StorageMedium) (string, bool) {
	sizes := map[string]bool{}
	for i := range pod.Spec.Containers {
		for name := range pod.Spec.Containers[i].Resources.Requests {
			if size, ok := hugePageBytes(string(name)); ok {
				sizes[size] = true
			}
		}
	}
	if medium != corev1.StorageMediumHugePages {
		size, ok := hugePageBytes(string(medium))
		return size, ok
	}
	if len(sizes) != 1 {
		return "", false
	}
	for size := range sizes {
		return size, true
	}
	return "", false
}

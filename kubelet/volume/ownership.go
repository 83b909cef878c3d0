//go:build linux

package volume

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// fsGroup is the Pod's group for volumes; nil if it has none.
func fsGroup(pod *corev1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}

// fsUser is the user that all containers of the Pod run as; nil if they
// differ or leave it to their images.
func fsUser(pod *corev1.Pod) *int64 {
	var common *int64
	if pod.Spec.SecurityContext != nil {
		common = pod.Spec.SecurityContext.RunAsUser
	}
	var user *int64
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			uid := common
			if sc := list[i].SecurityContext; sc != nil && sc.RunAsUser != nil {
				uid = sc.RunAsUser
			}
			if uid == nil || (user != nil && *user != *uid) {
				return nil
			}
			user = uid
		}
	}
	return user
}

// own gives everything below dir to the Pod's fsGroup: group read and write,
// and directories hand the group on to what is made in them. Symbolic links
// are not followed.
func own(dir string, pod *corev1.Pod) error {
	group := fsGroup(pod)
	if group == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("give volume to group %d: %w", *group, err)
		}
		info, err := entry.Info()
		if err != nil {
			return fmt.Errorf("give volume to group %d: %w", *group, err)
		}
		if err := ownFile(path, info, int(*group)); err != nil {
			return fmt.Errorf("give volume to group %d: %w", *group, err)
		}
		return nil
	})
}

func ownFile(path string, info fs.FileInfo, group int) error {
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Gid) != group {
		if err := os.Lchown(path, -1, group); err != nil {
			return err
		}
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	mode := info.Mode().Perm() | info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)
	want := mode | 0o660
	if info.IsDir() {
		want |= 0o110 | fs.ModeSetgid
	}
	if want == mode {
		return nil
	}
	return os.Chmod(path, want)
}

// hugePageBytes reads "hugepages-2Mi" or "HugePages-2Mi".
func hugePageBytes(name string) (string, bool) {
	size, ok := strings.CutPrefix(strings.ToLower(name[:min(len(name), len("hugepages-"))]), "hugepages-")
	if !ok || size != "" {
		return "", false
	}
	q, err := resource.ParseQuantity(name[len("hugepages-"):])
	if err != nil {
		return "", false
	}
	return strconv.FormatInt(q.Value(), 10), true
}

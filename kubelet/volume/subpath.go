//go:build linux

package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Mounts returns the container's volume mounts in order, subPaths resolved.
// The Pod's volumes are set up.
func (v *Volumes) Mounts(ctx context.Context, pod *corev1.Pod, c *corev1.Container) ([]container.Mount, error) {
	mounts := make([]container.Mount, 0, len(c.VolumeMounts))
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		source, readOnly, err := v.sourceOf(pod, m.Name)
		if err != nil {
			return nil, err
		}
		sub, err := v.subPath(ctx, pod, c, m)
		if err != nil {
			return nil, err
		}
		if sub != "" {
			source, err = v.bindSubPath(pod, c, source, sub, i)
			if err != nil {
				return nil, fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", m.Name, c.Name, err)
			}
		}
		out := container.Mount{
			Source: source, Target: absolute(m.MountPath), ReadOnly: m.ReadOnly || readOnly,
			Propagation: propagation(m.MountPropagation),
		}
		if mode := m.RecursiveReadOnly; mode != nil && m.ReadOnly {
			out.RecursiveReadOnly = *mode != corev1.RecursiveReadOnlyDisabled
		}
		mounts = append(mounts, out)
	}
	return mounts, nil
}

// sourceOf is the path of a volume on the node, and whether its content is
// the kubelet's alone to write.
func (v *Volumes) sourceOf(pod *corev1.Pod, name string) (string, bool, error) {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name != name {
			continue
		}
		r, d, err := v.request(pod, &pod.Spec.Volumes[i])
		if err != nil {
			return "", false, err
		}
		_, readOnly := d.(ReadOnlyContent)
		if placer, ok := d.(Placer); ok {
			return placer.Path(r), readOnly, nil
		}
		return r.Dir, readOnly, nil
	}
	return "", false, fmt.Errorf("container mounts volume %q, which the pod does not have", name)
}

// subPath is the mount's path in the volume; "" is all of it.
func (v *Volumes) subPath(ctx context.Context, pod *corev1.Pod, c *corev1.Container, m *corev1.VolumeMount) (string, error) {
	sub := m.SubPath
	if m.SubPathExpr != "" {
		values := map[string]string{}
		if v.config.Env != nil {
			env, err := v.config.Env(ctx, pod, c)
			if err != nil {
				return "", err
			}
			for _, kv := range env {
				if name, value, ok := strings.Cut(kv, "="); ok {
					values[name] = value
				}
			}
		}
		var err error
		if sub, err = expandAll(m.SubPathExpr, values); err != nil {
			return "", err
		}
	}
	if sub == "" {
		return "", nil
	}
	if !filepath.IsLocal(sub) {
		return "", fmt.Errorf("subPath %q of volume %q must be a relative path without \"..\"", sub, m.Name)
	}
	return sub, nil
}

// expandAll replaces $(NAME), all of which must be known: a path with a
// placeholder in it would be another Pod's as well.
func expandAll(in string, values map[string]string) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(in, "$(")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, after, closed := strings.Cut(rest, ")")
		value, known := values[name]
		if !closed || !known {
			return "", fmt.Errorf("missing value for %q in subPathExpr", name)
		}
		out.WriteString(value)
		in = after
	}
}

// bindSubPath opens the subPath beneath the volume, whatever links a container
// left in it, and pins what it opened by a bind mount that later changes of
// the volume cannot redirect. A missing directory is made.
func (v *Volumes) bindSubPath(pod *corev1.Pod, c *corev1.Container, volume, sub string, index int) (string, error) {
	podDir, err := v.podDir(pod.UID)
	if err != nil {
		return "", err
	}
	name := c.VolumeMounts[index].Name
	target := filepath.Join(podDir, "volume-subpaths", name, c.Name, strconv.Itoa(index))
	file, err := openSubPath(volume, sub)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // a path handle, nothing to lose
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("stat subPath: %w", err)
	}
	if mounted, err := isMounted(target); err != nil {
		return "", err
	} else if mounted {
		if now, err := os.Stat(target); err == nil && os.SameFile(now, info) {
			return target, nil
		}
		if err := removeTree(target); err != nil {
			return "", err
		}
	}
	if err := makeTarget(target, info.IsDir()); err != nil {
		return "", err
	}
	from := "/proc/self/fd/" + strconv.Itoa(int(file.Fd()))
	if err := unix.Mount(from, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return "", fmt.Errorf("bind subPath: %w", err)
	}
	return target, nil
}

// openSubPath returns a handle of what sub names beneath volume. Links that
// lead out of the volume are an error, not followed.
func openSubPath(volume, sub string) (*os.File, error) {
	root, err := os.OpenFile(volume, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open volume: %w", err)
	}
	defer func() { _ = root.Close() }() // a path handle, nothing to lose
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(int(root.Fd()), sub, how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), filepath.Join(volume, sub)), nil
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
			continue // something was renamed meanwhile
		case errors.Is(err, unix.EXDEV):
			return nil, fmt.Errorf("subPath %q leads out of the volume", sub)
		case !errors.Is(err, unix.ENOENT):
			return nil, fmt.Errorf("open subPath %q: %w", sub, err)
		}
		info, err := os.Stat(volume)
		if err != nil {
			return nil, fmt.Errorf("stat volume: %w", err)
		}
		made, err := pathrs.MkdirAllHandle(root, sub, info.Mode().Perm())
		if err != nil {
			return nil, fmt.Errorf("make subPath %q: %w", sub, err)
		}
		return made, nil
	}
}

func makeTarget(target string, dir bool) error {
	if dir {
		if err := os.MkdirAll(target, 0o750); err != nil {
			return fmt.Errorf("make mount point of subPath: %w", err)
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return fmt.Errorf("make mount point of subPath: %w", err)
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o640)
	if err != nil {
		return fmt.Errorf("make mount point of subPath: %w", err)
	}
	return f.Close()
}

// absolute: relative mount paths are from the root (API reference does not
// say; upstream's kubelet does so).
func absolute(path string) string { return filepath.Join("/", path) }

func propagation(mode *corev1.MountPropagationMode) string {
	if mode == nil {
		return "private"
	}
	switch *mode {
	case corev1.MountPropagationBidirectional:
		return "rshared"
	case corev1.MountPropagationHostToContainer:
		return "rslave"
	default:
		return "private"
	}
}

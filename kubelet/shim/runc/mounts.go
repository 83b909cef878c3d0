package runc

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// mounts are the kernel's file systems every container has, as the OCI runtime
// specification's "Default Filesystems" and the CRI runtimes have them, then
// the container's own in their order; and the propagation the root needs for
// these.
func mounts(cfg Config) ([]specs.Mount, string) {
	access := "ro"
	if cfg.Spec.Security.Privileged {
		access = "rw"
	}
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		// gid 5 is "tty" in every distribution.
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
			Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", access}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
			Options: []string{"nosuid", "noexec", "nodev", "relatime", access}},
		{Destination: "/dev/shm", Type: "bind", Source: cfg.Shm, Options: []string{"rbind", "nosuid", "noexec", "nodev"}},
	}
	own := cfg.Spec.Mounts
	list = slices.DeleteFunc(list, func(m specs.Mount) bool {
		return slices.ContainsFunc(own, func(o container.Mount) bool { return o.Target == m.Destination })
	})
	root := ""
	for _, m := range own {
		list = append(list, mount(m))
		// The root must pass on what a mount is to pass on.
		switch {
		case m.Propagation == "rshared":
			root = "rshared"
		case m.Propagation == "rslave" && root == "":
			root = "rslave"
		}
	}
	return list, root
}

func mount(m container.Mount) specs.Mount {
	out := specs.Mount{Destination: m.Target, Source: m.Source, Type: "bind", Options: slices.Clone(m.Options)}
	if m.Type == "tmpfs" {
		out.Type, out.Source = "tmpfs", "tmpfs"
		out.Options = append(out.Options, "nosuid", "nodev")
	} else {
		propagation := m.Propagation
		if propagation == "" || propagation == "private" {
			propagation = "rprivate"
		}
		out.Options = append(out.Options, "rbind", propagation)
	}
	switch {
	case m.RecursiveReadOnly:
		out.Options = append(out.Options, "ro", "rro")
	case m.ReadOnly:
		out.Options = append(out.Options, "ro")
	}
	return out
}

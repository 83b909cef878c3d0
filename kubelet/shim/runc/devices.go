package runc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// devices adds device nodes and the rules that permit them. libcontainer adds
// the harmless ones (null, zero, full, random, urandom, tty, ptmx) itself.
func devices(spec *specs.Spec, s container.Spec) error {
	if s.Security.Privileged {
		spec.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		return addDevices(spec, container.Device{HostPath: "/dev", ContainerPath: "/dev", Permissions: "rwm"}, true)
	}
	spec.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range s.Devices {
		if err := addDevices(spec, d, false); err != nil {
			return err
		}
	}
	return nil
}

// ofContainer are the directories and nodes of /dev that a container has its own of.
var ofContainer = map[string]bool{
	"/dev/pts": true, "/dev/shm": true, "/dev/mqueue": true, "/dev/fd": true, "/dev/console": true,
	"/dev/null": true, "/dev/zero": true, "/dev/full": true, "/dev/tty": true,
	"/dev/random": true, "/dev/urandom": true, "/dev/ptmx": true,
}

// addDevices adds a node, or all nodes below a directory.
func addDevices(spec *specs.Spec, d container.Device, ownExcluded bool) error {
	target := d.ContainerPath
	if target == "" {
		target = d.HostPath
	}
	return filepath.WalkDir(d.HostPath, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && path != d.HostPath:
			return nil // came and went while we looked
		case err != nil:
			return fmt.Errorf("device %q: %w", d.HostPath, err)
		case ownExcluded && ofContainer[path] && entry.IsDir():
			return filepath.SkipDir
		case ownExcluded && ofContainer[path], entry.IsDir():
			return nil
		case entry.Type()&fs.ModeSymlink != 0 && path != d.HostPath:
			return nil // its target is a node of its own
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode()&os.ModeDevice == 0 {
			if path == d.HostPath {
				return fmt.Errorf("device %q: %w", d.HostPath, errors.Join(err, errors.New("not a device node")))
			}
			return nil
		}
		node, rule := device(target+strings.TrimPrefix(path, d.HostPath), info, d.Permissions)
		spec.Linux.Devices = append(spec.Linux.Devices, node)
		if !ownExcluded {
			spec.Linux.Resources.Devices = append(spec.Linux.Resources.Devices, rule)
		}
		return nil
	})
}

func device(target string, info fs.FileInfo, permissions string) (specs.LinuxDevice, specs.LinuxDeviceCgroup) {
	kind := "b"
	if info.Mode()&os.ModeCharDevice != 0 {
		kind = "c"
	}
	if permissions == "" {
		permissions = "rwm"
	}
	stat, _ := info.Sys().(*syscall.Stat_t) // always, on Linux
	major, minor := int64(unix.Major(stat.Rdev)), int64(unix.Minor(stat.Rdev))
	mode := info.Mode().Perm()
	return specs.LinuxDevice{Path: target, Type: kind, Major: major, Minor: minor, FileMode: &mode, UID: &stat.Uid, GID: &stat.Gid},
		specs.LinuxDeviceCgroup{Allow: true, Type: kind, Major: &major, Minor: &minor, Access: permissions}
}

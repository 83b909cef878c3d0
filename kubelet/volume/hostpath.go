//go:build linux

package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"
)

// hostPath is a path of the node, checked or made as its type says. It is
// never removed.
type hostPath struct{}

func newHostPath() Driver { return &hostPath{} }

func (*hostPath) Name() string { return "kubernetes.io/host-path" }

func (*hostPath) Match(v *corev1.Volume) bool { return v.HostPath != nil }

func (*hostPath) Path(r Request) string { return r.Volume.HostPath.Path }

func (*hostPath) Setup(_ context.Context, r Request) error {
	path, kind := r.Volume.HostPath.Path, corev1.HostPathUnset
	if r.Volume.HostPath.Type != nil {
		kind = *r.Volume.HostPath.Type
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeHostPath(path, kind)
	}
	if err != nil {
		return fmt.Errorf("stat host path: %w", err)
	}
	return checkHostPath(path, kind, info.Mode())
}

func (*hostPath) Teardown(_ context.Context, dir string) error { return removeTree(dir) }

// makeHostPath makes what is missing with the modes of the API reference
// (HostPathType). The unchecked type is a directory, as container runtimes
// make missing mount sources.
func makeHostPath(path string, kind corev1.HostPathType) error {
	switch kind {
	case corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate:
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("make host path: %w", err)
		}
		return nil
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return fmt.Errorf("make host path: %w", err)
		}
		return f.Close()
	default:
		return fmt.Errorf("hostPath type check failed: %s is not a %s", path, hostPathNouns[kind])
	}
}

func checkHostPath(path string, kind corev1.HostPathType, mode fs.FileMode) error {
	matches := map[corev1.HostPathType]bool{
		corev1.HostPathUnset:             true,
		corev1.HostPathDirectoryOrCreate: mode.IsDir(),
		corev1.HostPathDirectory:         mode.IsDir(),
		corev1.HostPathFileOrCreate:      mode.IsRegular(),
		corev1.HostPathFile:              mode.IsRegular(),
		corev1.HostPathSocket:            mode&fs.ModeSocket != 0,
		corev1.HostPathCharDev:           mode&fs.ModeCharDevice != 0,
		corev1.HostPathBlockDev:          mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0,
	}
	ok, known := matches[kind]
	if !known {
		return fmt.Errorf("unknown hostPath type %q", kind)
	}
	if !ok {
		return fmt.Errorf("hostPath type check failed: %s is not a %s", path, hostPathNouns[kind])
	}
	return nil
}

var hostPathNouns = map[corev1.HostPathType]string{
	corev1.HostPathDirectoryOrCreate: "directory",
	corev1.HostPathDirectory:         "directory",
	corev1.HostPathFileOrCreate:      "file",
	corev1.HostPathFile:              "file",
	corev1.HostPathSocket:            "socket file",
	corev1.HostPathCharDev:           "character device",
	corev1.HostPathBlockDev:          "block device",
}

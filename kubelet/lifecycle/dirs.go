package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"k8s.io/apimachinery/pkg/types"
)

// Dirs makes a Pod's directories:
//
//	<Root>/pods/<uid>/                      0750
//	    volumes/                            volume content, by driver
//	    containers/<name>/                  termination messages
//	    ...                                 hosts, resolv.conf, hostname
//	<LogRoot>/<namespace>_<name>_<uid>/<container>/<attempt>.log
//
// The log directory outlives the Pod's containers and goes with its object.
type Dirs struct {
	// Root is the kubelet's directory, LogRoot that of all Pods' logs.
	Root, LogRoot string
}

// Name is "dirs".
func (*Dirs) Name() string { return "dirs" }

// PodDir is the directory of a Pod.
func (d *Dirs) PodDir(uid types.UID) string { return filepath.Join(d.Root, "pods", string(uid)) }

// LogDir is the directory of a Pod's logs.
func (d *Dirs) LogDir(namespace, name string, uid types.UID) string {
	return filepath.Join(d.LogRoot, namespace+"_"+name+"_"+string(uid))
}

// Prepare creates the directories.
func (d *Dirs) Prepare(_ context.Context, pod *Pod) error {
	pod.Dir = d.PodDir(pod.UID())
	pod.LogDir = d.LogDir(pod.API.Namespace, pod.API.Name, pod.UID())
	for _, dir := range []string{pod.Dir, filepath.Join(pod.Dir, "volumes"), filepath.Join(pod.Dir, "containers")} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("make pod directory: %w", err)
		}
	}
	if err := os.MkdirAll(pod.LogDir, 0o755); err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	return nil
}

// Cleanup removes the Pod's directory. It refuses while anything is mounted
// in it, because removing would then reach into somebody's data.
func (d *Dirs) Cleanup(_ context.Context, uid types.UID) error {
	dir := d.PodDir(uid)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("list mounts below %s: %w", dir, err)
	}
	if len(mounts) > 0 {
		return fmt.Errorf("remove %s: %d mounts are left in it, first %s", dir, len(mounts), mounts[0].Mountpoint)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove pod directory: %w", err)
	}
	return nil
}

// RemoveLogs deletes the logs of a Pod that is gone from the cluster.
func (d *Dirs) RemoveLogs(namespace, name string, uid types.UID) error {
	if err := os.RemoveAll(d.LogDir(namespace, name, uid)); err != nil {
		return fmt.Errorf("remove pod logs: %w", err)
	}
	return nil
}

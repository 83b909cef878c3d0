// Package cgroup owns the kubelet's part of the cgroup hierarchies, with
// cgroupfs names, on cgroup v1 (one tree a controller) and v2 (one tree). This
// tree is its definition; paths given and returned are relative to the roots of
// the hierarchies as they are mounted:
//
//	<root>/kubepods/pod<uid>              Guaranteed Pods
//	<root>/kubepods/burstable/pod<uid>
//	<root>/kubepods/besteffort/pod<uid>
//	    <container>_<attempt>             made by the shim, see package record
//
// Pods' admission, eviction and statistics, and shimclient, call it. Starts no
// goroutines.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

// QoS is a Pod's quality of service class, as in core/v1 PodQOSClass.
type QoS string

// The classes.
const (
	Guaranteed QoS = "Guaranteed"
	Burstable  QoS = "Burstable"
	BestEffort QoS = "BestEffort"
)

// hierarchies are mounted below it (file-hierarchy of systemd, and every
// distribution's since).
const mountRoot = "/sys/fs/cgroup"

// Tree is the kubelet's part. Its methods may be called concurrently; what they
// do to one path should not be.
type Tree struct {
	root    string            // relative, starts with a slash
	unified string            // v2: the mount point
	v1      map[string]string // v1: controller (or "name=...") to mount point
	// hybrid is where v2 is mounted beside v1, without controllers: libcontainer
	// puts containers there too, so it must be cleaned; "" if it is not.
	hybrid string
}

// New finds the hierarchies. root is where kubepods goes, "/" or "" for the top.
func New(root string) (*Tree, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(mountRoot, &st); err != nil {
		return nil, fmt.Errorf("find cgroups at %s: %w", mountRoot, err)
	}
	t := &Tree{root: filepath.Join("/", root)}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		t.unified = mountRoot
		return t, nil
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	defer mounts.Close()
	t.v1 = map[string]string{}
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		if point := hybridMount(lines.Text()); point != "" {
			t.hybrid = point
		}
		if point, names := v1Mount(lines.Text()); point != "" {
			for _, name := range names {
				t.v1[name] = point
			}
		}
	}
	for _, needed := range []string{"cpu", "memory"} {
		if t.v1[needed] == "" {
			return nil, fmt.Errorf("find cgroups: neither cgroup v2 nor the v1 controller %q is mounted below %s", needed, mountRoot)
		}
	}
	return t, nil
}

// hybridMount is the mount point of v2 below the root of v1's hierarchies.
func hybridMount(line string) string {
	fields := strings.Fields(line)
	sep := slices.Index(fields, "-")
	if sep < 6 || len(fields) < sep+2 || fields[sep+1] != "cgroup2" || !strings.HasPrefix(fields[4], mountRoot+"/") {
		return ""
	}
	return fields[4]
}

// v1Mount parses a line of mountinfo (proc_pid_mountinfo(5)); "" if it is not a
// v1 hierarchy.
func v1Mount(line string) (point string, controllers []string) {
	fields := strings.Fields(line)
	sep := slices.Index(fields, "-")
	if sep < 6 || len(fields) < sep+4 || fields[sep+1] != "cgroup" || !strings.HasPrefix(fields[4], mountRoot+"/") {
		return "", nil
	}
	for _, option := range strings.Split(fields[sep+3], ",") {
		switch option {
		case "rw", "ro", "xattr", "noprefix", "clone_children":
		default:
			if !strings.HasPrefix(option, "release_agent=") {
				controllers = append(controllers, option)
			}
		}
	}
	return fields[4], controllers
}

// V2 reports the unified hierarchy.
func (t *Tree) V2() bool { return t.unified != "" }

// points are the mount points, each once, in a fixed order.
func (t *Tree) points() []string {
	if t.V2() {
		return []string{t.unified}
	}
	seen := map[string]bool{}
	var all []string
	for _, p := range t.v1 {
		if !seen[p] {
			seen[p] = true
			all = append(all, p)
		}
	}
	slices.Sort(all)
	return all
}

// everywhere is points and the hybrid one: where something may be left.
func (t *Tree) everywhere() []string {
	if t.hybrid == "" {
		return t.points()
	}
	return append(t.points(), t.hybrid)
}

// file is a control file of a path; "" if the controller is not there.
func (t *Tree) file(controller, path, name string) string {
	if t.V2() {
		return filepath.Join(t.unified, path, name)
	}
	point := t.v1[controller]
	if point == "" {
		return ""
	}
	return filepath.Join(point, path, name)
}

// Root is the kubelet's own cgroup: the parent of all Pods'.
func (t *Tree) Root() string { return filepath.Join(t.root, "kubepods") }

// Class is the cgroup of a class of Pods.
func (t *Tree) Class(q QoS) string {
	if q == Guaranteed {
		return t.Root()
	}
	return filepath.Join(t.Root(), strings.ToLower(string(q)))
}

// Pod is a Pod's cgroup.
func (t *Tree) Pod(uid types.UID, q QoS) string { return filepath.Join(t.Class(q), "pod"+string(uid)) }

// PodCgroup is a Pod's cgroup as found.
type PodCgroup struct {
	UID  types.UID
	QoS  QoS
	Path string
}

// Pods lists the cgroups of Pods, in all hierarchies, also half removed ones.
func (t *Tree) Pods() ([]PodCgroup, error) {
	found := map[string]PodCgroup{}
	for _, point := range t.everywhere() {
		for _, q := range []QoS{Guaranteed, Burstable, BestEffort} {
			entries, err := os.ReadDir(filepath.Join(point, t.Class(q)))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("list pod cgroups: %w", err)
			}
			for _, e := range entries {
				uid, is := strings.CutPrefix(e.Name(), "pod")
				if is && e.IsDir() {
					path := filepath.Join(t.Class(q), e.Name())
					found[path] = PodCgroup{UID: types.UID(uid), QoS: q, Path: path}
				}
			}
		}
	}
	all := make([]PodCgroup, 0, len(found))
	for _, p := range found {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b PodCgroup) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

// Exists reports whether a cgroup is there, in any hierarchy.
func (t *Tree) Exists(path string) bool {
	for _, point := range t.points() {
		if _, err := os.Stat(filepath.Join(point, path)); err == nil {
			return true
		}
	}
	return false
}

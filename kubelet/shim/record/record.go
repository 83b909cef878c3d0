// Package record is what a shim keeps on disk, written by the shim, read by the
// shim and by the kubelet's shimclient, and after a shim's death written by the
// latter. It is the truth about a Pod's containers: a status is on disk before
// anybody hears of it. This tree is its definition:
//
//	<root>/shims/<pod uid>/       one Dir
//	  sandbox.json                Sandbox: container.SandboxSpec and when it was made
//	  lock                        locked (flock) by the shim for as long as it lives
//	  shim.sock                   the shim's socket, see package protocol
//	  shim.log                    the shim's own log
//	  shm/                        the Pod's /dev/shm (tmpfs; absent with the host's IPC namespace)
//	  runc/<name>_<attempt>/      libcontainer's state of a running container
//	  containers/<name>_<attempt>/
//	    spec.json                 container.Spec
//	    status.json               container.Status
//
// Files are replaced by rename; a file that was never finished has a name that
// starts with a dot and is ignored. Starts no goroutines.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Dir is one Pod's directory.
type Dir string

// Sandbox is sandbox.json.
type Sandbox struct {
	Spec      container.SandboxSpec
	CreatedAt time.Time
}

// Paths within a Dir.
func (d Dir) lock() string       { return filepath.Join(string(d), "lock") }
func (d Dir) containers() string { return filepath.Join(string(d), "containers") }

// SocketName is the shim's socket, relative to the Dir.
const SocketName = "shim.sock"

// Log is the path of the shim's own log.
func (d Dir) Log() string { return filepath.Join(string(d), "shim.log") }

// Shm is the path of the Pod's /dev/shm.
func (d Dir) Shm() string { return filepath.Join(string(d), "shm") }

// Runc is the path of libcontainer's states.
func (d Dir) Runc() string { return filepath.Join(string(d), "runc") }

// Container is the path of a container's directory.
func (d Dir) Container(id container.ID) string { return filepath.Join(d.containers(), Key(id)) }

// Key is a container's name on disk, in libcontainer and as a cgroup. Container
// names are DNS labels, so the underscore is unambiguous.
func Key(id container.ID) string { return id.Name + "_" + strconv.Itoa(id.Attempt) }

// Cgroup is a container's cgroup, relative to the hierarchy roots.
func Cgroup(sandbox container.SandboxSpec, id container.ID) string {
	return filepath.Join("/", sandbox.CgroupParent, Key(id))
}

// ValidName reports whether a container name or Pod UID can be a file name here.
func ValidName(s string) bool {
	return s != "" && len(s) <= 253 && !strings.HasPrefix(s, ".") && !strings.ContainsAny(s, "/_\x00")
}

// Sandbox reads sandbox.json; container.ErrNotFound if there is none.
func (d Dir) Sandbox() (Sandbox, error) {
	var sb Sandbox
	return sb, read(filepath.Join(string(d), "sandbox.json"), &sb)
}

// WriteSandbox makes the directory and sandbox.json.
func (d Dir) WriteSandbox(sb Sandbox) error {
	if err := os.MkdirAll(d.containers(), 0o700); err != nil {
		return fmt.Errorf("create sandbox directory: %w", err)
	}
	return write(filepath.Join(string(d), "sandbox.json"), sb, true)
}

// Spec reads a container's spec; container.ErrNotFound if there is none.
func (d Dir) Spec(id container.ID) (container.Spec, error) {
	var spec container.Spec
	return spec, read(filepath.Join(d.Container(id), "spec.json"), &spec)
}

// Create makes a container's directory: first its spec, then its status, so
// that what has a status is complete.
func (d Dir) Create(spec container.Spec, status container.Status) error {
	if err := os.MkdirAll(d.Container(spec.ID), 0o700); err != nil {
		return fmt.Errorf("create container directory: %w", err)
	}
	if err := write(filepath.Join(d.Container(spec.ID), "spec.json"), spec, false); err != nil {
		return err
	}
	return d.WriteStatus(status)
}

// WriteStatus replaces a container's status. The final one is on the disk, not
// only in the page cache, when this returns: an exit code cannot be found out
// again.
func (d Dir) WriteStatus(status container.Status) error {
	return write(filepath.Join(d.Container(status.ID), "status.json"), status, status.State == container.Exited)
}

// Statuses reads the statuses of all containers, in the order of their names. A
// container whose creation was not finished is left out.
func (d Dir) Statuses() ([]container.Status, error) {
	entries, err := os.ReadDir(d.containers())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var all []container.Status
	for _, e := range entries {
		var s container.Status
		err := read(filepath.Join(d.containers(), e.Name(), "status.json"), &s)
		if errors.Is(err, container.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// Remove deletes a container's directory.
func (d Dir) Remove(id container.ID) error {
	// The status goes first: without it the rest does not count.
	if err := os.Remove(filepath.Join(d.Container(id), "status.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove container status: %w", err)
	}
	if err := os.RemoveAll(d.Container(id)); err != nil {
		return fmt.Errorf("remove container directory: %w", err)
	}
	return nil
}

// Lock takes the lock that says a shim lives here; held reports that somebody
// else has it. Closing the file gives it back, as does the end of the process.
func (d Dir) Lock() (lock *os.File, held bool, err error) {
	f, err := os.OpenFile(d.lock(), os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("open lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, false, nil
	}
	if cerr := f.Close(); cerr != nil {
		return nil, false, fmt.Errorf("close lock: %w", cerr)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, true, nil
	}
	return nil, false, fmt.Errorf("lock sandbox: %w", err)
}

func read(path string, into any) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", filepath.Base(path), container.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

func write(path string, value any, durable bool) error {
	b, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	_, err = f.Write(b)
	if err == nil && durable {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", filepath.Base(path), err), removeIfThere(f.Name()))
	}
	if !durable {
		return nil
	}
	return syncDir(dir)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove unfinished record: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync record: %w", err)
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("sync record: %w", err)
	}
	return nil
}

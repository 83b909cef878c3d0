// Package runc is the only user of libcontainer: it turns a container.Spec into
// a libcontainer configuration and runs, executes in, signals and destroys the
// container. The shim calls it; it calls nobody of the project but the
// container contract's values. Whoever calls Run or Exec is the parent of the
// process and must Wait for it. Starts no goroutines (libcontainer starts some
// for the time of a start).
package runc

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // registers the device rules; without it no container starts
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Init is the first process of a container on its way there. The binary that
// imports this package calls it, and nothing else, when its first argument is
// "init"; it does not return.
func Init() { libcontainer.Init() }

// Namespaces are paths of namespaces to join.
type Namespaces struct {
	Net string // "" is the caller's
	UTS string // "" is the caller's
	IPC string // "" is the caller's
	// PID: "" makes a new one for each container; HostPID takes the caller's.
	PID     string
	HostPID bool
}

// Config is what Create needs; all fields are required unless they say otherwise.
type Config struct {
	Spec       container.Spec
	Hostname   string // for the environment; may be ""
	Namespaces Namespaces
	Shm        string // directory to mount at /dev/shm
	Cgroup     string // relative to the hierarchy roots, starts with a slash
	StateDir   string // libcontainer's, shared by containers
	Key        string // unique in StateDir
}

// Container is a container; Run starts it.
type Container struct {
	inner  *libcontainer.Container
	config Config
	mu     sync.Mutex // serialises Destroy with itself
	gone   bool       // guarded by mu
}

// Create sets up a container without a process. An error wraps
// container.ErrStart: its cause lies in the spec.
func Create(cfg Config) (*Container, error) {
	logrus.SetLevel(logrus.WarnLevel)
	spec, err := ociSpec(cfg)
	if err != nil {
		return nil, startError(err)
	}
	lc, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: cfg.Key, Spec: spec, NoNewKeyring: false})
	if err != nil {
		return nil, startError(err)
	}
	if err := os.RemoveAll(cfg.StateDir + "/" + cfg.Key); err != nil { // of a shim that died
		return nil, fmt.Errorf("remove stale container state: %w", err)
	}
	inner, err := libcontainer.Create(cfg.StateDir, cfg.Key, lc)
	if err != nil {
		return nil, startError(err)
	}
	return &Container{inner: inner, config: cfg}, nil
}

func startError(err error) error {
	// libcontainer repeats itself where it wraps; users should not have to read that.
	text := strings.ReplaceAll(err.Error(), "unable to start container process: error during container init: ", "")
	text = strings.TrimPrefix(text, "unable to start container process: ")
	return fmt.Errorf("%w: %s", container.ErrStart, text)
}

// Run starts the container's command.
func (c *Container) Run() (*Process, error) {
	return c.start(processSpec{args: c.config.Spec.Args, tty: c.config.Spec.TTY, stdin: c.config.Spec.Stdin, init: true})
}

// Exec starts another command in the running container, with the environment,
// user and limits of its first.
func (c *Container) Exec(args []string, tty, stdin bool) (*Process, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("%w: no command", container.ErrStart)
	}
	return c.start(processSpec{args: args, tty: tty, stdin: stdin})
}

// KillAll kills every process of the container's cgroup.
func (c *Container) KillAll() error {
	if err := c.inner.Signal(unix.SIGKILL); err != nil && !errors.Is(err, libcontainer.ErrNotRunning) {
		return fmt.Errorf("kill container: %w", err)
	}
	return nil
}

// OOMKills is how often the kernel killed a process of the container because
// its memory limit was reached.
func (c *Container) OOMKills() (uint64, error) {
	state, err := c.inner.State()
	if err != nil {
		return 0, fmt.Errorf("read container state: %w", err)
	}
	path, file := state.CgroupPaths["memory"], "memory.oom_control"
	if cgroups.IsCgroup2UnifiedMode() {
		path, file = state.CgroupPaths[""], "memory.events"
	}
	if path == "" {
		return 0, nil
	}
	return keyedCount(path+"/"+file, "oom_kill")
}

// Destroy removes the container's cgroup and state, killing what is left in
// them. It may be repeated.
func (c *Container) Destroy() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return nil
	}
	if err := c.inner.Destroy(); err != nil {
		return fmt.Errorf("destroy container: %w", err)
	}
	c.gone = true
	return nil
}

// keyedCount reads "key N" from a cgroup file; a file that is gone counts 0.
func keyedCount(path, key string) (uint64, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read cgroup: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		var n uint64
		if _, err := fmt.Sscanf(line, key+" %d", &n); err == nil {
			return n, nil
		}
	}
	return 0, nil
}

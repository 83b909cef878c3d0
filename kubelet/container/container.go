// Package container is the contract between the kubelet and whatever runs
// containers: sandboxes (a Pod's namespaces and cgroup), containers in them,
// and the events of their lives. kubelet/container/shimclient implements it
// over one shim process per Pod; containertest holds the suite and a fake.
//
// Everything is keyed by Pod UID, container name and attempt (0, 1, ... for
// each restart). Every method may be repeated after a crash of either side:
// ensuring what exists and removing what is gone are successes. All methods
// are safe for concurrent use and block until done or ctx ends.
package container

import (
	"context"
	"errors"
	"io"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Errors of every implementation; test with errors.Is.
var (
	ErrNotFound   = errors.New("container not found")
	ErrNotRunning = errors.New("container is not running")
	// ErrStart: the runtime could not start the process (no such command,
	// permission, bad mount); the text is for the user.
	ErrStart = errors.New("start container")
)

// ID names one attempt of one container of one Pod.
type ID struct {
	Pod     types.UID
	Name    string
	Attempt int
}

// SandboxSpec is a Pod's share of isolation: which namespaces it has and what
// its containers have in common.
type SandboxSpec struct {
	Pod             types.UID
	Namespace, Name string // of the Pod, for logs
	Hostname        string
	// CgroupParent is the Pod's cgroup, relative to the hierarchy roots; it exists.
	CgroupParent string
	// NetNS is the path of the Pod's network namespace; "" is the host's (of
	// the kubelet's).
	NetNS string
	// HostPID, HostIPC: use the host's; SharePID: one PID namespace for the
	// Pod, with the shim's own init as PID 1.
	HostPID, HostIPC, SharePID bool
	// Sysctls are set in the sandbox's namespaces.
	Sysctls map[string]string
}

// Sandbox is an existing sandbox as observed.
type Sandbox struct {
	Pod        types.UID
	CreatedAt  time.Time
	Containers []Status
}

// Mount is one bind or tmpfs mount of a container, in order.
type Mount struct {
	// Source is a path on the node; "" with Type tmpfs.
	Source string
	Target string
	// Type is "bind" (default) or "tmpfs".
	Type              string
	ReadOnly          bool
	RecursiveReadOnly bool
	// Propagation is "private" (default), "rslave" or "rshared".
	Propagation string
	// Options are further mount options ("size=64m").
	Options []string
}

// Resources are cgroup limits. Zero values mean unlimited / the default.
type Resources struct {
	CPUShares        uint64 // cgroup v1 shares; converted to weight on v2
	CPUQuotaMicros   int64
	CPUPeriodMicros  uint64
	MemoryLimitBytes int64
	PidsLimit        int64
	HugepageLimits   map[string]uint64 // page size ("2MB") to bytes
	OOMScoreAdj      int               // lowered only as far as the kernel permits
	CpusetCPUs       string
}

// Security is a container's security context, resolved: no defaults left to find.
type Security struct {
	UID, GID         int64
	AdditionalGroups []int64
	Privileged       bool
	ReadOnlyRoot     bool
	NoNewPrivileges  bool
	// Capabilities is the full set to have, as "CAP_NET_BIND_SERVICE".
	Capabilities []string
	// SeccompProfile is "" or "unconfined", "runtime/default", or "localhost/<absolute path>".
	SeccompProfile string
	MaskedPaths    []string
	ReadonlyPaths  []string
}

// Spec is everything needed to create one container.
type Spec struct {
	ID ID
	// Rootfs is the mounted root directory (overlay, made by kubelet/image).
	Rootfs string
	// Args is the command and its arguments; never empty.
	Args       []string
	Env        []string // "K=V"
	WorkingDir string
	Mounts     []Mount
	// Devices are host device nodes to pass in.
	Devices    []Device
	Resources  Resources
	Security   Security
	TTY        bool
	Stdin      bool
	StdinOnce  bool
	StopSignal string // "" is SIGTERM
	// LogPath is the CRI-format log file; the shim writes it.
	LogPath string
	// TerminationLog is the file mounted at terminationMessagePath, on the node; may be "".
	TerminationLog string
	// TargetPID joins the PID namespace of this container of the Pod
	// (ephemeral containers); "" does not.
	TargetPID string
	// Annotations are kept with the container and returned in Status (image
	// reference, spec hash); the shim does not read them.
	Annotations map[string]string
}

// Device passes a device node through.
type Device struct {
	HostPath, ContainerPath string
	Permissions             string // "rwm"
}

// State of a container.
type State string

// The states, in order.
const (
	Created State = "created"
	Running State = "running"
	Exited  State = "exited"
)

// Status is one container as observed.
type Status struct {
	ID          ID
	State       State
	PID         int // 0 unless running
	CreatedAt   time.Time
	StartedAt   time.Time
	FinishedAt  time.Time
	ExitCode    int
	Signal      int // the signal that ended it, or 0
	OOMKilled   bool
	Reason      string // "Completed", "Error", "OOMKilled", "StartError"
	Message     string
	LogPath     string
	Annotations map[string]string
}

// Sandboxes makes and removes Pod sandboxes.
type Sandboxes interface {
	// EnsureSandbox creates the sandbox or finds it, with the shim running.
	EnsureSandbox(ctx context.Context, spec SandboxSpec) error
	// RemoveSandbox kills what is left and removes everything of the Pod.
	RemoveSandbox(ctx context.Context, pod types.UID) error
	// ListSandboxes returns all sandboxes on the node, also those of Pods
	// unknown to the caller.
	ListSandboxes(ctx context.Context) ([]Sandbox, error)
}

// Containers runs containers in a sandbox that exists.
type Containers interface {
	// Create prepares the container without running its command. A repeated
	// Create with the same ID is a success.
	Create(ctx context.Context, spec Spec) error
	// Start runs it; ErrStart with a text for the user if it cannot.
	Start(ctx context.Context, id ID) error
	// Stop sends the stop signal and, after grace, SIGKILL to all its
	// processes. It returns when the container has exited.
	Stop(ctx context.Context, id ID, grace time.Duration) error
	// Remove deletes a stopped container (kills a running one). Its log stays.
	Remove(ctx context.Context, id ID) error
	// Exec runs a command in the container and returns its exit code. It ends
	// the command when ctx ends. ErrNotRunning, ErrStart.
	Exec(ctx context.Context, id ID, cmd ExecSpec) (exitCode int, err error)
	// Attach connects to the main process's stdio until it exits or ctx ends.
	Attach(ctx context.Context, id ID, streams Streams) error
}

// ExecSpec is a command to run in a container.
type ExecSpec struct {
	Args []string
	TTY  bool
	Streams
}

// Streams are the ends of a session; nil ones are not connected. With a TTY
// Stderr is unused and Resize carries window sizes until closed.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan WindowSize
}

// WindowSize of a terminal, in characters.
type WindowSize struct{ Width, Height uint16 }

// Stats is resource use at one moment, for a container or (Name "") a Pod.
type Stats struct {
	ID                    ID
	At                    time.Time
	CPUUsageNanos         uint64 // cumulative
	MemoryUsageBytes      uint64
	MemoryWorkingSetBytes uint64
	MemoryRSSBytes        uint64
	MemoryLimitBytes      uint64 // 0 is unlimited
	PageFaults            uint64
	MajorPageFaults       uint64
	Pids                  uint64
}

// Observer reads what is there.
type Observer interface {
	// Subscribe streams changes of container states until ctx ends. The first
	// event is a full list (Full set), as is the first after a lost
	// connection; the channel is closed when ctx ends.
	Subscribe(ctx context.Context) <-chan Event
	// Stats of all containers of a Pod, and the Pod itself.
	Stats(ctx context.Context, pod types.UID) ([]Stats, error)
}

// Event is a change: a container's new status, or a full list.
type Event struct {
	Full   []Sandbox // not nil: everything there is
	Pod    types.UID
	Status Status
}

// Runtime is all of it.
type Runtime interface {
	Sandboxes
	Containers
	Observer
}

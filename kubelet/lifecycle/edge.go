package lifecycle

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// The interfaces below are what the hooks need of the rest of the kubelet.
// All methods may be repeated, and are safe for concurrent use.

// ErrImageInvalid marks a reference that cannot be parsed: InvalidImageName.
var ErrImageInvalid = errors.New("invalid image name")

// Credential is one way to log in to a registry. Empty fields are unused.
type Credential struct {
	Username, Password string
	IdentityToken      string
	RegistryToken      string
}

// Image is an image on the node.
type Image struct {
	// ID is "sha256:<config digest>"; Digest is "<repository>@sha256:<manifest digest>", may be "".
	ID, Digest string
	// Names are all tags and digests by which it is known.
	Names      []string
	SizeBytes  int64
	Entrypoint []string
	Cmd        []string
	Env        []string
	WorkingDir string
	User       string
	StopSignal string
}

// User is a resolved user of a container.
type User struct {
	UID, GID int64
	Groups   []int64
}

// Images is the node's image store.
type Images interface {
	// Resolve finds a local image by reference; false when it is not there.
	Resolve(ctx context.Context, ref string) (Image, bool, error)
	// Pull fetches it, trying the credentials in order, then none.
	Pull(ctx context.Context, ref string, auth []Credential) (Image, error)
	// Mount makes a writable root directory for the container key (a path
	// element) and Unmount removes it with what was written.
	Mount(ctx context.Context, key, imageID string) (rootfs string, err error)
	Unmount(ctx context.Context, key string) error
	// ResolveUser finds a user ("", "1000", "1000:1000", "www-data:www-data")
	// in the root directory's /etc/passwd and /etc/group.
	ResolveUser(rootfs, user string) (User, error)
}

// CgroupSpec is a Pod's cgroup.
type CgroupSpec struct {
	UID       types.UID
	QOS       corev1.PodQOSClass
	Resources container.Resources
}

// Cgroups is the node's tree of Pod cgroups.
type Cgroups interface {
	// EnsurePod creates or updates the Pod's cgroup and returns its path,
	// relative to the hierarchy roots.
	EnsurePod(ctx context.Context, spec CgroupSpec) (path string, err error)
	// ResizePod changes the limits of a Pod and of containers that run.
	ResizePod(ctx context.Context, spec CgroupSpec, containers map[container.ID]container.Resources) error
	// RemovePod kills what is left in the Pod's cgroup and removes it, in
	// whichever QoS class it is.
	RemovePod(ctx context.Context, uid types.UID) error
}

// Attachment is a Pod's place in the network.
type Attachment struct {
	NetNS string
	IPs   []string
}

// Network gives Pods their namespace and addresses. It is not called for host
// network Pods.
type Network interface {
	Attach(ctx context.Context, pod *corev1.Pod) (Attachment, error)
	Detach(ctx context.Context, uid types.UID) error
}

// Volumes sets up a Pod's volumes.
type Volumes interface {
	// Setup makes all volumes of the Pod usable; no work on finished ones.
	Setup(ctx context.Context, pod *corev1.Pod) error
	// Mounts returns a container's volume mounts, subPaths resolved.
	Mounts(ctx context.Context, pod *corev1.Pod, c *corev1.Container) ([]container.Mount, error)
	// Refresh brings volume content that follows the API (configMap, secret,
	// downwardAPI, projected) up to the given object.
	Refresh(ctx context.Context, pod *corev1.Pod) error
	// Teardown undoes Setup from the Pod's directory alone.
	Teardown(ctx context.Context, uid types.UID) error
}

// Facts are known about a Pod once it has a network.
type Facts struct {
	IPs, HostIPs []string
	Hostname     string
}

// Environment makes what containers find around them.
type Environment interface {
	// Hostname is the Pod's host name (without domain unless asked for).
	Hostname(pod *corev1.Pod) (string, error)
	// Env is the container's own environment ("K=V"), to be put over the
	// image's: services, envFrom, env with references expanded. ErrConfig (wrapped) when
	// something referred to is missing.
	Env(ctx context.Context, pod *corev1.Pod, c *corev1.Container, facts Facts) ([]string, error)
	// Files writes hosts, resolv.conf and hostname for the Pod (into podDir)
	// and returns their mounts for the container.
	Files(ctx context.Context, pod *corev1.Pod, c *corev1.Container, podDir string, facts Facts) ([]container.Mount, error)
}

// ProbeTarget is a running container to be probed.
type ProbeTarget struct {
	Pod       *corev1.Pod
	Container *corev1.Container
	ID        container.ID
	// IP to connect to: the Pod's, or the node's for a host network Pod.
	IP        string
	StartedAt time.Time
}

// ProbeResults is what probes say of a container. Without a probe of that
// kind Started and Ready are true for a running container; the failed ones
// are false.
type ProbeResults struct {
	Started, Ready bool
	// StartupFailed, LivenessFailed: the threshold is exceeded, restart it.
	StartupFailed, LivenessFailed bool
}

// Probes runs probe workers. A change of results is told by the callback
// given to its constructor (wake this Pod).
type Probes interface {
	// Ensure starts the workers of a running container, once; repeated calls
	// with the same ID only bring newer objects. Until the first result, what
	// the Pod's status said of the same start of the container holds, so that
	// a kubelet restart takes no endpoint out of service.
	Ensure(target ProbeTarget)
	// Results of a container; without workers (not ensured) all false.
	Results(id container.ID) ProbeResults
	// Forget ends the workers of one container, ForgetPod of all of a Pod.
	Forget(id container.ID)
	ForgetPod(uid types.UID)
}

// Package lifecycletest holds fakes of what kubelet/lifecycle needs of the
// rest of the kubelet, for tests without a network, images or mounts. It is
// imported by tests only and starts no goroutines.
package lifecycletest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/lifecycle"
)

// Node is all of them in one: Images, Cgroups, Network, Volumes, Environment,
// Probes and Recorder. Fields are set before use or under Lock.
type Node struct {
	sync.Mutex
	// PullError and SetupError, if not nil, decide by image and Pod.
	PullError  func(image string) error
	SetupError func(pod *corev1.Pod) error
	EnvError   func(pod *corev1.Pod, c *corev1.Container) error
	// ResizeError is what ResizePod answers; Resized what it was given.
	ResizeError error
	Resized     map[container.ID]container.Resources

	present  map[string]bool
	mounted  map[string]bool
	attached map[types.UID]string
	cgroups  map[types.UID]bool
	volumes  map[types.UID]bool
	probes   map[container.ID]lifecycle.ProbeResults
	events   []string
	next     int
}

// NewNode makes an empty one.
func NewNode() *Node {
	return &Node{
		present: map[string]bool{}, mounted: map[string]bool{}, attached: map[types.UID]string{},
		cgroups: map[types.UID]bool{}, volumes: map[types.UID]bool{}, probes: map[container.ID]lifecycle.ProbeResults{},
	}
}

func image(ref string) lifecycle.Image {
	return lifecycle.Image{ID: "sha256:" + ref, Digest: ref + "@sha256:0", Entrypoint: []string{"/serve"}, SizeBytes: 1}
}

// Resolve implements lifecycle.Images.
func (n *Node) Resolve(_ context.Context, ref string) (lifecycle.Image, bool, error) {
	n.Lock()
	defer n.Unlock()
	if strings.ContainsAny(ref, "ABCDEFGHIJKLMNOPQRSTUVWXYZ ") {
		return lifecycle.Image{}, false, fmt.Errorf("%w: %s", lifecycle.ErrImageInvalid, ref)
	}
	return image(ref), n.present[ref], nil
}

// Pull implements lifecycle.Images.
func (n *Node) Pull(_ context.Context, ref string, _ []lifecycle.Credential) (lifecycle.Image, error) {
	n.Lock()
	defer n.Unlock()
	if n.PullError != nil {
		if err := n.PullError(ref); err != nil {
			return lifecycle.Image{}, err
		}
	}
	n.present[ref] = true
	return image(ref), nil
}

// Mount implements lifecycle.Images.
func (n *Node) Mount(_ context.Context, key, _ string) (string, error) {
	n.Lock()
	defer n.Unlock()
	n.mounted[key] = true
	return "/rootfs/" + key, nil
}

// Unmount implements lifecycle.Images.
func (n *Node) Unmount(_ context.Context, key string) error {
	n.Lock()
	defer n.Unlock()
	delete(n.mounted, key)
	return nil
}

// ResolveUser implements lifecycle.Images: root.
func (n *Node) ResolveUser(_, user string) (lifecycle.User, error) {
	if user == "nobody-here" {
		return lifecycle.User{}, errors.New("no such user")
	}
	return lifecycle.User{}, nil
}

// EnsurePod implements lifecycle.Cgroups.
func (n *Node) EnsurePod(_ context.Context, spec lifecycle.CgroupSpec) (string, error) {
	n.Lock()
	defer n.Unlock()
	n.cgroups[spec.UID] = true
	return "kubepods/pod" + string(spec.UID), nil
}

// ResizePod implements lifecycle.Cgroups.
func (n *Node) ResizePod(_ context.Context, _ lifecycle.CgroupSpec, containers map[container.ID]container.Resources) error {
	n.Lock()
	defer n.Unlock()
	if n.Resized == nil {
		n.Resized = map[container.ID]container.Resources{}
	}
	maps.Copy(n.Resized, containers)
	return n.ResizeError
}

// RemovePod implements lifecycle.Cgroups.
func (n *Node) RemovePod(_ context.Context, uid types.UID) error {
	n.Lock()
	defer n.Unlock()
	delete(n.cgroups, uid)
	return nil
}

// Attach implements lifecycle.Network.
func (n *Node) Attach(_ context.Context, pod *corev1.Pod) (lifecycle.Attachment, error) {
	n.Lock()
	defer n.Unlock()
	ip := n.attached[pod.UID]
	if ip == "" {
		n.next++
		ip = fmt.Sprintf("10.0.0.%d", n.next)
		n.attached[pod.UID] = ip
	}
	return lifecycle.Attachment{NetNS: "/run/netns/" + string(pod.UID), IPs: []string{ip}}, nil
}

// Detach implements lifecycle.Network.
func (n *Node) Detach(_ context.Context, uid types.UID) error {
	n.Lock()
	defer n.Unlock()
	delete(n.attached, uid)
	return nil
}

// Setup implements lifecycle.Volumes.
func (n *Node) Setup(_ context.Context, pod *corev1.Pod) error {
	n.Lock()
	defer n.Unlock()
	if n.SetupError != nil {
		if err := n.SetupError(pod); err != nil {
			return err
		}
	}
	n.volumes[pod.UID] = true
	return nil
}

// Mounts implements lifecycle.Volumes.
func (n *Node) Mounts(context.Context, *corev1.Pod, *corev1.Container) ([]container.Mount, error) {
	return nil, nil
}

// Refresh implements lifecycle.Volumes.
func (n *Node) Refresh(context.Context, *corev1.Pod) error { return nil }

// Teardown implements lifecycle.Volumes.
func (n *Node) Teardown(_ context.Context, uid types.UID) error {
	n.Lock()
	defer n.Unlock()
	delete(n.volumes, uid)
	return nil
}

// Hostname implements lifecycle.Environment.
func (n *Node) Hostname(pod *corev1.Pod) (string, error) { return pod.Name, nil }

// Env implements lifecycle.Environment.
func (n *Node) Env(_ context.Context, pod *corev1.Pod, c *corev1.Container, _ lifecycle.Facts) ([]string, error) {
	n.Lock()
	defer n.Unlock()
	if n.EnvError != nil {
		return nil, n.EnvError(pod, c)
	}
	var env []string
	for _, e := range c.Env {
		env = append(env, e.Name+"="+e.Value)
	}
	return env, nil
}

// Files implements lifecycle.Environment.
func (n *Node) Files(context.Context, *corev1.Pod, *corev1.Container, string, lifecycle.Facts) ([]container.Mount, error) {
	return nil, nil
}

// Ensure implements lifecycle.Probes: ready where no probe says otherwise.
func (n *Node) Ensure(target lifecycle.ProbeTarget) {
	n.Lock()
	defer n.Unlock()
	if _, ok := n.probes[target.ID]; ok {
		return
	}
	results := lifecycle.ProbeResults{
		Started: target.Container.StartupProbe == nil,
		Ready:   target.Container.ReadinessProbe == nil,
	}
	for i := range target.Pod.Status.ContainerStatuses {
		old := &target.Pod.Status.ContainerStatuses[i]
		if old.Name == target.ID.Name && int(old.RestartCount) == target.ID.Attempt && old.State.Running != nil {
			results.Ready = results.Ready || old.Ready
		}
	}
	n.probes[target.ID] = results
}

// Results implements lifecycle.Probes.
func (n *Node) Results(id container.ID) lifecycle.ProbeResults {
	n.Lock()
	defer n.Unlock()
	return n.probes[id]
}

// Forget implements lifecycle.Probes.
func (n *Node) Forget(id container.ID) {
	n.Lock()
	defer n.Unlock()
	delete(n.probes, id)
}

// ForgetPod implements lifecycle.Probes.
func (n *Node) ForgetPod(uid types.UID) {
	n.Lock()
	defer n.Unlock()
	maps.DeleteFunc(n.probes, func(id container.ID, _ lifecycle.ProbeResults) bool { return id.Pod == uid })
}

// SetProbe makes the probes of a container say so.
func (n *Node) SetProbe(id container.ID, results lifecycle.ProbeResults) {
	n.Lock()
	defer n.Unlock()
	n.probes[id] = results
}

// Event implements lifecycle.Recorder.
func (n *Node) Event(_ *corev1.Pod, containerName, eventType, reason, message string) {
	n.Lock()
	defer n.Unlock()
	n.events = append(n.events, fmt.Sprintf("%s %s %s: %s", eventType, reason, containerName, message))
}

// Events returns "Normal Started web: Container started" and so on.
func (n *Node) Events() []string {
	n.Lock()
	defer n.Unlock()
	return slices.Clone(n.events)
}

// Leftovers describes everything that was made and not removed.
func (n *Node) Leftovers() []string {
	n.Lock()
	defer n.Unlock()
	var left []string
	for key := range n.mounted {
		left = append(left, "root "+key)
	}
	for uid := range n.attached {
		left = append(left, "network "+string(uid))
	}
	for uid := range n.cgroups {
		left = append(left, "cgroup "+string(uid))
	}
	for uid := range n.volumes {
		left = append(left, "volumes "+string(uid))
	}
	slices.Sort(left)
	return left
}

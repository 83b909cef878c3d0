package app

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/internal/podinfo"
	"github.com/skeg-dev/skeg/kubelet/cgroup"
	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/lifecycle"
	"github.com/skeg-dev/skeg/kubelet/network"
	"github.com/skeg-dev/skeg/kubelet/podenv"
	"github.com/skeg-dev/skeg/kubelet/podworker"
	"github.com/skeg-dev/skeg/kubelet/probe"
	"github.com/skeg-dev/skeg/kubelet/shim/record"
)

// The adapters below make the kubelet's other packages, which do not know
// lifecycle, what its hooks ask for.

// cgroups is lifecycle.Cgroups.
type cgroups struct{ tree *cgroup.Tree }

func (c cgroups) EnsurePod(_ context.Context, spec lifecycle.CgroupSpec) (string, error) {
	class := cgroup.QoS(spec.QOS)
	if class == "" {
		class = cgroup.BestEffort
	}
	path := c.tree.Pod(spec.UID, class)
	return path, c.tree.Ensure(path, spec.Resources)
}

func (c cgroups) ResizePod(_ context.Context, spec lifecycle.CgroupSpec, containers map[container.ID]container.Resources) error {
	class := cgroup.QoS(spec.QOS)
	if class == "" {
		class = cgroup.BestEffort
	}
	path := c.tree.Pod(spec.UID, class)
	limits := make(map[string]container.Resources, len(containers))
	for id, r := range containers {
		limits[record.Cgroup(container.SandboxSpec{CgroupParent: path}, id)] = r
	}
	return c.tree.Resize(path, spec.Resources, limits)
}

func (c cgroups) RemovePod(ctx context.Context, uid types.UID) error {
	var errs []error
	for _, class := range []cgroup.QoS{cgroup.Guaranteed, cgroup.Burstable, cgroup.BestEffort} {
		errs = append(errs, c.tree.Remove(ctx, c.tree.Pod(uid, class)))
	}
	return errors.Join(errs...)
}

// podNetwork is lifecycle.Network.
type podNetwork struct{ *network.Network }

func (n podNetwork) Attach(ctx context.Context, pod *corev1.Pod) (lifecycle.Attachment, error) {
	attachment, err := n.Network.Attach(ctx, pod)
	return lifecycle.Attachment{NetNS: attachment.NetNS, IPs: attachment.IPs}, err
}

// environment is lifecycle.Environment.
type environment struct{ *podenv.Builder }

func (e environment) Env(ctx context.Context, pod *corev1.Pod, c *corev1.Container, facts lifecycle.Facts) ([]string, error) {
	return e.Builder.Env(ctx, pod, c, podenv.Facts(facts))
}

func (e environment) Files(ctx context.Context, pod *corev1.Pod, c *corev1.Container, dir string, facts lifecycle.Facts) ([]container.Mount, error) {
	return e.Builder.Files(ctx, pod, c, dir, podenv.Facts(facts))
}

// podFacts are the addresses of a Pod that the network hook has seen to; a Pod
// on the node's network has the node's.
func podFacts(pod *corev1.Pod, hostIPs []string, lookup func(types.UID) (network.Attachment, bool)) podenv.Facts {
	facts := podenv.Facts{HostIPs: hostIPs}
	if pod.Spec.HostNetwork {
		facts.IPs = hostIPs
	} else if attachment, ok := lookup(pod.UID); ok {
		facts.IPs = attachment.IPs
	}
	return facts
}

// prober is lifecycle.Probes.
type prober struct{ *probe.Probes }

func (p prober) Ensure(target lifecycle.ProbeTarget) { p.Probes.Ensure(probe.Target(target)) }

func (p prober) Results(id container.ID) lifecycle.ProbeResults {
	r := p.Probes.Results(id)
	return lifecycle.ProbeResults{
		Started: r.Started, Ready: r.Ready, StartupFailed: r.StartupFailed, LivenessFailed: r.LivenessFailed,
	}
}

// remembering is the runtime with the containers of ended Pods: those are
// removed at once, but their logs stay until the Pod's object goes, and the
// kubelet's API finds logs by container.
type remembering struct {
	container.Runtime
	pods func() []*corev1.Pod
	dirs *lifecycle.Dirs
}

func (r remembering) ListSandboxes(ctx context.Context) ([]container.Sandbox, error) {
	sandboxes, err := r.Runtime.ListSandboxes(ctx)
	if err != nil {
		return nil, err
	}
	for _, pod := range r.pods() {
		if podinfo.IsTerminal(pod) {
			sandboxes = append(sandboxes, r.remembered(pod))
		}
	}
	return sandboxes, nil
}

func (r remembering) remembered(pod *corev1.Pod) container.Sandbox {
	sandbox := container.Sandbox{Pod: pod.UID}
	dir := r.dirs.LogDir(pod.Namespace, pod.Name, pod.UID)
	for _, list := range [][]corev1.ContainerStatus{
		pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses,
	} {
		for i := range list {
			id, ok := podworker.ParseContainerID(list[i].ContainerID)
			ended := list[i].State.Terminated
			if !ok || ended == nil {
				continue
			}
			sandbox.Containers = append(sandbox.Containers, container.Status{
				ID: id, State: container.Exited, ExitCode: int(ended.ExitCode), Reason: ended.Reason,
				StartedAt: ended.StartedAt.Time, FinishedAt: ended.FinishedAt.Time,
				LogPath: lifecycle.LogPath(dir, id.Name, id.Attempt),
			})
		}
	}
	return sandbox
}

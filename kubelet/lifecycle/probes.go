package lifecycle

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Probing starts probe workers for running containers.
type Probing struct {
	Probes Probes
}

// Name is "probes".
func (*Probing) Name() string { return "probes" }

// Started begins probing the container.
func (p *Probing) Started(_ context.Context, pod *Pod, status container.Status) error {
	spec := FindContainer(pod.API, status.ID.Name)
	if spec == nil {
		return nil
	}
	target := ProbeTarget{Pod: pod.API, Container: spec, ID: status.ID, StartedAt: status.StartedAt}
	if len(pod.IPs) > 0 {
		target.IP = pod.IPs[0]
	}
	p.Probes.Ensure(target)
	return nil
}

// Cleanup ends all workers of the Pod.
func (p *Probing) Cleanup(_ context.Context, uid types.UID) error {
	p.Probes.ForgetPod(uid)
	return nil
}

// FindContainer returns the Pod's container, init container or ephemeral
// container of that name; nil if there is none.
func FindContainer(pod *corev1.Pod, name string) *corev1.Container {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == name {
			return &pod.Spec.Containers[i]
		}
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return &pod.Spec.InitContainers[i]
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			c := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
			return &c
		}
	}
	return nil
}

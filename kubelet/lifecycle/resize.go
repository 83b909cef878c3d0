package lifecycle

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Resizer gives a Pod that runs other resources (KEP-1287).
type Resizer struct {
	Pods       *Admit
	Cgroup     *Cgroup
	Containers *Containers
}

// ResizePending is why a resize is not done, for the condition
// PodResizePending.
type ResizePending struct {
	// Reason is Infeasible or Deferred.
	Reason, Message string
}

// Error is the message.
func (r *ResizePending) Error() string { return r.Message }

// Admit takes the Pod's new requests into account, or returns a *ResizePending.
func (r *Resizer) Admit(pod *corev1.Pod) error {
	node, err := r.Pods.Node()
	if err != nil {
		return fmt.Errorf("read own node: %w", err)
	}
	return r.Pods.resize(pod, node)
}

// Apply sets the limits of the Pod and of the containers given, which run.
func (r *Resizer) Apply(ctx context.Context, pod *Pod, running []container.ID) error {
	limits := map[container.ID]container.Resources{}
	for _, id := range running {
		if c := FindContainer(pod.API, id.Name); c != nil {
			limits[id] = r.Containers.resources(pod.API, c)
		}
	}
	spec := CgroupSpec{UID: pod.UID(), QOS: pod.API.Status.QOSClass, Resources: r.Cgroup.podResources(pod.API)}
	if err := r.Cgroup.Cgroups.ResizePod(ctx, spec, limits); err != nil {
		return fmt.Errorf("resize cgroups: %w", err)
	}
	return nil
}

// resize exchanges what the Pod asks for.
func (a *Admit) resize(pod *corev1.Pod, node *corev1.Node) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if pending := infeasible(pod, node); pending != nil {
		return pending
	}
	old := a.admitted[pod.UID]
	delete(a.admitted, pod.UID)
	if rejection := fitsResources(pod, node, a.admitted); rejection != nil {
		if old != nil {
			a.admitted[pod.UID] = old
		}
		return &ResizePending{Reason: corev1.PodReasonDeferred, Message: rejection.Message}
	}
	if a.admitted != nil {
		a.admitted[pod.UID] = pod
	}
	return nil
}

// infeasible finds what the node could not give even if it were empty.
func infeasible(pod *corev1.Pod, node *corev1.Node) *ResizePending {
	if r := fitsResources(pod, node, nil); r != nil {
		requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			want, have := requests[name], node.Status.Allocatable[name]
			if want.Cmp(have) > 0 {
				return &ResizePending{Reason: corev1.PodReasonInfeasible, Message: fmt.Sprintf(
					"Node didn't have enough capacity: %s, requested: %d, capacity: %d", name,
					amount(name, want.MilliValue(), want.Value()), amount(name, have.MilliValue(), have.Value()))}
			}
		}
		return &ResizePending{Reason: corev1.PodReasonInfeasible, Message: r.Message}
	}
	return nil
}

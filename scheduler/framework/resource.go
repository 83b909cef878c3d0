package framework

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// What a container that requests nothing is taken to use when nodes are
// compared (not when they are filtered), as upstream does, so that many such
// Pods spread.
const (
	defaultMilliCPU    int64 = 100
	defaultMemoryBytes int64 = 200 << 20
)

// Resource is an amount of each resource. The zero value is nothing.
type Resource struct {
	MilliCPU       int64
	MemoryBytes    int64
	EphemeralBytes int64
	// Pods is a number of Pods; used in allocatable amounts.
	Pods int64
	// Scalar holds extended resources and huge pages; may be nil.
	Scalar map[corev1.ResourceName]int64
}

// NewResource converts a list; quantities are rounded up.
func NewResource(list corev1.ResourceList) Resource {
	var r Resource
	for name, q := range list {
		switch name {
		case corev1.ResourceCPU:
			r.MilliCPU = q.MilliValue()
		case corev1.ResourceMemory:
			r.MemoryBytes = q.Value()
		case corev1.ResourceEphemeralStorage:
			r.EphemeralBytes = q.Value()
		case corev1.ResourcePods:
			r.Pods = q.Value()
		default:
			if r.Scalar == nil {
				r.Scalar = map[corev1.ResourceName]int64{}
			}
			r.Scalar[name] = q.Value()
		}
	}
	return r
}

// add adds sign times o; the receiver's Scalar must be its own.
func (r *Resource) add(o *Resource, sign int64) {
	r.MilliCPU += sign * o.MilliCPU
	r.MemoryBytes += sign * o.MemoryBytes
	r.EphemeralBytes += sign * o.EphemeralBytes
	for name, n := range o.Scalar {
		if r.Scalar == nil {
			r.Scalar = map[corev1.ResourceName]int64{}
		}
		r.Scalar[name] += sign * n
	}
}

func (r Resource) clone() Resource {
	r.Scalar = maps.Clone(r.Scalar)
	return r
}

// podRequests returns what the Pod requests (containers, sidecars, init
// containers, overhead, pod level), and the same with defaults for CPU and
// memory that are not requested.
func podRequests(pod *corev1.Pod) (requests, nonZero Resource) {
	requests = NewResource(resource.PodRequests(pod, resource.PodResourcesOptions{}))
	nonZero = NewResource(resource.PodRequests(pod, resource.PodResourcesOptions{
		NonMissingContainerRequests: nonMissing,
	}))
	return requests, nonZero
}

var nonMissing = NewResourceList(defaultMilliCPU, defaultMemoryBytes)

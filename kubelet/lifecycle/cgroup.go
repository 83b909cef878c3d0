package lifecycle

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Cgroup places a Pod in the node's tree of control groups, with the sum of
// its containers' requests and limits.
type Cgroup struct {
	Cgroups Cgroups
	// PidsLimit is the most processes a Pod may have; 0 is no limit.
	PidsLimit int64
	// NoQuota leaves CPU limits unenforced.
	NoQuota bool
}

// Name is "cgroup".
func (*Cgroup) Name() string { return "cgroup" }

// Prepare creates or updates the Pod's cgroup.
func (c *Cgroup) Prepare(ctx context.Context, pod *Pod) error {
	path, err := c.Cgroups.EnsurePod(ctx, CgroupSpec{
		UID: pod.UID(), QOS: pod.API.Status.QOSClass, Resources: c.podResources(pod.API),
	})
	if err != nil {
		return &Failure{Reason: "FailedCreatePodContainer", Err: fmt.Errorf("ensure pod cgroup: %w", err)}
	}
	pod.CgroupParent = path
	return nil
}

// Cleanup removes the cgroup with what is left in it.
func (c *Cgroup) Cleanup(ctx context.Context, uid types.UID) error {
	return c.Cgroups.RemovePod(ctx, uid)
}

// podResources sums the Pod. A limit holds for the Pod only if every
// container has one (or the Pod itself states it).
func (c *Cgroup) podResources(pod *corev1.Pod) container.Resources {
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	limits := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})
	cpuLimited, memoryLimited := true, true
	for i := range pod.Spec.Containers {
		cpuLimited = cpuLimited && !pod.Spec.Containers[i].Resources.Limits.Cpu().IsZero()
		memoryLimited = memoryLimited && !pod.Spec.Containers[i].Resources.Limits.Memory().IsZero()
	}
	for i := range pod.Spec.InitContainers {
		cpuLimited = cpuLimited && !pod.Spec.InitContainers[i].Resources.Limits.Cpu().IsZero()
		memoryLimited = memoryLimited && !pod.Spec.InitContainers[i].Resources.Limits.Memory().IsZero()
	}
	if r := pod.Spec.Resources; r != nil {
		cpuLimited = cpuLimited || !r.Limits.Cpu().IsZero()
		memoryLimited = memoryLimited || !r.Limits.Memory().IsZero()
	}
	out := container.Resources{CPUShares: cpuShares(requests.Cpu()), PidsLimit: c.PidsLimit}
	if cpuLimited && !c.NoQuota {
		out.CPUQuotaMicros, out.CPUPeriodMicros = cpuQuota(limits.Cpu())
	}
	if memoryLimited {
		out.MemoryLimitBytes = limits.Memory().Value()
	}
	out.HugepageLimits = hugepages(limits)
	return out
}

// cpuPeriodMicros is the kernel's default period.
const cpuPeriodMicros = 100_000

// cpuShares converts a request; 2 is the kernel's least, 1024 is one CPU.
func cpuShares(cpu *resource.Quantity) uint64 {
	return max(2, uint64(cpu.MilliValue())*1024/1000)
}

// cpuQuota converts a limit; the kernel refuses quotas below 1 ms.
func cpuQuota(cpu *resource.Quantity) (quota int64, period uint64) {
	milli := cpu.MilliValue()
	if milli == 0 {
		return 0, 0
	}
	return max(1000, milli*cpuPeriodMicros/1000), cpuPeriodMicros
}

// hugepages converts limits like hugepages-2Mi to the kernel's "2MB".
func hugepages(limits corev1.ResourceList) map[string]uint64 {
	var out map[string]uint64
	for name, quantity := range limits {
		size, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix)
		if !ok {
			continue
		}
		if out == nil {
			out = map[string]uint64{}
		}
		out[strings.TrimSuffix(size, "i")+"B"] = uint64(quantity.Value())
	}
	return out
}

package lifecycle

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"
	corehelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// Admit decides whether the node takes a Pod: once, when the Pod is new here.
// It keeps what the admitted Pods ask for until their Cleanup, so that two
// Pods arriving together cannot both get the last of something.
type Admit struct {
	// Node returns the node's own object as last known (its allocatable,
	// labels and taints); required.
	Node func() (*corev1.Node, error)

	mu sync.Mutex
	// admitted is guarded by mu.
	admitted map[types.UID]*corev1.Pod
}

// Name is "admit".
func (*Admit) Name() string { return "admit" }

// Restore counts a Pod that was admitted before the kubelet restarted.
func (a *Admit) Restore(pod *corev1.Pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.admitted == nil {
		a.admitted = map[types.UID]*corev1.Pod{}
	}
	a.admitted[pod.UID] = pod
}

// Prepare admits the Pod or returns a *Rejection.
func (a *Admit) Prepare(_ context.Context, pod *Pod) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.admitted[pod.UID()]; ok {
		return nil
	}
	node, err := a.Node()
	if err != nil {
		return fmt.Errorf("read own node: %w", err)
	}
	if rejection := fits(pod.API, node, a.admitted); rejection != nil {
		return rejection
	}
	if a.admitted == nil {
		a.admitted = map[types.UID]*corev1.Pod{}
	}
	a.admitted[pod.UID()] = pod.API
	return nil
}

// Cleanup gives back what the Pod had.
func (a *Admit) Cleanup(_ context.Context, uid types.UID) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.admitted, uid)
	return nil
}

// fits repeats the scheduler's basic checks against the node as it is now.
// The reasons and texts are those of the API's users know from upstream.
func fits(pod *corev1.Pod, node *corev1.Node, others map[types.UID]*corev1.Pod) *Rejection {
	if pod.Spec.OS != nil && string(pod.Spec.OS.Name) != runtime.GOOS {
		return &Rejection{Reason: "PodOSNotSupported", Message: "Failed to admit pod as the OS field doesn't match node OS"}
	}
	if r := fitsResources(pod, node, others); r != nil {
		return r
	}
	match, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node)
	if err != nil || !match {
		return predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
	}
	if portsTaken(pod, others) {
		return predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports")
	}
	if static := pod.Annotations["kubernetes.io/config.source"]; static == "" || static == "api" {
		taint, untolerated := corehelpers.FindMatchingUntoleratedTaint(klog.Background(), node.Spec.Taints, pod.Spec.Tolerations,
			func(t *corev1.Taint) bool { return t.Effect == corev1.TaintEffectNoExecute }, true)
		if untolerated {
			return predicate("TaintToleration", fmt.Sprintf("node(s) had untolerated taint {%s: %s}", taint.Key, taint.Value))
		}
	}
	return nil
}

func predicate(name, why string) *Rejection {
	return &Rejection{Reason: name, Message: fmt.Sprintf("Predicate %s failed: %s", name, why)}
}

func fitsResources(pod *corev1.Pod, node *corev1.Node, others map[types.UID]*corev1.Pod) *Rejection {
	if allowed, ok := node.Status.Allocatable[corev1.ResourcePods]; ok && int64(len(others)+1) > allowed.Value() {
		return outOf(corev1.ResourcePods, 1, int64(len(others)), allowed.Value())
	}
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	used := map[corev1.ResourceName]int64{}
	for _, other := range others {
		for name, quantity := range resourcehelper.PodRequests(other, resourcehelper.PodResourcesOptions{}) {
			used[name] += amount(name, quantity.MilliValue(), quantity.Value())
		}
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		quantity, asked := requests[name]
		allocatable, known := node.Status.Allocatable[name]
		if !asked || quantity.IsZero() || !known {
			continue
		}
		want, have := amount(name, quantity.MilliValue(), quantity.Value()), amount(name, allocatable.MilliValue(), allocatable.Value())
		if want > have-used[name] {
			return outOf(name, want, used[name], have)
		}
	}
	return nil
}

// amount counts CPU in thousandths and all else in units.
func amount(name corev1.ResourceName, milli, units int64) int64 {
	if name == corev1.ResourceCPU {
		return milli
	}
	return units
}

func outOf(name corev1.ResourceName, requested, used, capacity int64) *Rejection {
	return &Rejection{
		Reason: "OutOf" + string(name),
		Message: fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d",
			name, requested, used, capacity),
	}
}

func portsTaken(pod *corev1.Pod, others map[types.UID]*corev1.Pod) bool {
	wanted := hostPorts(pod)
	if len(wanted) == 0 {
		return false
	}
	for _, other := range others {
		for _, theirs := range hostPorts(other) {
			for _, ours := range wanted {
				if ours.number == theirs.number && ours.protocol == theirs.protocol && overlap(ours.ip, theirs.ip) {
					return true
				}
			}
		}
	}
	return false
}

type hostPort struct {
	ip       string
	protocol corev1.Protocol
	number   int32
}

func overlap(a, b string) bool {
	any := func(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }
	return a == b || any(a) || any(b)
}

func hostPorts(pod *corev1.Pod) []hostPort {
	var ports []hostPort
	collect := func(c *corev1.Container) {
		for _, p := range c.Ports {
			if p.HostPort > 0 {
				protocol := p.Protocol
				if protocol == "" {
					protocol = corev1.ProtocolTCP
				}
				ports = append(ports, hostPort{ip: p.HostIP, protocol: protocol, number: p.HostPort})
			}
		}
	}
	for i := range pod.Spec.Containers {
		collect(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			collect(c)
		}
	}
	return ports
}

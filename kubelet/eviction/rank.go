package eviction

import (
	"cmp"
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/internal/podinfo"
)

// candidate is a Pod that could go.
type candidate struct {
	pod *corev1.Pod
	// over is how much it takes beyond what it asked for.
	over int64
}

// rank lists the Pods that may be evicted, the first to go first: those that
// take more than they asked for, by priority, by how much more ("Node-pressure
// Eviction", pod selection).
func (m *Manager) rank(ctx context.Context, s Signal) []*corev1.Pod {
	var list []candidate
	for _, pod := range m.cfg.Pods() {
		if podinfo.IsTerminal(pod) || podinfo.IsCritical(pod) {
			continue
		}
		usage, err := m.cfg.Usage(ctx, pod.UID)
		if err != nil {
			m.cfg.Logger.Debug("reading usage of pod", "pod", pod.Namespace+"/"+pod.Name, "error", err)
		}
		list = append(list, candidate{pod: pod, over: over(pod, s, usage)})
	}
	slices.SortStableFunc(list, compare)
	out := make([]*corev1.Pod, len(list))
	for i := range list {
		out[i] = list[i].pod
	}
	return out
}

func over(pod *corev1.Pod, s Signal, usage Usage) int64 {
	requests := podinfo.Requests(pod)
	switch s.resource() {
	case "memory":
		return usage.MemoryBytes - requests.Memory().Value()
	case "pids":
		return usage.PIDs
	default:
		return usage.DiskBytes - requests.StorageEphemeral().Value()
	}
}

func compare(a, b candidate) int {
	return cmp.Or(
		boolInt(b.over > 0)-boolInt(a.over > 0),
		cmp.Compare(ptr.Deref(a.pod.Spec.Priority, 0), ptr.Deref(b.pod.Spec.Priority, 0)),
		cmp.Compare(b.over, a.over),
	)
}

package endpointslice

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
)

// triggers remember, for each service, when its pods last changed readiness,
// to tell which moment a change of its slices goes back to. The zero value is
// ready.
type triggers struct {
	mu sync.Mutex
	// seen is guarded by mu; the key "" holds the service's own time.
	seen map[string]map[string]time.Time
}

// next returns the earliest change since the last call, "" when there is none.
func (t *triggers) next(key string, service *corev1.Service, pods []*corev1.Pod) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.seen[key]
	now := map[string]time.Time{"": service.CreationTimestamp.Time}
	for _, pod := range pods {
		if c := podcontrol.Condition(pod, corev1.PodReady); c != nil && podcontrol.Ready(pod) {
			now[pod.Name] = c.LastTransitionTime.Time
		}
	}
	var first time.Time
	for name, at := range now {
		if !at.IsZero() && at.After(before[name]) && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	if t.seen == nil {
		t.seen = map[string]map[string]time.Time{}
	}
	t.seen[key] = now
	if first.IsZero() {
		return ""
	}
	return first.UTC().Format(time.RFC3339Nano)
}

func (t *triggers) forget(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.seen, key)
}

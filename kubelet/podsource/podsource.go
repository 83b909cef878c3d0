// Package podsource brings the Pods that are wanted on this node to the
// kubelet: those bound to it in the API (apiserver.go) and those in manifest
// files (static.go), for which it keeps mirror objects in the API
// (mirror.go). It calls a Sink, which app/ makes of kubelet/podworker.
// Goroutines: those of each part's Run and of the informer.
package podsource

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// Sink takes the wanted Pods. Calls for one Pod come in order.
type Sink interface {
	// Apply: the Pod is wanted so. The object is read-only.
	Apply(pod *corev1.Pod)
	// Remove: it is not wanted any more; the object is its last state.
	Remove(pod *corev1.Pod)
	// Synced: every source has applied all it has.
	Synced()
}

// Barrier calls Synced of a Sink once a number of sources are done.
type Barrier struct {
	sink Sink

	mu sync.Mutex
	// left is guarded by mu.
	left int
}

// NewBarrier waits for the given number of sources.
func NewBarrier(sink Sink, sources int) *Barrier {
	return &Barrier{sink: sink, left: sources}
}

// Done is called once by each source.
func (b *Barrier) Done() {
	b.mu.Lock()
	b.left--
	last := b.left == 0
	b.mu.Unlock()
	if last {
		b.sink.Synced()
	}
}

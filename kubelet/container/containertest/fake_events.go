package containertest

import (
	"context"

	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// subscriber is one Subscribe: events wait in pending, never lost, never
// blocking who publishes.
type subscriber struct {
	pending []container.Event // guarded by Fake.mu
	wake    chan struct{}     // size 1
}

func (f *Fake) publish(c *fakeContainer) {
	for s := range f.subscribers {
		s.pending = append(s.pending, container.Event{Pod: c.spec.ID.Pod, Status: c.status})
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// Subscribe implements container.Observer.
func (f *Fake) Subscribe(ctx context.Context) <-chan container.Event {
	out := make(chan container.Event)
	s := &subscriber{wake: make(chan struct{}, 1)}
	f.mu.Lock()
	s.pending = []container.Event{{Full: f.list()}}
	f.subscribers[s] = true
	f.mu.Unlock()
	s.wake <- struct{}{}
	go func() {
		defer close(out)
		defer func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			delete(f.subscribers, s)
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case <-s.wake:
			}
			f.mu.Lock()
			batch := s.pending
			s.pending = nil
			f.mu.Unlock()
			for _, e := range batch {
				select {
				case out <- e:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out
}

// Stats implements container.Observer: round numbers for what runs.
func (f *Fake) Stats(_ context.Context, pod types.UID) ([]container.Stats, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sb := f.sandboxes[pod]
	if sb == nil {
		return nil, container.ErrNotFound
	}
	total := container.Stats{ID: container.ID{Pod: pod}, At: f.now()}
	all := []container.Stats{}
	for id, c := range sb.containers {
		if c.status.State != container.Running {
			continue
		}
		one := container.Stats{ID: id, At: f.now(), CPUUsageNanos: 1e9, MemoryUsageBytes: 2 << 20,
			MemoryWorkingSetBytes: 1 << 20, MemoryRSSBytes: 1 << 20, Pids: 1}
		total.CPUUsageNanos += one.CPUUsageNanos
		total.MemoryUsageBytes += one.MemoryUsageBytes
		total.MemoryWorkingSetBytes += one.MemoryWorkingSetBytes
		total.MemoryRSSBytes += one.MemoryRSSBytes
		total.Pids++
		all = append(all, one)
	}
	return append(all, total), nil
}

var _ container.Runtime = (*Fake)(nil)

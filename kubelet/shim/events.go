package main

import (
	"sync"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// hub tells subscribers of new statuses. A slow one misses the ones in between,
// never the last: pending holds at most one for each container.
type hub struct {
	mu          sync.Mutex
	subscribers map[*subscriber]bool // guarded by mu
}

type subscriber struct {
	order   []container.ID                    // guarded by hub.mu
	pending map[container.ID]container.Status // guarded by hub.mu
	wake    chan struct{}                     // size 1
}

func newHub() *hub { return &hub{subscribers: map[*subscriber]bool{}} }

func (h *hub) publish(s container.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for sub := range h.subscribers {
		if _, waiting := sub.pending[s.ID]; !waiting {
			sub.order = append(sub.order, s.ID)
		}
		sub.pending[s.ID] = s
		select {
		case sub.wake <- struct{}{}:
		default:
		}
	}
}

func (h *hub) subscribe() *subscriber {
	sub := &subscriber{pending: map[container.ID]container.Status{}, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subscribers[sub] = true
	return sub
}

func (h *hub) unsubscribe(sub *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subscribers, sub)
}

// take returns what is pending, in order of first change.
func (h *hub) take(sub *subscriber) []container.Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	var batch []container.Status
	for _, id := range sub.order {
		batch = append(batch, sub.pending[id])
	}
	sub.order, sub.pending = nil, map[container.ID]container.Status{}
	return batch
}

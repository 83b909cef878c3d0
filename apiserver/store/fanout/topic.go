package fanout

import (
	"sync/atomic"

	"github.com/skeg-dev/skeg/apiserver/store"
)

// topic is the events of one scope, as a linked list that watchers walk. What
// all have passed is garbage.
type topic struct {
	tail     *node
	watchers map[*watcher]struct{}
	// checked is the total at which laggards were last looked for.
	checked int64
}

// node is one published batch. next is set, and then ready closed, when the
// following batch is there.
type node struct {
	events []*store.Event
	// total counts the events of the topic up to and including this node.
	total int64
	next  atomic.Pointer[node]
	ready chan struct{}
}

func newTopic() *topic {
	return &topic{tail: &node{ready: make(chan struct{})}, watchers: map[*watcher]struct{}{}}
}

func (t *topic) append(events []*store.Event, maxLag int) {
	n := &node{events: events, total: t.tail.total + int64(len(events)), ready: make(chan struct{})}
	last := t.tail
	t.tail = n
	last.next.Store(n)
	close(last.ready)
	// Looking at all watchers every so many events keeps the cost of an event
	// independent of their number.
	if n.total-t.checked > int64(maxLag/4) {
		t.checked = n.total
		for w := range t.watchers {
			if n.total-w.consumed.Load() > int64(maxLag) {
				w.end(store.ErrExpired)
			}
		}
	}
}

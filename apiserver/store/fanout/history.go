package fanout

import (
	"sort"
	"time"

	"github.com/skeg-dev/skeg/apiserver/store"
)

// history is a ring of recent events in revision order. It grows while a full
// ring holds only fresh events, and shrinks when most of it is stale.
type history struct {
	min, max  int
	freshness time.Duration
	// floor: events up to it may be missing.
	floor        int64
	start, count int
	slots        []slot
}

type slot struct {
	event *store.Event
	at    time.Time
}

func newHistory(floor int64, c Config) history {
	return history{min: c.MinEvents, max: c.MaxEvents, freshness: c.Freshness, floor: floor, slots: make([]slot, c.MinEvents)}
}

func (h *history) at(i int) *slot { return &h.slots[(h.start+i)%len(h.slots)] }

func (h *history) add(ev *store.Event, now time.Time) {
	if h.count == len(h.slots) {
		h.fit(now)
	}
	if h.count == len(h.slots) {
		h.drop(1)
	}
	*h.at(h.count) = slot{ev, now}
	h.count++
}

// fit resizes a full ring: twice as large when even its oldest event is
// fresh, half as large when three quarters of it are stale.
func (h *history) fit(now time.Time) {
	stale := now.Add(-h.freshness)
	switch size := len(h.slots); {
	case h.at(0).at.After(stale) && size < h.max:
		h.resize(min(size*2, h.max))
	case size > h.min && h.at(size*3/4).at.Before(stale):
		h.drop(size - size/2)
		h.resize(max(size/2, h.min))
	}
}

func (h *history) resize(size int) {
	slots := make([]slot, size)
	for i := range h.count {
		slots[i] = *h.at(i)
	}
	h.slots, h.start = slots, 0
}

// drop removes the n oldest events.
func (h *history) drop(n int) {
	for range n {
		h.floor = h.at(0).event.Revision
		*h.at(0) = slot{}
		h.start = (h.start + 1) % len(h.slots)
		h.count--
	}
}

func (h *history) forget(revision int64) {
	h.drop(h.after(revision))
	h.floor = max(h.floor, revision)
}

// after returns the index of the first event newer than revision.
func (h *history) after(revision int64) int {
	return sort.Search(h.count, func(i int) bool { return h.at(i).event.Revision > revision })
}

// since returns the wanted events after revision; false when some are gone.
func (h *history) since(revision int64, all bool, wanted func(*store.Event) bool) ([]*store.Event, bool) {
	if revision < h.floor {
		return nil, false
	}
	first := h.after(revision)
	if all {
		events := make([]*store.Event, 0, h.count-first)
		for i := first; i < h.count; i++ {
			events = append(events, h.at(i).event)
		}
		return events, true
	}
	var events []*store.Event
	for i := first; i < h.count; i++ {
		if ev := h.at(i).event; wanted(ev) {
			events = append(events, ev)
		}
	}
	return events, true
}

package podworker

import (
	"time"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Container restarts wait 10 s after the second crash, doubling to 5 minutes,
// and the count starts anew after 10 minutes without one ("Pod Lifecycle",
// container restarts).
const (
	crashFirst  = 10 * time.Second
	crashMax    = 300 * time.Second
	crashForget = 2 * crashMax
)

// crashes is the restart back-off of one Pod's containers. It belongs to the
// Pod's worker.
type crashes struct {
	// max is the longest wait; 0 is crashMax.
	max     time.Duration
	entries map[string]crashEntry
}

type crashEntry struct {
	delay time.Duration
	last  time.Time // when the restart after the crash was made
}

func (c *crashes) limit() time.Duration {
	if c.max > 0 {
		return c.max
	}
	return crashMax
}

// until is the earliest time of the next start of a container that ended.
func (c *crashes) until(status container.Status) time.Time {
	entry, ok := c.entries[status.ID.Name]
	if !ok || status.FinishedAt.Sub(entry.last) > crashForget {
		return time.Time{}
	}
	return status.FinishedAt.Add(entry.delay)
}

// restarted notes a restart, so that the next one waits longer.
func (c *crashes) restarted(name string, now time.Time) {
	if c.entries == nil {
		c.entries = map[string]crashEntry{}
	}
	entry, ok := c.entries[name]
	delay := min(crashFirst, c.limit())
	if ok && now.Sub(entry.last) <= crashForget+entry.delay {
		delay = min(2*entry.delay, c.limit())
	}
	c.entries[name] = crashEntry{delay: delay, last: now}
}

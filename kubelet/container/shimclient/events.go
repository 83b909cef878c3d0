package shimclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/shim/protocol"
	"github.com/skeg-dev/skeg/kubelet/shim/record"
)

// reconnectWait is between attempts to reach a shim that lives but does not
// accept; it is only ever that while it starts or is out of descriptors.
const reconnectWait = 100 * time.Millisecond

// watch follows a Pod's shim until there is none. Called with p.mu held; again
// for a Pod that is watched, it does nothing.
func (c *Client) watch(p *pod) {
	if p.watched {
		return
	}
	p.watched = true
	c.wg.Go(func() {
		for c.ctx.Err() == nil {
			err := c.follow(p.dir)
			if c.ctx.Err() != nil {
				return
			}
			gone, berr := c.checkShim(p)
			if berr != nil {
				slog.Error("cannot clean up after a shim", "dir", string(p.dir), "error", berr)
			}
			if gone {
				return
			}
			slog.Debug("reconnecting to shim", "dir", string(p.dir), "error", err)
			select {
			case <-c.ctx.Done():
			case <-time.After(reconnectWait):
			}
		}
	})
}

// checkShim finds out whether a lost connection means a dead shim, and buries it.
func (c *Client) checkShim(p *pod) (gone bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.removed {
		p.watched = false
		return true, nil
	}
	lock, held, err := p.dir.Lock()
	if held || err != nil {
		return false, err
	}
	p.watched = false
	return true, errors.Join(c.bury(c.ctx, p.dir), lock.Close())
}

// follow passes a shim's events on until the connection ends.
func (c *Client) follow(dir record.Dir) error {
	conn, err := dial(c.ctx, dir)
	if err != nil {
		return err
	}
	defer conn.Close()
	release := context.AfterFunc(c.ctx, func() { _ = conn.Close() }) // ends the reads below
	defer release()
	r, err := roundTrip(c.ctx, conn, protocol.Request{Op: protocol.OpSubscribe})
	if err != nil {
		return err
	}
	for _, s := range r.Statuses {
		c.hub.publish(s)
	}
	for {
		var s container.Status
		if err := protocol.ReadJSON(conn, protocol.FrameEvent, &s); err != nil {
			return err
		}
		c.hub.publish(s)
	}
}

// hub tells subscribers of statuses. A slow one misses the ones in between,
// never the last of a container.
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

func (h *hub) take(sub *subscriber) []container.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	var batch []container.Event
	for _, id := range sub.order {
		batch = append(batch, container.Event{Pod: id.Pod, Status: sub.pending[id]})
	}
	sub.order, sub.pending = nil, map[container.ID]container.Status{}
	return batch
}

// Subscribe implements container.Observer.
func (c *Client) Subscribe(ctx context.Context) <-chan container.Event {
	out := make(chan container.Event)
	sub := c.hub.subscribe() // before the list, so that nothing is between
	go func() {
		defer close(out)
		defer c.hub.unsubscribe(sub)
		full := c.fullList(ctx)
		if full == nil {
			return
		}
		batch := []container.Event{{Full: full}}
		for {
			for _, e := range batch {
				select {
				case out <- e:
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-sub.wake:
			case <-ctx.Done():
				return
			}
			batch = c.hub.take(sub)
		}
	}()
	return out
}

// fullList retries until it succeeds or ctx ends (nil): nothing can be told
// without it.
func (c *Client) fullList(ctx context.Context) []container.Sandbox {
	for {
		all, err := c.ListSandboxes(ctx)
		if err == nil {
			return all
		}
		slog.Error("cannot list sandboxes", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// Stats implements container.Observer.
func (c *Client) Stats(_ context.Context, uid types.UID) ([]container.Stats, error) {
	if !record.ValidName(string(uid)) {
		return nil, fmt.Errorf("pod UID %q: %w", uid, container.ErrNotFound)
	}
	dir := c.dir(uid)
	sb, err := dir.Sandbox()
	if err != nil {
		return nil, fmt.Errorf("stats of sandbox %s: %w", uid, err)
	}
	statuses, err := dir.Statuses()
	if err != nil {
		return nil, err
	}
	all := []container.Stats{}
	for _, s := range statuses {
		if s.State != container.Running {
			continue
		}
		one, err := c.cfg.Cgroups.Stats(record.Cgroup(sb.Spec, s.ID))
		if errors.Is(err, container.ErrNotFound) {
			continue // it ended just now
		}
		if err != nil {
			return nil, err
		}
		one.ID = s.ID
		all = append(all, one)
	}
	total, err := c.cfg.Cgroups.Stats(sb.Spec.CgroupParent)
	if err != nil {
		return nil, err
	}
	total.ID = container.ID{Pod: uid}
	return append(all, total), nil
}

var (
	_ container.Runtime     = (*Client)(nil)
	_ container.LogReopener = (*Client)(nil)
)

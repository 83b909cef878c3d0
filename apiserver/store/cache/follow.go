package cache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// Back-off of a cache whose backing does not answer.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// Run lists, then follows changes until ctx ends. A broken stream is resumed
// where it broke; when that is not possible any more all is listed again and
// all watches end with store.ErrExpired, so that no client misses a change.
//
//	listing ──► following ──stream broke──► following again from there
//	   ▲____________└────history compacted
func (c *Cache) Run(ctx context.Context) error {
	defer c.hub.Close()
	retry := firstRetry
	listed := false
	for {
		err := c.round(ctx, &listed, func() { retry = firstRetry })
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, store.ErrExpired) {
			listed = false
		}
		c.logger.Warn("watch cache lost its stream", "err", err, "listed", listed, "retry", retry)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retry):
		}
		retry = min(retry*2, lastRetry)
	}
}

// round lists unless that is done, and follows; it returns why it ended.
func (c *Cache) round(ctx context.Context, listed *bool, works func()) error {
	if !*listed {
		if err := c.list(ctx); err != nil {
			return err
		}
		*listed = true
	}
	return c.follow(ctx, c.hub.Revision(), works)
}

// list fills the tree anew. It shows the result as a state unless it is older
// than the call: then follow does, when it has caught up.
func (c *Cache) list(ctx context.Context) error {
	current, _, err := c.backing.Revision(ctx, "")
	if err != nil {
		return fmt.Errorf("read current revision: %w", err)
	}
	page, err := c.page(ctx, current)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	c.tree = newTree()
	for _, item := range page.Items {
		c.tree.ReplaceOrInsert(item)
	}
	c.hub.Reset(page.Revision)
	if page.Revision >= current {
		c.publish(c.tree.Clone(), page.Revision, page.Revision)
	}
	return nil
}

// page reads everything: the first time at an older revision, if that is not
// compacted, so that history is there when the clients of the process before
// come back.
func (c *Cache) page(ctx context.Context, current int64) (*store.Page, error) {
	if c.state.Load() == nil && c.config.Replay > 0 {
		page, err := c.backing.List(ctx, store.Query{Consistency: store.Consistency{Exactly: max(1, current-c.config.Replay)}})
		if !errors.Is(err, store.ErrExpired) && !errors.Is(err, store.ErrFuture) {
			return page, err //nolint:wrapcheck // wrapped by list
		}
	}
	return c.backing.List(ctx, store.Query{Consistency: store.Consistency{AtLeast: store.Latest}}) //nolint:wrapcheck // wrapped by list
}

// follow applies changes after a revision until the stream ends.
func (c *Cache) follow(ctx context.Context, after int64, works func()) error {
	target, _, err := c.backing.Revision(ctx, "")
	if err != nil {
		return fmt.Errorf("read current revision: %w", err)
	}
	stream, err := c.backing.Follow(ctx, after)
	if err != nil {
		return fmt.Errorf("follow from revision %d: %w", after, err)
	}
	defer stream.Stop()
	p := progress{stream: stream}
	idle := time.NewTicker(c.config.IdleProgress)
	defer idle.Stop()
	var again <-chan time.Time
	for {
		if again == nil && (c.waiting.Load() > 0 || c.state.Load() == nil) {
			again = time.After(askAgain)
		}
		select {
		case batch, ok := <-stream.Events():
			if !ok {
				return endOf(stream)
			}
			if err := c.apply(batch, target); err != nil {
				return err
			}
			works()
		case <-c.asked:
			err = p.request()
		case <-again:
			again = nil
			err = p.request()
		case <-idle.C:
			if c.hub.Watchers() > 0 {
				err = p.request()
			}
		}
		if err != nil {
			return err
		}
	}
}

func endOf(stream store.Stream) error {
	if err := stream.Err(); err != nil {
		return fmt.Errorf("follow: %w", err)
	}
	return errors.New("follow: the stream ended")
}

// progress asks a stream for progress messages, if it can give them.
type progress struct{ stream store.Stream }

func (p progress) request() error {
	if s, ok := p.stream.(interface{ RequestProgress() error }); ok {
		return s.RequestProgress() //nolint:wrapcheck // it says what
	}
	return nil
}

// apply takes a batch into the tree, publishes the state and then the events:
// a client that saw an event finds the object. No state is shown before
// target.
func (c *Cache) apply(batch []*store.Event, target int64) error {
	events := make([]*store.Event, 0, len(batch))
	revision := c.hub.Revision()
	for _, ev := range batch {
		revision = max(revision, ev.Revision)
		if ev.Type == store.Bookmark {
			continue
		}
		out, err := c.change(ev)
		if err != nil {
			return err
		}
		if out != nil {
			events = append(events, out)
		}
	}
	switch s := c.state.Load(); {
	case s == nil && revision < target:
	case s == nil || len(events) > 0:
		changed := revision
		if len(events) > 0 {
			changed = events[len(events)-1].Revision
		}
		c.publish(c.tree.Clone(), changed, revision)
	case revision > s.revision:
		c.publish(s.tree, s.changed, revision)
	}
	c.hub.Publish(events)
	c.hub.Progress(revision)
	return nil
}

// change applies one event to the tree and completes it with the state before;
// nil when it changes nothing.
func (c *Cache) change(ev *store.Event) (*store.Event, error) {
	if ev.Type == store.Deleted {
		previous, found := c.tree.Delete(ev.Item)
		if !found {
			return nil, nil //nolint:nilnil // created and deleted before the list
		}
		last, err := lastState(previous, ev.Revision)
		if err != nil {
			return nil, err
		}
		return &store.Event{Type: store.Deleted, Revision: ev.Revision, Item: last, Previous: previous}, nil
	}
	previous, found := c.tree.ReplaceOrInsert(ev.Item)
	if !found {
		return &store.Event{Type: store.Added, Revision: ev.Revision, Item: ev.Item}, nil
	}
	return &store.Event{Type: store.Modified, Revision: ev.Revision, Item: ev.Item, Previous: previous}, nil
}

// lastState is a deleted object's: as it was, at the revision of the deletion.
func lastState(previous *store.Item, revision int64) (*store.Item, error) {
	obj, ok := previous.Object.DeepCopyObject().(resource.Object)
	if !ok {
		return nil, fmt.Errorf("copy %T: it has no metadata", previous.Object)
	}
	obj.SetResourceVersion(strconv.FormatInt(revision, 10))
	return &store.Item{Key: previous.Key, Revision: revision, Object: obj}, nil
}

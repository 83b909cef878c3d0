package authz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/skeg-dev/skeg/apiserver/store"
)

// mirrorRetry is the pause after a list or watch that failed; the store is in
// this process, so failures are short.
const mirrorRetry = 200 * time.Millisecond

// follower is told of every object of one store. Calls come from one goroutine.
type follower interface {
	// replace gives the whole content.
	replace(items []*store.Item)
	// apply gives one change; never a bookmark.
	apply(e *store.Event)
}

// mirror keeps a follower up to date with a store: list, watch, and list again
// when the watch ends. It is a Runnable with Ready.
type mirror struct {
	name     string
	source   store.Store
	follower follower
	synced   atomic.Bool
}

// Ready returns nil once the first list was applied.
func (m *mirror) Ready() error {
	if !m.synced.Load() {
		return fmt.Errorf("%s are not read yet", m.name)
	}
	return nil
}

// Run follows until ctx ends.
func (m *mirror) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if err := m.follow(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrExpired) {
			slog.Warn("cannot follow objects", "resource", m.name, "err", err)
		}
		timer.Reset(mirrorRetry)
	}
}

func (m *mirror) follow(ctx context.Context) error {
	page, err := m.source.List(ctx, store.Query{Consistency: store.Consistency{AtLeast: store.Latest}})
	if err != nil {
		return fmt.Errorf("list %s: %w", m.name, err)
	}
	m.follower.replace(page.Items)
	m.synced.Store(true)
	stream, err := m.source.Watch(ctx, store.Query{Consistency: store.Consistency{AtLeast: page.Revision}})
	if err != nil {
		return fmt.Errorf("watch %s: %w", m.name, err)
	}
	defer stream.Stop()
	for events := range stream.Events() {
		for _, e := range events {
			if e.Type != store.Bookmark {
				m.follower.apply(e)
			}
		}
	}
	return stream.Err()
}

package reconcile

import (
	"sync"
	"time"
)

// expectationsTimeout is how long missing events hold a controller back:
// after it, the cache is believed again (upstream ExpectationsTimeout).
const expectationsTimeout = 5 * time.Minute

// Expectations remember the creations and deletions a controller has asked for
// and not yet seen in its cache, by key of the owner, so that a reconcile on a
// lagging cache does not do the same work twice. The zero value is ready. Safe
// for concurrent use.
type Expectations struct {
	mu sync.Mutex
	// byOwner is guarded by mu.
	byOwner map[string]*expected
}

type expected struct {
	creations int
	// deletions holds the keys of objects whose removal was asked for.
	deletions map[string]struct{}
	since     time.Time
}

// Satisfied reports whether everything expected for the owner was seen, or has
// been waited for long enough.
func (e *Expectations) Satisfied(owner string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.byOwner[owner]
	if x == nil {
		return true
	}
	return (x.creations <= 0 && len(x.deletions) == 0) || time.Since(x.since) > expectationsTimeout
}

// ExpectCreations starts to wait for n new objects of the owner.
func (e *Expectations) ExpectCreations(owner string, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fresh(owner).creations += n
}

// ExpectDeletions starts to wait until the named objects of the owner are
// gone or going.
func (e *Expectations) ExpectDeletions(owner string, objects []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.fresh(owner)
	for _, object := range objects {
		x.deletions[object] = struct{}{}
	}
}

// fresh returns the owner's record, emptied when it had timed out. Caller holds mu.
func (e *Expectations) fresh(owner string) *expected {
	if e.byOwner == nil {
		e.byOwner = map[string]*expected{}
	}
	x := e.byOwner[owner]
	if x == nil || time.Since(x.since) > expectationsTimeout {
		x = &expected{deletions: map[string]struct{}{}}
		e.byOwner[owner] = x
	}
	x.since = time.Now()
	return x
}

// Created records that n creations were seen, or will not happen after all.
func (e *Expectations) Created(owner string, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.byOwner[owner]; x != nil {
		x.creations = max(x.creations-n, 0)
	}
}

// Deleted records that the object is gone or going, or will not be deleted
// after all.
func (e *Expectations) Deleted(owner, object string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.byOwner[owner]; x != nil {
		delete(x.deletions, object)
	}
}

// Forget drops what is known about an owner that is gone.
func (e *Expectations) Forget(owner string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.byOwner, owner)
}

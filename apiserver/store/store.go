// Package store is the contract for keeping API objects: an ordered,
// versioned map with a change stream, one Store per resource.
//
// Implementations: store/etcd (truth), store/cache (serves reads and watches
// from memory, writes through), store/memory (tests). All pass
// store/storetest. Only store/etcd talks to etcd.
//
// Keys on this contract are "<namespace>/<name>" or "<name>"; the layout in
// etcd is upstream's:
//
//	/registry/
//	├── pods/<namespace>/<name>
//	├── services/specs/<namespace>/<name>
//	├── services/endpoints/<namespace>/<name>
//	├── minions/<name>                          (Nodes)
//	└── <resource>/[<namespace>/]<name>         protobuf, "k8s\0" envelope,
//	                                            metadata.resourceVersion empty
//
// Revisions are etcd's mod revisions: one counter over all resources,
// served as metadata.resourceVersion.
package store

import (
	"context"
	"errors"

	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Errors of every implementation; test with errors.Is. Others are I/O errors.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	// ErrConflict: the object changed and change asked not to be run again.
	ErrConflict = errors.New("conflict")
	// ErrExpired: the revision is compacted (HTTP 410).
	ErrExpired = errors.New("revision expired")
	// ErrFuture: the revision is ahead of the store and did not arrive in time.
	ErrFuture = errors.New("revision too large")
	// ErrTooLarge: the object exceeds the store's size limit (HTTP 413).
	ErrTooLarge = errors.New("object too large")
)

// Item is one object at one revision. Items are shared between readers and
// watchers: Object is read-only; DeepCopy before changing it.
type Item struct {
	// Key is "<namespace>/<name>" or "<name>".
	Key string
	// Revision is the object's mod revision, equal to its resourceVersion.
	Revision int64
	// Object has its resourceVersion set.
	Object resource.Object

	memo memo
}

// Encoded returns the item encoded for a format, calling encode at most once
// per format for as long as the store keeps the bytes. Safe for concurrent
// use; the bytes are read-only.
func (i *Item) Encoded(format string, encode func() ([]byte, error)) ([]byte, error) {
	return i.memo.get(format, encode)
}

// Consistency says how fresh a read must be.
type Consistency struct {
	// AtLeast is the lowest revision the answer may come from; 0 is any, and
	// Latest demands a read no older than the call.
	AtLeast int64
	// Exactly, when not 0, demands this very revision (list only).
	Exactly int64
}

// Latest as Consistency.AtLeast demands linearized reads.
const Latest int64 = -1

// Query selects for List and Watch.
type Query struct {
	// Prefix limits keys: "" is everything, "<namespace>/" one namespace, a
	// full key one object.
	Prefix string
	// After (exclusive) continues a List; "" starts at the beginning.
	After string
	// Limit bounds the items Match accepts; 0 is unbounded.
	Limit int
	// Match filters; nil accepts all. Called with read-only objects, maybe
	// concurrently.
	Match func(resource.Object) bool
	// Index, when not "", limits a Watch with an empty Prefix to events of
	// objects that have or had this value of the resource's index. It is a
	// hint: stores without an index give more.
	Index string
	Consistency
}

// Page is the answer to List.
type Page struct {
	// Items in key order; read-only.
	Items []*Item
	// Revision the whole page was read at.
	Revision int64
	// More says that a further page exists; Remaining counts its items, or is
	// -1 when unknown.
	More      bool
	Remaining int64
}

// EventType tells what happened to a key.
type EventType uint8

// The kinds of Event.
const (
	Added EventType = iota + 1
	Modified
	Deleted
	// Bookmark carries only Revision: everything up to it was delivered.
	Bookmark
)

// Event is one change. Events are shared between watchers and read-only.
type Event struct {
	Type     EventType
	Revision int64
	// Item is the new state; for Deleted the last state with Revision set to
	// that of the deletion. nil for Bookmark.
	Item *Item
	// Previous is the state before; nil for Added and Bookmark.
	Previous *Item

	memo memo
}

// Encoded returns the event encoded for a format (media type and version and
// outward event type), calling encode at most once per format. Safe for
// concurrent use; the bytes are read-only.
func (e *Event) Encoded(format string, encode func() ([]byte, error)) ([]byte, error) {
	return e.memo.get(format, encode)
}

// Stream is a running watch. Events arrive in revision order; the channel
// closes when the stream ends and Err then says why (nil: ctx ended;
// ErrExpired: the watcher was too slow or history is gone). Stop is
// idempotent and frees everything.
type Stream interface {
	Events() <-chan []*Event
	Err() error
	Stop()
}

// Store keeps the objects of one resource. All methods are safe for
// concurrent use and block until done or ctx ends.
type Store interface {
	// Get returns ErrNotFound for a missing key.
	Get(ctx context.Context, key string, at Consistency) (*Item, error)
	// List returns items in key order, all from one revision. ErrExpired when
	// Exactly is compacted, ErrFuture when AtLeast is not reached in time.
	List(ctx context.Context, q Query) (*Page, error)
	// Create stores obj (which it does not keep or change) and returns the
	// item with its revision; ErrExists, ErrTooLarge.
	Create(ctx context.Context, key string, obj resource.Object) (*Item, error)
	// Update calls change with the current item (nil when missing and create
	// is wanted by returning an object) and stores what it returns, if the key
	// did not change meanwhile; else it calls change again with the newer
	// item. change must return a fresh object, or the error to give up with
	// (returned as it is); returning (nil, nil) deletes nothing and stores
	// nothing. An object equal to the stored one is not written and the
	// current item is returned. current may come from the cache first; before
	// a change's error is returned it is called with the latest state.
	Update(ctx context.Context, key string, change func(current *Item) (resource.Object, error)) (*Item, error)
	// Delete removes the key if check (may be nil) accepts its current item,
	// and returns the last state with the revision of the deletion.
	// ErrNotFound when missing; check's error is returned as it is.
	Delete(ctx context.Context, key string, check func(current *Item) error) (*Item, error)
	// Watch streams what matches q.Prefix (Match, After and Limit are unused:
	// selectors belong to the reader, who needs Previous) from after revision
	// q.AtLeast; with AtLeast 0 from the current state on, without initial
	// events. Bookmarks come about once a minute and on progress.
	// ErrExpired when the revision is compacted.
	Watch(ctx context.Context, q Query) (Stream, error)
}

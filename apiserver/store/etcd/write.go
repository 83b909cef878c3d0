package etcd

import (
	"bytes"
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// Create stores obj under a key that does not exist.
func (s *Store) Create(ctx context.Context, key string, obj resource.Object) (*store.Item, error) {
	e, err := s.encode(ctx, s.dir+key, obj)
	if err != nil {
		return nil, err
	}
	item, _, err := s.put(ctx, key, e, 0, false)
	if err != nil {
		return nil, err
	}
	if item == nil {
		return nil, store.ErrExists
	}
	return item, nil
}

// put writes e if key's mod revision is still at; 0 is a missing key. When it
// is not, item is nil, and current is the key's item if that was asked for and
// there is one.
func (s *Store) put(ctx context.Context, key string, e *encoded, at int64, wantCurrent bool) (item, current *store.Item, err error) {
	fullKey := s.dir + key
	var options []clientv3.OpOption
	if s.leases != nil {
		lease, err := s.leases.get(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("get lease for %s: %w", fullKey, err)
		}
		options = append(options, clientv3.WithLease(lease))
	}
	txn := s.kv.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(fullKey), "=", at)).
		Then(clientv3.OpPut(fullKey, string(e.value), options...))
	if wantCurrent {
		txn = txn.Else(clientv3.OpGet(fullKey))
	}
	// What is returned is what a restart would read: a round trip drops the
	// difference between nil and empty, and fractions of seconds.
	obj, _, err := s.decodeObject(e.data)
	if err != nil {
		return nil, nil, fmt.Errorf("decode %s before writing it: %w", fullKey, err)
	}
	write := s.written.begin(key, e.value, obj)
	answer, err := txn.Commit()
	if err != nil {
		s.written.drop(key, write)
		return nil, nil, storeError(err, "write", fullKey)
	}
	if !answer.Succeeded {
		s.written.drop(key, write)
		current, err = s.found(ctx, answer)
		return nil, current, err
	}
	if item = write.item(key, answer.Header.Revision); item != nil {
		return item, nil, nil
	}
	// Another write of the very same value got the object.
	item, err = s.decodeAt(ctx, fullKey, e.value, answer.Header.Revision)
	return item, nil, err
}

// found returns the item a failed transaction read; nil for none.
func (s *Store) found(ctx context.Context, answer *clientv3.TxnResponse) (*store.Item, error) {
	if len(answer.Responses) == 0 {
		return nil, nil //nolint:nilnil // nothing was asked for
	}
	kvs := answer.Responses[0].GetResponseRange().GetKvs()
	if len(kvs) == 0 {
		return nil, nil //nolint:nilnil // the key does not exist
	}
	return s.decode(ctx, kvs[0])
}

// Update changes the item of key.
func (s *Store) Update(ctx context.Context, key string, change func(current *store.Item) (resource.Object, error)) (*store.Item, error) {
	return s.UpdateFrom(ctx, key, nil, change)
}

// UpdateFrom is Update with a guess at the current item (nil: none), which may
// be outdated: nothing is decided by it alone.
func (s *Store) UpdateFrom(ctx context.Context, key string, guess *store.Item, change func(current *store.Item) (resource.Object, error)) (*store.Item, error) {
	u := &updating{store: s, key: key, change: change, current: guess}
	if guess == nil {
		if err := u.refresh(ctx); err != nil {
			return nil, err
		}
	}
	for {
		item, done, err := u.try(ctx)
		if done || err != nil {
			return item, err
		}
	}
}

// updating is an Update in progress.
type updating struct {
	store   *Store
	key     string
	change  func(current *store.Item) (resource.Object, error)
	current *store.Item
	// fresh: current was read from etcd after the call began.
	fresh bool
}

func (u *updating) refresh(ctx context.Context) error {
	item, _, err := u.store.get(ctx, u.key)
	u.current, u.fresh = item, true
	return err
}

// confirm makes sure that a decision not to write is on the latest state:
// false means that change has to run again on it.
func (u *updating) confirm(ctx context.Context) (bool, error) {
	if u.fresh {
		return true, nil
	}
	_, revision, err := u.store.Revision(ctx, u.key)
	if err != nil {
		return false, err
	}
	if u.current != nil && revision == u.current.Revision {
		return true, nil
	}
	return false, u.refresh(ctx)
}

func (u *updating) try(ctx context.Context) (item *store.Item, done bool, err error) {
	obj, changeErr := u.change(u.current)
	if changeErr != nil || obj == nil {
		if final, err := u.confirm(ctx); err != nil || !final {
			return nil, false, err
		}
		return u.unless(changeErr), true, changeErr
	}
	e, err := u.store.encode(ctx, u.store.dir+u.key, obj)
	if err != nil {
		return nil, false, err
	}
	if u.unchanged(e) {
		final, err := u.confirm(ctx)
		return u.current, final, err
	}
	at := int64(0)
	if u.current != nil {
		at = u.current.Revision
	}
	item, u.current, err = u.store.put(ctx, u.key, e, at, true)
	u.fresh = true
	return item, item != nil, err
}

// unless returns the current item when there is no error.
func (u *updating) unless(err error) *store.Item {
	if err != nil {
		return nil
	}
	return u.current
}

// unchanged reports whether e would write what is there already.
func (u *updating) unchanged(e *encoded) bool {
	if u.current == nil || isStale(u.current) {
		return false
	}
	own, ok := u.current.Object.DeepCopyObject().(resource.Object)
	if !ok {
		return false
	}
	data, err := u.store.encodeOwn(own)
	return err == nil && bytes.Equal(data, e.data)
}

// Delete removes key if check accepts its item.
func (s *Store) Delete(ctx context.Context, key string, check func(current *store.Item) error) (*store.Item, error) {
	return s.DeleteFrom(ctx, key, nil, check)
}

// DeleteFrom is Delete with a guess at the current item, as in UpdateFrom.
func (s *Store) DeleteFrom(ctx context.Context, key string, guess *store.Item, check func(current *store.Item) error) (*store.Item, error) {
	u := &updating{store: s, key: key, current: guess}
	if guess == nil {
		if err := u.refresh(ctx); err != nil {
			return nil, err
		}
	}
	for {
		if u.current == nil {
			return nil, store.ErrNotFound // only ever after a fresh read
		}
		if check != nil {
			if checkErr := check(u.current); checkErr != nil {
				final, err := u.confirm(ctx)
				if err != nil {
					return nil, err
				}
				if final {
					return nil, checkErr
				}
				continue
			}
		}
		item, err := u.remove(ctx)
		if item != nil || err != nil {
			return item, err
		}
	}
}

func (u *updating) remove(ctx context.Context) (*store.Item, error) {
	fullKey := u.store.dir + u.key
	answer, err := u.store.kv.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(fullKey), "=", u.current.Revision)).
		Then(clientv3.OpDelete(fullKey)).
		Else(clientv3.OpGet(fullKey)).
		Commit()
	if err != nil {
		return nil, storeError(err, "delete", fullKey)
	}
	if !answer.Succeeded {
		u.current, err = u.store.found(ctx, answer)
		u.fresh = true
		return nil, err
	}
	last, ok := u.current.Object.DeepCopyObject().(resource.Object)
	if !ok {
		return nil, fmt.Errorf("delete %s: the copy of %T has no metadata", fullKey, u.current.Object)
	}
	return newItem(u.key, last, answer.Header.Revision), nil
}

package etcd

import (
	"context"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/skeg-dev/skeg/apiserver/store"
)

// Sizes of the reads that make up an unlimited list: the first answers small
// resources at once, later ones grow to where one read's memory stays in the
// tens of megabytes.
const (
	firstRead = 1000
	lastRead  = 10000
)

// Get reads key, always linearized.
func (s *Store) Get(ctx context.Context, key string, at store.Consistency) (*store.Item, error) {
	item, revision, err := s.get(ctx, key)
	if err != nil {
		return nil, err
	}
	if at.AtLeast > revision {
		return nil, futureError(at.AtLeast, revision)
	}
	if item == nil {
		return nil, store.ErrNotFound
	}
	return item, nil
}

// get returns the item, nil for none, and the revision it was read at.
func (s *Store) get(ctx context.Context, key string) (*store.Item, int64, error) {
	answer, err := s.kv.Get(ctx, s.dir+key)
	if err != nil {
		return nil, 0, storeError(err, "get", key)
	}
	if len(answer.Kvs) == 0 {
		return nil, answer.Header.Revision, nil
	}
	item, err := s.decode(ctx, answer.Kvs[0])
	return item, answer.Header.Revision, err
}

// Revision returns the current revision of etcd and that of key, 0 when it
// does not exist, both from one linearized read.
func (s *Store) Revision(ctx context.Context, key string) (current, ofKey int64, err error) {
	answer, err := s.kv.Get(ctx, s.dir+key, clientv3.WithKeysOnly())
	if err != nil {
		return 0, 0, storeError(err, "read revision of", key)
	}
	if len(answer.Kvs) > 0 {
		ofKey = answer.Kvs[0].ModRevision
	}
	return answer.Header.Revision, ofKey, nil
}

func futureError(wanted, current int64) error {
	return fmt.Errorf("revision %d wanted, current %d: %w", wanted, current, store.ErrFuture)
}

// List reads a page, linearized or at the very revision asked for, in several
// reads when it is large.
func (s *Store) List(ctx context.Context, q store.Query) (*store.Page, error) {
	r := &listing{store: s, query: q, page: &store.Page{Revision: q.Exactly}, end: s.end(q.Prefix)}
	r.from = s.dir + q.Prefix
	if after := s.dir + q.After; q.After != "" && after >= r.from {
		r.from = after + "\x00"
	}
	size := int64(firstRead)
	if q.Limit > 0 {
		size = min(int64(q.Limit), lastRead)
	}
	for more := true; more; {
		var err error
		if more, err = r.read(ctx, size); err != nil {
			return nil, err
		}
		size = min(size*2, lastRead)
	}
	return r.page, nil
}

// end is where the range of a prefix ends; "" for a single key.
func (s *Store) end(prefix string) string {
	if prefix == "" || strings.HasSuffix(prefix, "/") {
		return clientv3.GetPrefixRangeEnd(s.dir + prefix)
	}
	return ""
}

// listing is a list in progress.
type listing struct {
	store *Store
	query store.Query
	page  *store.Page
	from  string
	end   string
}

// read takes up to size keys; more says that the page is not full and the
// range not finished.
func (r *listing) read(ctx context.Context, size int64) (more bool, err error) {
	options := []clientv3.OpOption{clientv3.WithLimit(size), clientv3.WithRev(r.page.Revision)}
	if r.end != "" {
		options = append(options, clientv3.WithRange(r.end))
	} else if r.query.After != "" {
		return false, r.pin(ctx) // one key, and the page after it
	}
	answer, err := r.store.kv.Get(ctx, r.from, options...)
	if err != nil {
		return false, storeError(err, "list", r.from)
	}
	if r.page.Revision == 0 {
		r.page.Revision = answer.Header.Revision
		if r.query.AtLeast > answer.Header.Revision {
			return false, futureError(r.query.AtLeast, answer.Header.Revision)
		}
	}
	for i, kv := range answer.Kvs {
		if r.full() {
			r.page.More, r.page.Remaining = true, -1
			return false, nil
		}
		item, err := r.store.decode(ctx, kv)
		if err != nil {
			return false, err
		}
		answer.Kvs[i] = nil // decoded: its memory is not needed any more
		if r.query.Match == nil || r.query.Match(item.Object) {
			r.page.Items = append(r.page.Items, item)
		}
		r.from = r.store.dir + item.Key + "\x00"
	}
	if !answer.More {
		return false, nil
	}
	if r.full() && r.query.Match == nil {
		r.page.More, r.page.Remaining = true, answer.Count-int64(len(answer.Kvs))
		return false, nil
	}
	return true, nil
}

func (r *listing) full() bool { return r.query.Limit > 0 && len(r.page.Items) >= r.query.Limit }

// pin gives an empty page its revision.
func (r *listing) pin(ctx context.Context) error {
	if r.page.Revision != 0 {
		return nil
	}
	current, _, err := r.store.Revision(ctx, "")
	r.page.Revision = current
	return err
}

// Package etcd keeps API objects in etcd behind the store contract, with the
// keys and values upstream writes. It is the only etcd client in the tree.
//
// A write is one transaction: compare the key's mod revision, put or delete.
// An object written here that comes back through Follow is not decoded again
// (see writes.go).
//
//	Get, List ──► read.go      Create, Update, Delete ──► write.go
//	Watch ─────► watch.go      Follow, RequestProgress, Revision: for store/cache
//	lease.go: TTLs   compact.go: forgets history   transform.go: encryption
//
// app/ makes one Store per resource; store/cache wraps it. Goroutines: one per
// Watch or Follow until it ends; the Compactor's in its Run.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// DefaultPrefix is upstream's --etcd-prefix.
const DefaultPrefix = "/registry"

// Config shapes a Store.
type Config struct {
	// Client of etcd; required.
	Client *clientv3.Client
	// Prefix of all keys; "" means DefaultPrefix.
	Prefix string
	// StorePrefix is the resource's directory below Prefix ("services/specs");
	// required.
	StorePrefix string
	// New returns an empty object of the stored kind; required.
	New func() runtime.Object
	// Codec converts objects to values; nil means NewCodec of New's kind.
	Codec Codec
	// Transformer encrypts values; nil leaves them as they are.
	Transformer Transformer
	// TTL is how long an object lives after its last write; 0 is for ever.
	TTL time.Duration
	// MaxLag bounds the undelivered events of a Watch; 0 means 8192.
	MaxLag int
	// Bookmark is the time between a Watch's bookmarks; 0 means a minute.
	Bookmark time.Duration
	// Logger for values that cannot be read; nil means slog.Default().
	Logger *slog.Logger
}

// Store is a store.Store in etcd.
type Store struct {
	kv          clientv3.KV
	watcher     clientv3.Watcher
	dir         string // prefix of all keys, with a trailing slash
	newObject   func() runtime.Object
	codec       Codec
	transformer Transformer
	leases      *leases // nil without TTL
	written     *written
	maxLag      int
	bookmark    time.Duration
	logger      *slog.Logger
}

var _ store.Store = (*Store)(nil)

// New returns a Store. It does no I/O.
func New(config Config) (*Store, error) {
	if config.Client == nil || config.StorePrefix == "" || config.New == nil {
		return nil, errors.New("configure etcd store: Client, StorePrefix and New are required")
	}
	if config.Codec == nil {
		codec, err := NewCodec(config.New())
		if err != nil {
			return nil, fmt.Errorf("configure etcd store of %s: %w", config.StorePrefix, err)
		}
		config.Codec = codec
	}
	if config.Prefix == "" {
		config.Prefix = DefaultPrefix
	}
	if config.MaxLag <= 0 {
		config.MaxLag = 8192
	}
	if config.Bookmark <= 0 {
		config.Bookmark = time.Minute
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	s := &Store{
		kv: config.Client.KV, watcher: config.Client.Watcher,
		dir:       "/" + strings.Trim(config.Prefix, "/") + "/" + strings.Trim(config.StorePrefix, "/") + "/",
		newObject: config.New, codec: config.Codec, transformer: config.Transformer,
		written: newWritten(), maxLag: config.MaxLag, bookmark: config.Bookmark, logger: config.Logger,
	}
	if config.TTL > 0 {
		s.leases = newLeases(config.Client.Lease, config.TTL)
	}
	return s, nil
}

// decode makes an item of a stored value.
func (s *Store) decode(ctx context.Context, kv *mvccpb.KeyValue) (*store.Item, error) {
	return s.decodeAt(ctx, string(kv.Key), kv.Value, kv.ModRevision)
}

func (s *Store) decodeAt(ctx context.Context, fullKey string, value []byte, revision int64) (*store.Item, error) {
	key := strings.TrimPrefix(fullKey, s.dir)
	data, stale, err := s.fromStorage(ctx, fullKey, value)
	if err != nil {
		return nil, fmt.Errorf("read value of %s: %w", fullKey, err)
	}
	obj, canonical, err := s.decodeObject(data)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", fullKey, err)
	}
	item := newItem(key, obj, revision)
	if stale || !canonical {
		markStale(item)
	}
	return item, nil
}

func (s *Store) decodeObject(data []byte) (obj resource.Object, canonical bool, err error) {
	obj, ok := s.newObject().(resource.Object)
	if !ok {
		return nil, false, fmt.Errorf("%T has no metadata", s.newObject())
	}
	canonical, err = s.codec.Decode(data, obj)
	return obj, canonical, err //nolint:wrapcheck // wrapped by decodeAt and put
}

// newItem takes obj over.
func newItem(key string, obj resource.Object, revision int64) *store.Item {
	obj.SetResourceVersion(strconv.FormatInt(revision, 10))
	return &store.Item{Key: key, Revision: revision, Object: obj}
}

// staleFormat marks, in an item's memo, a value that is written anew although
// its object did not change: it is in another encoding or under an old key.
const staleFormat = "store/etcd stale"

func markStale(item *store.Item) {
	//nolint:errcheck // the function cannot fail
	item.Encoded(staleFormat, func() ([]byte, error) { return []byte{1}, nil })
}

func isStale(item *store.Item) bool {
	b, err := item.Encoded(staleFormat, func() ([]byte, error) { return nil, nil })
	return err == nil && len(b) > 0
}

// encoded is an object ready to be written.
type encoded struct {
	data  []byte // before transformation
	value []byte
}

// encode makes the value of obj, which it does not change.
func (s *Store) encode(ctx context.Context, fullKey string, obj resource.Object) (*encoded, error) {
	own, ok := obj.DeepCopyObject().(resource.Object)
	if !ok {
		return nil, fmt.Errorf("encode %s: the copy of %T has no metadata", fullKey, obj)
	}
	data, err := s.encodeOwn(own)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", fullKey, err)
	}
	value, err := s.toStorage(ctx, fullKey, data)
	if err != nil {
		return nil, fmt.Errorf("transform value of %s: %w", fullKey, err)
	}
	return &encoded{data: data, value: value}, nil
}

// encodeOwn encodes an object that nobody else sees yet, without what etcd
// itself knows.
func (s *Store) encodeOwn(own resource.Object) ([]byte, error) {
	own.SetResourceVersion("")
	own.SetSelfLink("")
	data, err := s.codec.Encode(own)
	own.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return data, err //nolint:wrapcheck // wrapped by encode
}

// storeError gives etcd's errors their class.
func storeError(err error, verb, key string) error {
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return store.ErrExpired
	case errors.Is(err, rpctypes.ErrFutureRev):
		return store.ErrFuture
	case errors.Is(err, rpctypes.ErrRequestTooLarge), strings.Contains(err.Error(), "trying to send message larger than max"):
		return fmt.Errorf("%s %s: %w", verb, key, store.ErrTooLarge)
	}
	return fmt.Errorf("%s %s: %w", verb, key, err)
}

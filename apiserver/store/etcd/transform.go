package etcd

import "context"

// Transformer changes values on their way to and from etcd: encryption at
// rest. Safe for concurrent use.
type Transformer interface {
	// ToStorage returns what is written for data. key is the full etcd key, to
	// be authenticated with the data so that values cannot be swapped.
	ToStorage(ctx context.Context, key string, data []byte) ([]byte, error)
	// FromStorage reverses ToStorage. stale asks for the value to be written
	// anew at the object's next write, even an unchanged one.
	FromStorage(ctx context.Context, key string, value []byte) (data []byte, stale bool, err error)
}

func (s *Store) toStorage(ctx context.Context, key string, data []byte) ([]byte, error) {
	if s.transformer == nil {
		return data, nil
	}
	return s.transformer.ToStorage(ctx, key, data) //nolint:wrapcheck // wrapped by encode
}

func (s *Store) fromStorage(ctx context.Context, key string, value []byte) (data []byte, stale bool, err error) {
	if s.transformer == nil {
		return value, false, nil
	}
	return s.transformer.FromStorage(ctx, key, value) //nolint:wrapcheck // wrapped by decode
}

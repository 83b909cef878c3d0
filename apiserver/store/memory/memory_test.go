package memory

import (
	"context"
	"testing"
	"time"

	"github.com/skeg-dev/skeg/apiserver/store/fanout"
	"github.com/skeg-dev/skeg/apiserver/store/storetest"
)

const maxLag = 600

func TestContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Subject {
		revisions := &Revisions{}
		s := New(Config{
			Revisions: revisions, MaxBytes: 3 << 19,
			Fanout: fanout.Config{MaxLag: maxLag, Bookmark: 50 * time.Millisecond},
		})
		return storetest.Subject{
			Store: s, MaxLag: maxLag,
			Compact: func(_ context.Context, revision int64) error { s.Compact(revision); return nil },
			Advance: func(context.Context) (int64, error) { return revisions.Advance(), nil },
		}
	})
}

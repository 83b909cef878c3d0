package storetest

import (
	"context"
	"testing"

	"github.com/skeg-dev/skeg/apiserver/store"
)

var readCases = []testCase{
	{"missing", func(f *fixture) {
		_, err := f.Store.Get(f.Context(), "ns/a", store.Consistency{AtLeast: store.Latest})
		f.wantError(err, store.ErrNotFound)
		_, err = f.Store.Get(f.Context(), "ns/a", store.Consistency{})
		f.wantError(err, store.ErrNotFound)
	}},
	{"own write", func(f *fixture) {
		for i, v := range []string{"1", "2", "3"} {
			var written *store.Item
			if i == 0 {
				written = f.create("ns/a", v)
			} else {
				written = f.set("ns/a", v)
			}
			for _, at := range []int64{store.Latest, written.Revision} {
				item, err := f.Store.Get(f.Context(), "ns/a", store.Consistency{AtLeast: at})
				if err != nil {
					f.Fatal(err)
				}
				f.check(item, "ns/a", v)
				if item.Revision != written.Revision {
					f.Fatalf("revision %d, written %d", item.Revision, written.Revision)
				}
			}
		}
	}},
	{"own delete", func(f *fixture) {
		f.create("ns/a", "1")
		f.get("ns/a")
		f.delete("ns/a")
		_, err := f.Store.Get(f.Context(), "ns/a", store.Consistency{AtLeast: store.Latest})
		f.wantError(err, store.ErrNotFound)
	}},
	{"at least, reached by others", func(f *fixture) {
		f.create("ns/a", "1")
		revision, err := f.Advance(f.Context())
		if err != nil {
			f.Fatal(err)
		}
		item, err := f.Store.Get(f.Context(), "ns/a", store.Consistency{AtLeast: revision})
		if err != nil {
			f.Fatal(err)
		}
		f.check(item, "ns/a", "1")
	}},
	{"future", func(f *fixture) {
		written := f.create("ns/a", "1")
		_, err := f.Store.Get(f.Context(), "ns/a", store.Consistency{AtLeast: written.Revision + 1000})
		f.wantError(err, store.ErrFuture)
		_, err = f.Store.List(f.Context(), store.Query{Consistency: store.Consistency{AtLeast: written.Revision + 1000}})
		f.wantError(err, store.ErrFuture)
	}},
	{"ended context", func(f *fixture) {
		ctx, cancel := context.WithCancel(f.Context())
		cancel()
		if _, err := f.Store.Get(ctx, "ns/a", store.Consistency{AtLeast: store.Latest}); err == nil {
			f.Fatal("no error")
		}
		if _, err := f.Store.Create(ctx, "ns/a", configMap("ns/a", "1")); err == nil {
			f.Fatal("no error")
		}
	}},
	{"cluster-scoped key", func(f *fixture) {
		item, err := f.Store.Create(f.Context(), "a", configMap("a", "1"))
		if err != nil {
			f.Fatal(err)
		}
		found := f.get("a")
		if item.Key != "a" || found.Key != "a" || found.Revision != item.Revision {
			f.Fatalf("created %+v, found %+v", item, found)
		}
	}},
	{"encodings are kept", func(f *fixture) {
		f.create("ns/a", "1")
		item := f.get("ns/a")
		calls := 0
		for range 3 {
			b, err := item.Encoded("x", func() ([]byte, error) { calls++; return []byte("y"), nil })
			if err != nil || string(b) != "y" {
				f.Fatal(string(b), err)
			}
		}
		if calls != 1 {
			f.Fatalf("encoded %d times", calls)
		}
	}},
}

// BenchmarkGet measures Latest reads of one key.
func BenchmarkGet(b *testing.B, s store.Store) {
	if _, err := s.Create(b.Context(), "ns/a", configMap("ns/a", "1")); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Get(b.Context(), "ns/a", store.Consistency{AtLeast: store.Latest}); err != nil {
			b.Fatal(err)
		}
	}
}

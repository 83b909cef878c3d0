package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

var errOwn = errors.New("the caller's own")

var writeCases = []testCase{
	{"create twice", func(f *fixture) {
		f.create("ns/a", "1")
		_, err := f.Store.Create(f.Context(), "ns/a", configMap("ns/a", "2"))
		f.wantError(err, store.ErrExists)
		f.check(f.get("ns/a"), "ns/a", "1")
	}},
	{"create keeps its hands off", func(f *fixture) {
		obj := configMap("ns/a", "1")
		item, err := f.Store.Create(f.Context(), "ns/a", obj)
		if err != nil {
			f.Fatal(err)
		}
		if obj.ResourceVersion != "" || obj.Kind != "" {
			f.Fatalf("the object passed in was changed: %+v", obj)
		}
		obj.Data["value"] = "changed afterwards"
		f.check(item, "ns/a", "1")
		f.check(f.get("ns/a"), "ns/a", "1")
	}},
	{"create after delete", func(f *fixture) {
		first := f.create("ns/a", "1")
		gone := f.delete("ns/a")
		second := f.create("ns/a", "2")
		if first.Revision >= gone.Revision || gone.Revision >= second.Revision {
			f.Fatalf("revisions %d, %d, %d do not grow", first.Revision, gone.Revision, second.Revision)
		}
	}},
	{"too large", func(f *fixture) {
		big := configMap("ns/a", strings.Repeat("x", 2<<20))
		_, err := f.Store.Create(f.Context(), "ns/a", big)
		f.wantError(err, store.ErrTooLarge)
		f.create("ns/a", "1")
		_, err = f.Store.Update(f.Context(), "ns/a", func(*store.Item) (resource.Object, error) { return big, nil })
		f.wantError(err, store.ErrTooLarge)
		f.check(f.get("ns/a"), "ns/a", "1")
	}},
	{"update", func(f *fixture) {
		first := f.create("ns/a", "1")
		second, err := f.Store.Update(f.Context(), "ns/a", func(current *store.Item) (resource.Object, error) {
			f.check(current, "ns/a", "1")
			return configMap("ns/a", "2"), nil
		})
		if err != nil {
			f.Fatal(err)
		}
		f.check(second, "ns/a", "2")
		if second.Revision <= first.Revision {
			f.Fatalf("revision %d after %d", second.Revision, first.Revision)
		}
		f.check(first, "ns/a", "1") // shared items do not change
	}},
	{"update creates", func(f *fixture) {
		item, err := f.Store.Update(f.Context(), "ns/a", func(current *store.Item) (resource.Object, error) {
			if current != nil {
				f.Errorf("current is %+v", current)
			}
			return configMap("ns/a", "1"), nil
		})
		if err != nil {
			f.Fatal(err)
		}
		f.check(item, "ns/a", "1")
		f.check(f.get("ns/a"), "ns/a", "1")
	}},
	{"update that gives up", func(f *fixture) {
		f.create("ns/a", "1")
		_, err := f.Store.Update(f.Context(), "ns/a", func(*store.Item) (resource.Object, error) { return nil, errOwn })
		f.wantError(err, errOwn)
		_, err = f.Store.Update(f.Context(), "ns/gone", func(*store.Item) (resource.Object, error) { return nil, store.ErrNotFound })
		f.wantError(err, store.ErrNotFound)
		item, err := f.Store.Update(f.Context(), "ns/a", func(*store.Item) (resource.Object, error) { return nil, nil }) //nolint:nilnil // the contract's
		if err != nil {
			f.Fatal(err)
		}
		f.check(item, "ns/a", "1")
	}},
	{"update without change", func(f *fixture) {
		first := f.create("ns/a", "1")
		second := f.set("ns/a", "1")
		if second.Revision != first.Revision {
			f.Fatalf("revision %d became %d", first.Revision, second.Revision)
		}
		third, err := f.Store.Update(f.Context(), "ns/a", func(current *store.Item) (resource.Object, error) {
			return current.Object.DeepCopyObject().(resource.Object), nil //nolint:forcetypeassert // a copy
		})
		if err != nil || third.Revision != first.Revision {
			f.Fatalf("a copy with its resourceVersion was written: %v, %v", third, err)
		}
	}},
	{"update runs again on conflict", func(f *fixture) {
		f.create("ns/a", "1")
		var seen []string
		item, err := f.Store.Update(f.Context(), "ns/a", func(current *store.Item) (resource.Object, error) {
			seen = append(seen, value(current))
			if len(seen) == 1 {
				f.set("ns/a", "2")
			}
			return configMap("ns/a", value(current)+"+"), nil
		})
		if err != nil {
			f.Fatal(err)
		}
		f.check(item, "ns/a", "2+")
		if fmt.Sprint(seen) != "[1 2]" {
			f.Fatalf("change saw %v", seen)
		}
	}},
	{"update after a concurrent delete", func(f *fixture) {
		f.create("ns/a", "1")
		calls := 0
		_, err := f.Store.Update(f.Context(), "ns/a", func(current *store.Item) (resource.Object, error) {
			calls++
			if current == nil {
				return nil, store.ErrNotFound
			}
			f.delete("ns/a")
			return configMap("ns/a", "2"), nil
		})
		f.wantError(err, store.ErrNotFound)
		if calls != 2 {
			f.Fatalf("change ran %d times", calls)
		}
	}},
	{"an error is given only on the latest state", func(f *fixture) {
		// A cache may still have the older state when change is first called.
		f.create("ns/a", "0")
		for i := range 50 {
			want := fmt.Sprint(i + 1)
			f.set("ns/a", want)
			last := ""
			_, err := f.Store.Update(f.Context(), "ns/a", func(current *store.Item) (resource.Object, error) {
				last = value(current)
				return nil, errOwn
			})
			f.wantError(err, errOwn)
			if last != want {
				f.Fatalf("gave up on %s, latest is %s", last, want)
			}
		}
	}},
	{"concurrent updates lose nothing", func(f *fixture) {
		const clients, times = 8, 10
		obj := configMap("ns/a", "")
		obj.Data = map[string]string{}
		if _, err := f.Store.Create(f.Context(), "ns/a", obj); err != nil {
			f.Fatal(err)
		}
		var wg sync.WaitGroup
		for c := range clients {
			wg.Go(func() {
				for i := range times {
					_, err := f.Store.Update(f.Context(), "ns/a", func(current *store.Item) (resource.Object, error) {
						next := current.Object.DeepCopyObject().(*corev1.ConfigMap) //nolint:forcetypeassert // a copy
						if next.Data == nil {
							next.Data = map[string]string{}
						}
						next.Data[fmt.Sprintf("%d-%d", c, i)] = "x"
						return next, nil
					})
					if err != nil {
						f.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if n := len(f.get("ns/a").Object.(*corev1.ConfigMap).Data); n != clients*times { //nolint:forcetypeassert // as stored
			f.Fatalf("%d of %d changes are there", n, clients*times)
		}
	}},
	{"delete", func(f *fixture) {
		f.create("ns/a", "1")
		second := f.set("ns/a", "2")
		gone := f.delete("ns/a")
		f.check(gone, "ns/a", "2")
		if gone.Revision <= second.Revision {
			f.Fatalf("deleted at %d, written at %d", gone.Revision, second.Revision)
		}
		f.check(second, "ns/a", "2")
		_, err := f.Store.Delete(f.Context(), "ns/a", nil)
		f.wantError(err, store.ErrNotFound)
	}},
	{"delete with check", func(f *fixture) {
		f.create("ns/a", "1")
		_, err := f.Store.Delete(f.Context(), "ns/a", func(*store.Item) error { return errOwn })
		f.wantError(err, errOwn)
		var seen []string
		_, err = f.Store.Delete(f.Context(), "ns/a", func(current *store.Item) error {
			seen = append(seen, value(current))
			if len(seen) == 1 {
				f.set("ns/a", "2")
			}
			return nil
		})
		if err != nil {
			f.Fatal(err)
		}
		if fmt.Sprint(seen) != "[1 2]" {
			f.Fatalf("check saw %v", seen)
		}
	}},
	{"delete checks the latest state", func(f *fixture) {
		f.create("ns/a", "0")
		for i := range 50 {
			want := fmt.Sprint(i + 1)
			f.set("ns/a", want)
			last := ""
			_, err := f.Store.Delete(f.Context(), "ns/a", func(current *store.Item) error {
				last = value(current)
				return errOwn
			})
			f.wantError(err, errOwn)
			if last != want {
				f.Fatalf("gave up on %s, latest is %s", last, want)
			}
		}
	}},
}

package storetest

import (
	"fmt"
	"strings"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

var listCases = []testCase{
	{"empty", func(f *fixture) {
		page := f.list(f.latest())
		if len(page.Items) != 0 || page.More {
			f.Fatalf("page %+v", page)
		}
	}},
	{"order and prefix", func(f *fixture) {
		for _, key := range []string{"b/x", "a/z", "a/y", "ab/y", "b/a", "b/x1"} {
			f.create(key, "1")
		}
		for prefix, want := range map[string]string{
			"":     "[a/y=1 a/z=1 ab/y=1 b/a=1 b/x=1 b/x1=1]",
			"a/":   "[a/y=1 a/z=1]",
			"b/":   "[b/a=1 b/x=1 b/x1=1]",
			"b/x":  "[b/x=1]",
			"c/":   "[]",
			"b/xx": "[]",
		} {
			q := f.latest()
			q.Prefix = prefix
			page := f.list(q)
			if got := fmt.Sprint(summary(page.Items)); got != want || page.More {
				f.Errorf("prefix %q: %s, more %v, want %s", prefix, got, page.More, want)
			}
		}
	}},
	{"revision of the page", func(f *fixture) {
		f.create("ns/a", "1")
		b := f.create("ns/b", "1")
		page := f.list(f.latest())
		if page.Revision < b.Revision {
			f.Fatalf("page at %d, written at %d", page.Revision, b.Revision)
		}
		revision, err := f.Advance(f.Context())
		if err != nil {
			f.Fatal(err)
		}
		if page = f.list(f.latest()); page.Revision < revision {
			f.Fatalf("page at %d, the store is at %d", page.Revision, revision)
		}
		if page = f.list(store.Query{Consistency: store.Consistency{AtLeast: revision}}); page.Revision < revision {
			f.Fatalf("page at %d, asked for %d", page.Revision, revision)
		}
	}},
	{"pages are one revision", pagesAreOneRevision},
	{"limit with match", func(f *fixture) {
		for i := range 10 {
			f.create(fmt.Sprintf("ns/%d", i), []string{"even", "odd"}[i%2])
		}
		q := f.latest()
		q.Limit = 2
		q.Match = func(obj resource.Object) bool { return obj.GetLabels()["value"] == "odd" }
		var got []string
		for {
			page := f.list(q)
			got = append(got, summary(page.Items)...)
			if !page.More {
				break
			}
			if len(page.Items) != 2 || page.Remaining != -1 {
				f.Fatalf("page of %d items, remaining %d", len(page.Items), page.Remaining)
			}
			q.After = page.Items[1].Key
			q.Consistency = store.Consistency{Exactly: page.Revision}
		}
		if fmt.Sprint(got) != "[ns/1=odd ns/3=odd ns/5=odd ns/7=odd ns/9=odd]" {
			f.Fatal(got)
		}
	}},
	{"exactly", func(f *fixture) {
		first := f.create("ns/a", "1")
		f.set("ns/a", "2")
		f.create("ns/b", "1")
		page := f.list(store.Query{Consistency: store.Consistency{Exactly: first.Revision}})
		if got := fmt.Sprint(summary(page.Items)); got != "[ns/a=1]" || page.Revision != first.Revision {
			f.Fatalf("%s at %d", got, page.Revision)
		}
		_, err := f.Store.List(f.Context(), store.Query{Consistency: store.Consistency{Exactly: first.Revision + 1000}})
		f.wantError(err, store.ErrFuture)
	}},
	{"exactly, compacted", func(f *fixture) {
		first := f.create("ns/a", "1")
		last := first
		for i := range 5 {
			last = f.set("ns/a", fmt.Sprint(i))
		}
		if err := f.Compact(f.Context(), last.Revision); err != nil {
			f.Fatal(err)
		}
		_, err := f.Store.List(f.Context(), store.Query{Consistency: store.Consistency{Exactly: first.Revision}})
		f.wantError(err, store.ErrExpired)
	}},
	{"many", func(f *fixture) {
		const n = 2500 // more than one page of any implementation's own reads
		pad := strings.Repeat("x", 100)
		for i := range n {
			f.create(fmt.Sprintf("ns/%05d", i), pad)
		}
		page := f.list(f.latest())
		if len(page.Items) != n {
			f.Fatalf("%d items", len(page.Items))
		}
		for i, item := range page.Items {
			f.check(item, fmt.Sprintf("ns/%05d", i), pad)
		}
	}},
}

// pagesAreOneRevision changes the store between pages.
func pagesAreOneRevision(f *fixture) {
	for i := range 7 {
		f.create(fmt.Sprintf("ns/%d", i), "1")
	}
	q := f.latest()
	q.Prefix, q.Limit = "ns/", 3
	var got []string
	var remaining []int64
	var revision int64
	for round := 0; ; round++ {
		page := f.list(q)
		got = append(got, summary(page.Items)...)
		if revision == 0 {
			revision = page.Revision
		}
		if page.Revision != revision {
			f.Fatalf("page %d is at %d, the first at %d", round, page.Revision, revision)
		}
		if !page.More {
			break
		}
		remaining = append(remaining, page.Remaining)
		f.set("ns/6", fmt.Sprint("changed ", round))
		f.create(fmt.Sprintf("ns/5-%d", round), "new")
		if round == 0 {
			f.delete("ns/4")
		}
		q.After = page.Items[len(page.Items)-1].Key
		q.Consistency = store.Consistency{Exactly: revision}
	}
	if fmt.Sprint(got) != "[ns/0=1 ns/1=1 ns/2=1 ns/3=1 ns/4=1 ns/5=1 ns/6=1]" {
		f.Fatal(got)
	}
	if fmt.Sprint(remaining) != "[4 1]" {
		f.Fatalf("remaining %v", remaining)
	}
}

package fanout

import (
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

func nodeOf(obj resource.Object) string { return obj.(*corev1.Pod).Spec.NodeName }

func podEvent(name, node string, revision int64, previous *store.Event) *store.Event {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.PodSpec{NodeName: node}}
	ev := &store.Event{Type: store.Added, Revision: revision, Item: &store.Item{Key: "ns/" + name, Revision: revision, Object: pod}}
	if previous != nil {
		ev.Type, ev.Previous = store.Modified, previous.Item
	}
	return ev
}

// TestIndexedWatchersSeeWhatConcernsThem: an object that comes, changes and
// leaves, whether the watcher is there before or comes later.
func TestIndexedWatchersSeeWhatConcernsThem(t *testing.T) {
	h := New(0, Config{Index: nodeOf})
	defer h.Close()
	first := podEvent("a", "", 1, nil)
	bound := podEvent("a", "one", 2, first)
	other := podEvent("b", "two", 3, nil)
	moved := podEvent("a", "two", 4, bound)
	last := podEvent("c", "one", 5, nil)
	early, err := h.WatchIndex(t.Context(), "one", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, batch := range [][]*store.Event{{first, bound}, {other, moved}, {last}} {
		h.Publish(batch)
	}
	late, err := h.WatchIndex(t.Context(), "one", 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, stream := range map[string]store.Stream{"early": early, "late": late} {
		var got []int64
		for len(got) == 0 || got[len(got)-1] < 5 {
			for _, ev := range <-stream.Events() {
				got = append(got, ev.Revision)
			}
		}
		if fmt.Sprint(got) != "[2 4 5]" {
			t.Errorf("%s: revisions %v, want 2 (came), 4 (left), 5", name, got)
		}
		stream.Stop()
	}
}

// BenchmarkNodeWatchers publishes one Pod event to a thousand kubelets' watches,
// that filter all events or select by index.
func BenchmarkNodeWatchers(b *testing.B) {
	const nodes = 1000
	for _, indexed := range []bool{false, true} {
		b.Run(fmt.Sprintf("indexed=%v", indexed), func(b *testing.B) {
			h := New(0, Config{Index: nodeOf, MaxLag: 1 << 30})
			var wg sync.WaitGroup
			var streams []store.Stream
			delivered := make(chan struct{})
			for n := range nodes {
				node := fmt.Sprint("node-", n)
				open := func() (store.Stream, error) { return h.Watch(b.Context(), "", 0) }
				if indexed {
					open = func() (store.Stream, error) { return h.WatchIndex(b.Context(), node, 0) }
				}
				stream, err := open()
				if err != nil {
					b.Fatal(err)
				}
				wg.Go(func() {
					for batch := range stream.Events() {
						for _, ev := range batch {
							if nodeOf(ev.Item.Object) == node {
								delivered <- struct{}{}
							}
						}
					}
				})
				streams = append(streams, stream)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				h.Publish([]*store.Event{podEvent("a", fmt.Sprint("node-", i%nodes), int64(i+1), nil)})
				<-delivered
			}
			b.StopTimer()
			for _, stream := range streams {
				stream.Stop()
			}
			wg.Wait()
			h.Close()
		})
	}
}

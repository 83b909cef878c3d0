package cache

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/apiserver/etcdserver/etcdtest"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/apiserver/store/fanout"
)

// The benchmarks run on real etcd with fsync. "direct" is store/etcd alone, the
// baseline of the ratio that the "cached" ones report.

// both runs a benchmark on the bare store and on the cache, and reports how
// much faster the cache is.
func both(b *testing.B, prepare func(b *testing.B, s store.Store), work func(b *testing.B, s store.Store)) {
	client := etcdtest.Start(b, true).Client()
	backing := etcdStore(b, client, "")
	c := run(b, backing, Config{Fanout: fanout.Config{MaxLag: 1 << 20}})
	prepare(b, c)
	var direct float64
	b.Run("direct", func(b *testing.B) {
		b.ReportAllocs()
		work(b, backing)
		direct = float64(b.Elapsed()) / float64(b.N)
	})
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		work(b, c)
		if direct > 0 {
			b.ReportMetric(direct/(float64(b.Elapsed())/float64(b.N)), "x-direct")
		}
	})
}

func nothing(*testing.B, store.Store) {}

// sized is an object of a small Pod's size.
func sized(name string) *corev1.ConfigMap {
	data := map[string]string{}
	for i := range 20 {
		data[fmt.Sprintf("key-%02d", i)] = fmt.Sprintf("%064d", i)
	}
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{"app": "x"}}, Data: data}
}

func fill(b *testing.B, s store.Store, n int) {
	b.Helper()
	var wg sync.WaitGroup
	for part := range 32 {
		wg.Go(func() {
			for i := part; i < n; i += 32 {
				name := fmt.Sprintf("%06d", i)
				if _, err := s.Create(b.Context(), "ns/"+name, sized(name)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

var created atomic.Int64

func BenchmarkCreate(b *testing.B) {
	for _, clients := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			both(b, nothing, func(b *testing.B, s store.Store) {
				var wg sync.WaitGroup
				var next atomic.Int64
				for range clients {
					wg.Go(func() {
						for next.Add(1) <= int64(b.N) {
							name := fmt.Sprint("c", created.Add(1))
							if _, err := s.Create(b.Context(), "ns/"+name, sized(name)); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

func BenchmarkUpdate(b *testing.B) {
	both(b, func(b *testing.B, s store.Store) { fill(b, s, 1) }, func(b *testing.B, s store.Store) {
		for b.Loop() {
			_, err := s.Update(b.Context(), "ns/000000", func(current *store.Item) (resource.Object, error) {
				next := current.Object.DeepCopyObject().(*corev1.ConfigMap)
				next.Labels["n"] = fmt.Sprint(created.Add(1))
				return next, nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkGetLatest(b *testing.B) {
	both(b, func(b *testing.B, s store.Store) { fill(b, s, 100) }, func(b *testing.B, s store.Store) {
		for b.Loop() {
			if _, err := s.Get(b.Context(), "ns/000042", store.Consistency{AtLeast: store.Latest}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkList10000(b *testing.B) {
	for name, at := range map[string]int64{"latest": store.Latest, "any": 0} {
		b.Run(name, func(b *testing.B) {
			both(b, func(b *testing.B, s store.Store) { fill(b, s, 10000) }, func(b *testing.B, s store.Store) {
				for b.Loop() {
					page, err := s.List(b.Context(), store.Query{Consistency: store.Consistency{AtLeast: at}})
					if err != nil || len(page.Items) != 10000 {
						b.Fatal(len(page.Items), err)
					}
				}
			})
		})
	}
}

// BenchmarkFanOut is the time from a write until the last of many watchers has
// its encoded event.
func BenchmarkFanOut(b *testing.B) {
	for _, watchers := range []int{100, 200} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			both(b, func(b *testing.B, s store.Store) { fill(b, s, 1) }, func(b *testing.B, s store.Store) { fanOut(b, s, watchers) })
		})
	}
}

func fanOut(b *testing.B, s store.Store, watchers int) {
	arrived := make(chan struct{}, watchers)
	for range watchers {
		stream, err := s.Watch(b.Context(), store.Query{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(stream.Stop)
		go func() {
			for batch := range stream.Events() {
				for _, ev := range batch {
					if ev.Type == store.Bookmark {
						continue
					}
					if _, err := ev.Encoded("json", func() ([]byte, error) { return json.Marshal(ev.Item.Object) }); err != nil {
						b.Error(err)
					}
					arrived <- struct{}{}
				}
			}
		}()
	}
	for b.Loop() {
		_, err := s.Update(b.Context(), "ns/000000", func(current *store.Item) (resource.Object, error) {
			next := current.Object.DeepCopyObject().(*corev1.ConfigMap)
			next.Labels["n"] = fmt.Sprint(time.Now().UnixNano())
			return next, nil
		})
		if err != nil {
			b.Fatal(err)
		}
		for range watchers {
			<-arrived
		}
	}
}

// BenchmarkListLatestElsewhere lists after a write to another resource: the
// cache has to learn from etcd that nothing changed here.
func BenchmarkListLatestElsewhere(b *testing.B) {
	client := etcdtest.Start(b, true).Client()
	c := run(b, etcdStore(b, client, ""), Config{})
	fill(b, c, 100)
	var waited time.Duration
	for b.Loop() {
		if _, err := client.Put(b.Context(), "/elsewhere", "x"); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		if _, err := c.List(b.Context(), store.Query{Consistency: store.Consistency{AtLeast: store.Latest}}); err != nil {
			b.Fatal(err)
		}
		waited += time.Since(start)
	}
	b.ReportMetric(float64(waited.Nanoseconds())/float64(b.N), "ns/list")
}

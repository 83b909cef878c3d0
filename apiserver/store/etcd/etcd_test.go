package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skeg-dev/skeg/apiserver/etcdserver/etcdtest"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/apiserver/store/storetest"
	"github.com/skeg-dev/skeg/internal/testkit"
)

const maxLag = 300

func newStore(t testing.TB, client *clientv3.Client, prefix string, edit func(*Config)) *Store {
	t.Helper()
	config := Config{
		Client: client, Prefix: prefix, StorePrefix: "configmaps",
		New:    func() runtime.Object { return &corev1.ConfigMap{} },
		MaxLag: maxLag, Bookmark: 50 * time.Millisecond,
	}
	if edit != nil {
		edit(&config)
	}
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestContract shares one etcd; each test has a prefix of its own.
func TestContract(t *testing.T) {
	client := etcdtest.Start(t, false).Client()
	number := 0
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		number++
		return storetest.Subject{
			Store:  newStore(t, client, fmt.Sprintf("/registry%d", number), nil),
			MaxLag: maxLag,
			Compact: func(ctx context.Context, revision int64) error {
				_, err := client.Compact(ctx, revision)
				return err //nolint:wrapcheck // a test
			},
			Advance: func(ctx context.Context) (int64, error) {
				answer, err := client.Put(ctx, "/elsewhere", "x")
				if err != nil {
					return 0, err //nolint:wrapcheck // a test
				}
				return answer.Header.Revision, nil
			},
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Fatal("no error without client")
	}
	client := etcdtest.Start(t, false).Client()
	if _, err := New(Config{Client: client, StorePrefix: "x", New: func() runtime.Object { return &runtime.Unknown{} }}); err == nil {
		t.Fatal("no error for a kind that is not in the scheme")
	}
}

// TestValuesAreUpstreams compares stored bytes with what etcd of an upstream
// cluster holds: envelope, kind, and no resource version.
func TestValuesAreUpstreams(t *testing.T) {
	client := etcdtest.Start(t, false).Client()
	s := newStore(t, client, "", nil)
	obj := &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{Kind: "Wrong", APIVersion: "wrong/v1"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", ResourceVersion: "7", SelfLink: "x"},
		Data:       map[string]string{"k": "v"},
	}
	if _, err := s.Create(t.Context(), "default/a", obj); err != nil {
		t.Fatal(err)
	}
	got, err := client.Get(t.Context(), "/registry/configmaps/default/a")
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	value := got.Kvs[0].Value
	want := "k8s\x00\n\x0f\n\x02v1\x12\tConfigMap\x12"
	if !strings.HasPrefix(string(value), want) || !bytes.HasSuffix(value, []byte("\x1a\x00\x22\x00")) {
		t.Fatalf("value %q", value)
	}
	var unknown runtime.Unknown
	if err := unknown.Unmarshal(value[4:]); err != nil {
		t.Fatal(err)
	}
	var stored corev1.ConfigMap
	if err := stored.Unmarshal(unknown.Raw); err != nil {
		t.Fatal(err)
	}
	if stored.ResourceVersion != "" || stored.SelfLink != "" || stored.Data["k"] != "v" {
		t.Fatalf("stored %+v", stored)
	}
}

func TestJSONValuesAreReadAndRewritten(t *testing.T) {
	client := etcdtest.Start(t, false).Client()
	s := newStore(t, client, "", nil)
	const key = "/registry/configmaps/default/a"
	if _, err := client.Put(t.Context(), key, `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","namespace":"default"},"data":{"k":"v"}}`); err != nil {
		t.Fatal(err)
	}
	item, err := s.Get(t.Context(), "default/a", store.Consistency{AtLeast: store.Latest})
	if err != nil || item.Object.(*corev1.ConfigMap).Data["k"] != "v" || item.Object.(*corev1.ConfigMap).Kind != "" {
		t.Fatalf("%+v, %v", item, err)
	}
	// An unchanged object is written once, as protobuf, and then not again.
	same := func(current *store.Item) (resource.Object, error) {
		return current.Object.DeepCopyObject().(resource.Object), nil
	}
	second, err := s.Update(t.Context(), "default/a", same)
	if err != nil || second.Revision == item.Revision {
		t.Fatalf("%+v, %v", second, err)
	}
	third, err := s.Update(t.Context(), "default/a", same)
	if err != nil || third.Revision != second.Revision {
		t.Fatalf("%+v, %v", third, err)
	}
	got, err := client.Get(t.Context(), key)
	if err != nil || !bytes.HasPrefix(got.Kvs[0].Value, protobufMagic) {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestBrokenValues(t *testing.T) {
	client := etcdtest.Start(t, false).Client()
	for name, value := range map[string]string{
		"empty": "", "text": "nonsense", "torn": "k8s\x00\n\x0f\n\x02v1",
		"other kind": `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"a"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, client, "/broken/"+strings.ReplaceAll(name, " ", "-"), nil)
			if _, err := client.Put(t.Context(), s.dir+"default/a", value); err != nil {
				t.Fatal(err)
			}
			if item, err := s.Get(t.Context(), "default/a", store.Consistency{}); err == nil || !strings.Contains(err.Error(), "default/a") {
				t.Fatalf("%+v, %v", item, err)
			}
			if _, err := s.List(t.Context(), store.Query{}); err == nil {
				t.Fatal("no error")
			}
		})
	}
}

// xor is a Transformer that hides values and binds them to their keys.
type xor struct{ stale bool }

func (x *xor) ToStorage(_ context.Context, key string, data []byte) ([]byte, error) {
	out := []byte(key + "|")
	for _, b := range data {
		out = append(out, b^0x5a)
	}
	return out, nil
}

func (x *xor) FromStorage(_ context.Context, key string, value []byte) ([]byte, bool, error) {
	rest, ok := bytes.CutPrefix(value, []byte(key+"|"))
	if !ok {
		return nil, false, errors.New("value of another key")
	}
	out := make([]byte, len(rest))
	for i, b := range rest {
		out[i] = b ^ 0x5a
	}
	return out, x.stale, nil
}

func TestTransformer(t *testing.T) {
	client := etcdtest.Start(t, false).Client()
	cipher := &xor{}
	s := newStore(t, client, "", func(c *Config) { c.Transformer = cipher })
	first, err := s.Create(t.Context(), "ns/a", &corev1.ConfigMap{Data: map[string]string{"k": "secret"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := client.Get(t.Context(), s.dir+"ns/a")
	if err != nil || bytes.Contains(got.Kvs[0].Value, []byte("secret")) {
		t.Fatalf("%v, %v", got, err)
	}
	item, err := s.Get(t.Context(), "ns/a", store.Consistency{})
	if err != nil || item.Object.(*corev1.ConfigMap).Data["k"] != "secret" {
		t.Fatalf("%+v, %v", item, err)
	}
	same := func(current *store.Item) (resource.Object, error) {
		return current.Object.DeepCopyObject().(resource.Object), nil
	}
	if again, err := s.Update(t.Context(), "ns/a", same); err != nil || again.Revision != first.Revision {
		t.Fatalf("%+v, %v", again, err)
	}
	cipher.stale = true
	if again, err := s.Update(t.Context(), "ns/a", same); err != nil || again.Revision == first.Revision {
		t.Fatalf("a stale value was not rewritten: %+v, %v", again, err)
	}
	if _, err := client.Put(t.Context(), s.dir+"ns/b", string(got.Kvs[0].Value)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "ns/b", store.Consistency{}); err == nil {
		t.Fatal("a value moved to another key was accepted")
	}
}

func TestFollowReusesWrittenObjects(t *testing.T) {
	client := etcdtest.Start(t, false).Client()
	s := newStore(t, client, "", nil)
	revision, _, err := s.Revision(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := s.Follow(t.Context(), revision)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Stop()
	obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns"}}
	var items []*store.Item
	for i := range 20 {
		obj.Data = map[string]string{"i": fmt.Sprint(i)}
		item, err := s.Update(t.Context(), "ns/a", func(*store.Item) (resource.Object, error) { return obj, nil })
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, item)
	}
	gone, err := s.Delete(t.Context(), "ns/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	for batch := range stream.Events() {
		for _, ev := range batch {
			switch {
			case ev.Type == store.Bookmark:
			case ev.Type == store.Deleted:
				if ev.Revision != gone.Revision || ev.Item.Object != nil || len(items) != 0 {
					t.Fatalf("%+v, %d items to come", ev, len(items))
				}
				return
			case ev.Item != items[0]:
				t.Fatalf("event %+v has not the writer's item %+v", ev.Item, items[0])
			default:
				items = items[1:]
			}
		}
	}
	t.Fatal(stream.Err())
}

func TestLeases(t *testing.T) {
	client := etcdtest.Start(t, false).Client()
	s := newStore(t, client, "", func(c *Config) { c.TTL = time.Hour })
	now := time.Now()
	s.leases.now = func() time.Time { return now }
	lease := func(i int) clientv3.LeaseID {
		key := fmt.Sprintf("ns/%d", i)
		if _, err := s.Create(t.Context(), key, &corev1.ConfigMap{}); err != nil {
			t.Fatal(err)
		}
		got, err := client.Get(t.Context(), s.dir+key)
		if err != nil {
			t.Fatal(err)
		}
		return clientv3.LeaseID(got.Kvs[0].Lease)
	}
	first, second := lease(1), lease(2)
	now = now.Add(59 * time.Second)
	third := lease(3)
	now = now.Add(2 * time.Second)
	fourth := lease(4)
	if first == clientv3.NoLease || first != second || second != third || third == fourth {
		t.Fatalf("leases %x %x %x %x", first, second, third, fourth)
	}
	ttl, err := client.TimeToLive(t.Context(), fourth)
	if err != nil || ttl.GrantedTTL != 3660 {
		t.Fatalf("granted %+v, %v", ttl, err)
	}
	s.leases.objects = leaseObjects
	if fifth := lease(5); fifth == fourth {
		t.Fatal("a full lease was used again")
	}
}

func TestObjectsExpire(t *testing.T) {
	client := etcdtest.Start(t, false).Client()
	s := newStore(t, client, "", func(c *Config) { c.TTL = time.Second })
	if _, err := s.Create(t.Context(), "ns/a", &corev1.ConfigMap{}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the object to expire", func() error {
		if _, err := s.Get(t.Context(), "ns/a", store.Consistency{}); !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("get: %w", err)
		}
		return nil
	})
}

func TestCompactors(t *testing.T) {
	client := etcdtest.Start(t, false).Client()
	a, b := &Compactor{Client: client}, &Compactor{Client: client}
	round := func(c *Compactor) int64 {
		t.Helper()
		revision, err := c.Round(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Put(t.Context(), "k", "v"); err != nil {
			t.Fatal(err)
		}
		return revision
	}
	if r := round(a); r != 0 {
		t.Fatalf("the first round compacted to %d", r)
	}
	if r := round(b); r != 0 {
		t.Fatalf("a second server's first round compacted to %d", r)
	}
	claimed := round(a)
	if claimed == 0 {
		t.Fatal("the second round did not compact")
	}
	if r := round(b); r != 0 {
		t.Fatalf("both servers did a round: %d", r)
	}
	if a.Compacted() != claimed || b.Compacted() != claimed {
		t.Fatalf("compacted to %d; the servers say %d and %d", claimed, a.Compacted(), b.Compacted())
	}
	got, err := client.Get(t.Context(), compactKey)
	if err != nil || string(got.Kvs[0].Value) != fmt.Sprint(claimed) {
		t.Fatalf("%v, %v", got, err)
	}
	if _, err := client.Get(t.Context(), "k", clientv3.WithRev(claimed-1)); err == nil {
		t.Fatal("history before the compaction is still there")
	}
	if _, err := client.Get(t.Context(), "k", clientv3.WithRev(claimed)); err != nil {
		t.Fatal(err)
	}
}

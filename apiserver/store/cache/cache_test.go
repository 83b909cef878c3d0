package cache

import (
	"context"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skeg-dev/skeg/apiserver/etcdserver/etcdtest"
	"github.com/skeg-dev/skeg/apiserver/store/etcd"
	"github.com/skeg-dev/skeg/apiserver/store/fanout"
	"github.com/skeg-dev/skeg/apiserver/store/memory"
	"github.com/skeg-dev/skeg/apiserver/store/storetest"
	"github.com/skeg-dev/skeg/internal/testkit"
)

const maxLag = 300

var testFanout = fanout.Config{MaxLag: maxLag, Bookmark: 50 * time.Millisecond}

// run starts a cache and waits for its first list.
func run(t testing.TB, backing Backing, config Config) *Cache {
	t.Helper()
	if config.Logger == nil {
		config.Logger, _ = testkit.NewLogger(t)
	}
	config.Name, config.IdleProgress = "configmaps", 50*time.Millisecond
	c := New(backing, config)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run cache: %v", err)
		}
	})
	testkit.Eventually(t, "the first list", c.Ready)
	return c
}

func etcdStore(t testing.TB, client *clientv3.Client, prefix string) *etcd.Store {
	t.Helper()
	s, err := etcd.New(etcd.Config{
		Client: client, Prefix: prefix, StorePrefix: "configmaps",
		New: func() runtime.Object { return &corev1.ConfigMap{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// forget makes a cache, which may know more than its backing, as forgetful as
// a compaction makes that.
func forget(t testing.TB, c *Cache, revision int64) {
	t.Helper()
	if _, err := c.await(t.Context(), revision); err != nil {
		t.Fatal(err)
	}
	c.hub.Forget(revision)
}

func TestContractOnEtcd(t *testing.T) {
	client := etcdtest.Start(t, false).Client()
	number := 0
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		number++
		c := run(t, etcdStore(t, client, fmt.Sprintf("/registry%d", number)), Config{Fanout: testFanout, FreshWait: time.Second})
		return storetest.Subject{
			Store: c, MaxLag: maxLag,
			Compact: func(ctx context.Context, revision int64) error {
				forget(t, c, revision)
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

func TestContractOnMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		revisions := &memory.Revisions{}
		backing := memory.New(memory.Config{Revisions: revisions, MaxBytes: 3 << 19, Fanout: fanout.Config{Bookmark: time.Hour}})
		c := run(t, backing, Config{Fanout: testFanout, FreshWait: time.Second})
		return storetest.Subject{
			Store: c, MaxLag: maxLag,
			Compact: func(_ context.Context, revision int64) error {
				forget(t, c, revision)
				backing.Compact(revision)
				return nil
			},
			Advance: func(context.Context) (int64, error) { return revisions.Advance(), nil },
		}
	})
}

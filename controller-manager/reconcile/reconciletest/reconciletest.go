// Package reconciletest runs controllers in tests against client-go's fake
// clientset, which it makes behave like an API server where controllers
// depend on it: UIDs, generated names, resource versions with conflicts,
// generations, and status as a subresource. Only tests import it. Goroutines
// end with the test.
package reconciletest

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// Cluster is a fake API server and the environment of controllers.
type Cluster struct {
	Client   *fake.Clientset
	Metadata *metadatafake.FakeMetadataClient
	Env      reconcile.Env
	// Events are what controllers recorded, as "type reason message".
	Events chan string

	t        testing.TB
	revision atomic.Int64
	mu       sync.Mutex
	watched  map[schema.GroupVersionResource]bool // guarded by mu
}

// eventBuffer is more than any test records; a full buffer would block.
const eventBuffer = 10000

// New returns a cluster that holds the objects.
func New(t testing.TB, objects ...runtime.Object) *Cluster {
	t.Helper()
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := &Cluster{
		//nolint:staticcheck // NewClientset wants managed fields, which no controller here uses
		Client: fake.NewSimpleClientset(), Metadata: metadatafake.NewSimpleMetadataClient(scheme),
		Events: make(chan string, eventBuffer), t: t, watched: map[schema.GroupVersionResource]bool{},
	}
	c.Client.PrependReactor("create", "*", c.create)
	c.Client.PrependReactor("update", "*", c.update)
	c.Client.PrependWatchReactor("*", c.watch)
	c.Env = reconcile.Env{
		Client: c.Client, Metadata: c.Metadata, Informers: informers.NewSharedInformerFactory(c.Client, 0),
		Events: func(string) record.EventRecorder { return &record.FakeRecorder{Events: c.Events} },
	}
	for _, object := range objects {
		c.Add(object)
	}
	return c
}

// Add stores an object as it is, with a UID and creation time if it has none.
func (c *Cluster) Add(object runtime.Object) {
	c.t.Helper()
	c.stamp(object)
	if err := c.Client.Tracker().Add(object); err != nil {
		c.t.Fatal(err)
	}
}

// Start runs the reconcilers until the test ends, and returns when their
// informers watch.
func (c *Cluster) Start(reconcilers ...reconcile.Reconciler) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	var group sync.WaitGroup
	c.Env.Informers.StartWithContext(ctx)
	for kind, ok := range c.Env.Informers.WaitForCacheSync(ctx.Done()) {
		if !ok {
			c.t.Errorf("informer of %v has not synced", kind)
		}
	}
	for _, r := range reconcilers {
		group.Go(func() {
			if err := reconcile.Run(ctx, r, 4); err != nil {
				c.t.Errorf("run %s: %v", r.Name(), err)
			}
		})
	}
	c.t.Cleanup(func() {
		cancel()
		group.Wait()
		c.Env.Informers.Shutdown()
	})
}

// Watching waits until the resource is watched: what is written between an
// informer's list and its watch is lost by the fake.
func (c *Cluster) Watching(resources ...schema.GroupVersionResource) {
	c.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for _, r := range resources {
		for !c.isWatched(r) {
			if time.Now().After(deadline) {
				c.t.Fatalf("%v is not watched", r)
			}
			<-time.After(time.Millisecond)
		}
	}
}

func (c *Cluster) isWatched(r schema.GroupVersionResource) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.watched[r]
}

func (c *Cluster) watch(action clienttesting.Action) (bool, watch.Interface, error) {
	w, err := c.Client.Tracker().Watch(action.GetResource(), action.GetNamespace())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watched[action.GetResource()] = true
	return true, w, err
}

func (c *Cluster) nextRevision() string { return strconv.FormatInt(c.revision.Add(1), 10) }

func (c *Cluster) stamp(object runtime.Object) {
	m, ok := object.(metav1.Object)
	if !ok {
		return
	}
	m.SetResourceVersion(c.nextRevision())
	if m.GetName() == "" && m.GetGenerateName() != "" {
		m.SetName(m.GetGenerateName() + m.GetResourceVersion())
	}
	if m.GetUID() == "" {
		m.SetUID(types.UID("uid-" + m.GetResourceVersion()))
	}
	if created := m.GetCreationTimestamp(); created.IsZero() {
		m.SetCreationTimestamp(metav1.Now())
	}
	if m.GetGeneration() == 0 {
		m.SetGeneration(1)
	}
}

func (c *Cluster) create(action clienttesting.Action) (bool, runtime.Object, error) {
	if create, ok := action.(clienttesting.CreateAction); ok && action.GetSubresource() == "" {
		c.stamp(create.GetObject())
	}
	return false, nil, nil
}

// update makes writes behave: stale ones conflict, a status write changes
// nothing but the status, another write everything but it.
func (c *Cluster) update(action clienttesting.Action) (bool, runtime.Object, error) {
	object := action.(clienttesting.UpdateAction).GetObject()
	now, ok := object.(metav1.Object)
	if !ok {
		return false, nil, nil
	}
	stored, err := c.Client.Tracker().Get(action.GetResource(), now.GetNamespace(), now.GetName())
	if err != nil {
		return true, nil, err
	}
	old := stored.(metav1.Object)
	if now.GetResourceVersion() != "" && now.GetResourceVersion() != old.GetResourceVersion() {
		return true, nil, apierrors.NewConflict(action.GetResource().GroupResource(), now.GetName(), fmt.Errorf("version %s is not %s", now.GetResourceVersion(), old.GetResourceVersion()))
	}
	now.SetGeneration(old.GetGeneration())
	switch sub := action.GetSubresource(); sub {
	case "":
		keep(object, stored, "Status")
		if changed(object, stored, "Spec") {
			now.SetGeneration(old.GetGeneration() + 1)
		}
	case "status", "approval":
		keep(object, stored, "Spec")
		keep(object, stored, "ObjectMeta")
	}
	now.SetResourceVersion(c.nextRevision())
	return false, nil, nil
}

func field(object runtime.Object, name string) (reflect.Value, bool) {
	v := reflect.ValueOf(object).Elem().FieldByName(name)
	return v, v.IsValid()
}

func keep(object, stored runtime.Object, name string) {
	if v, ok := field(object, name); ok {
		from, _ := field(stored.DeepCopyObject(), name)
		v.Set(from)
	}
}

func changed(object, stored runtime.Object, name string) bool {
	v, ok := field(object, name)
	if !ok {
		return false
	}
	before, _ := field(stored, name)
	return !reflect.DeepEqual(v.Interface(), before.Interface())
}

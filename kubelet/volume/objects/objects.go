// Package objects keeps the ConfigMaps and Secrets that the node's Pods refer
// to, each by a watch of that one object (all that the node authorizer lets a
// kubelet see). Volumes and environments read from it; Volumes registers the
// Pods. Goroutines: an informer per referenced object, until the last Pod that
// refers to it is gone or Run ends.
package objects

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// The kinds of objects.
const (
	configMap = "configmaps"
	secret    = "secrets"
)

type key struct{ kind, namespace, name string }

// entry is one watched object.
type entry struct {
	pods   map[types.UID]bool
	store  cache.Store
	synced cache.InformerSynced
	stop   chan struct{}
}

// Store is the set of watched objects. Its methods are safe for concurrent
// use.
type Store struct {
	client kubernetes.Interface

	mu      sync.Mutex // guards the fields below
	entries map[key]*entry
	refs    map[types.UID]map[key]bool
	changed func(types.UID)
	closed  bool
	running sync.WaitGroup
}

// New returns an empty Store.
func New(client kubernetes.Interface) *Store {
	return &Store{
		client: client, entries: map[key]*entry{}, refs: map[types.UID]map[key]bool{},
		changed: func(types.UID) {},
	}
}

// Notify has f called for every Pod whose objects changed; f must not block.
// Called once, before the first Track.
func (s *Store) Notify(f func(types.UID)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = f
}

// Run blocks until ctx ends and then ends all watches.
func (s *Store) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	s.closed = true
	for k, e := range s.entries {
		close(e.stop)
		delete(s.entries, k)
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// Track watches what the Pod refers to, and no longer what only an earlier
// version of it did.
func (s *Store) Track(pod *corev1.Pod) {
	want := map[key]bool{}
	for ref := range references(pod) {
		want[key{ref.kind, pod.Namespace, ref.name}] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for k := range want {
		e := s.entries[k]
		if e == nil {
			e = s.watch(k)
			s.entries[k] = e
		}
		e.pods[pod.UID] = true
	}
	for k := range s.refs[pod.UID] {
		if !want[k] {
			s.drop(k, pod.UID)
		}
	}
	s.refs[pod.UID] = want
}

// Untrack forgets the Pod.
func (s *Store) Untrack(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.refs[uid] {
		s.drop(k, uid)
	}
	delete(s.refs, uid)
}

// drop removes a reference. Called with mu held.
func (s *Store) drop(k key, uid types.UID) {
	e := s.entries[k]
	if e == nil {
		return
	}
	delete(e.pods, uid)
	if len(e.pods) == 0 {
		close(e.stop)
		delete(s.entries, k)
	}
}

// watch starts the informer of one object. Called with mu held.
func (s *Store) watch(k key) *entry {
	e := &entry{pods: map[types.UID]bool{}, stop: make(chan struct{})}
	notify := func() { s.notify(k) }
	store, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: s.listWatch(k),
		ObjectType:    newObject(k.kind),
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { notify() },
			UpdateFunc: func(any, any) { notify() },
			DeleteFunc: func(any) { notify() },
		},
	})
	e.store, e.synced = store, informer.HasSynced
	s.running.Go(func() { informer.Run(e.stop) })
	return e
}

// listWatch reads that one object.
func (s *Store) listWatch(k key) cache.ListerWatcher {
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, k.name).String()
	core := s.client.CoreV1()
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			opts.FieldSelector = selector
			if k.kind == secret {
				return core.Secrets(k.namespace).List(ctx, opts)
			}
			return core.ConfigMaps(k.namespace).List(ctx, opts)
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			opts.FieldSelector = selector
			if k.kind == secret {
				return core.Secrets(k.namespace).Watch(ctx, opts)
			}
			return core.ConfigMaps(k.namespace).Watch(ctx, opts)
		},
	}, s.client)
}

func newObject(kind string) runtime.Object {
	if kind == secret {
		return &corev1.Secret{}
	}
	return &corev1.ConfigMap{}
}

// notify tells of a change to every Pod that refers to the object.
func (s *Store) notify(k key) {
	s.mu.Lock()
	var uids []types.UID
	if e := s.entries[k]; e != nil {
		for uid := range e.pods {
			uids = append(uids, uid)
		}
	}
	changed := s.changed
	s.mu.Unlock()
	for _, uid := range uids {
		changed(uid)
	}
}

// ConfigMap returns the object, which must not be changed. It is an API error
// (NotFound) if there is none.
func (s *Store) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	found, err := s.cached(key{configMap, namespace, name})
	if err != nil {
		return nil, err
	}
	if cm, ok := found.(*corev1.ConfigMap); ok {
		return cm, nil
	}
	return s.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
}

// Secret is like ConfigMap.
func (s *Store) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	found, err := s.cached(key{secret, namespace, name})
	if err != nil {
		return nil, err
	}
	if sec, ok := found.(*corev1.Secret); ok {
		return sec, nil
	}
	return s.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
}

// cached returns the watched object; nil if it is not watched or not (yet)
// there, which a direct request has to settle, since a watch may lag behind.
func (s *Store) cached(k key) (any, error) {
	s.mu.Lock()
	e := s.entries[k]
	s.mu.Unlock()
	if e == nil || !e.synced() {
		return nil, nil
	}
	obj, ok, err := e.store.GetByKey(k.namespace + "/" + k.name)
	if err != nil || !ok {
		return nil, err
	}
	return obj, nil
}

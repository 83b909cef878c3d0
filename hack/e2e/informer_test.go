package e2e

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// breaker is a TCP proxy before the API server whose connections can be cut.
type breaker struct {
	target   string
	listener net.Listener

	mu       sync.Mutex
	open     map[net.Conn]bool // both ends; guarded by mu
	accepted int               // guarded by mu
}

func startBreaker(t *testing.T) *breaker {
	t.Helper()
	server, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &breaker{target: server.Host, listener: l, open: map[net.Conn]bool{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return // closed
			}
			serving.Go(func() { b.serve(from) })
		}
	})
	t.Cleanup(func() { l.Close(); b.cut(); serving.Wait() })
	return b
}

func (b *breaker) serve(from net.Conn) {
	to, err := net.Dial("tcp", b.target) //nolint:noctx // cut closes it
	if err != nil {
		from.Close()
		return
	}
	b.mu.Lock()
	b.open[from], b.open[to] = true, true
	b.accepted++
	b.mu.Unlock()
	var copying sync.WaitGroup
	for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
		copying.Go(func() {
			// Either end may be cut at any time; then both are done.
			io.Copy(way[0], way[1]) //nolint:errcheck // see above
			from.Close()
			to.Close()
		})
	}
	copying.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, from)
	delete(b.open, to)
}

// cut breaks all connections and returns how many there were so far.
func (b *breaker) cut() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.open {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0) //nolint:errcheck // a closed one is cut already
		}
		c.Close()
	}
	return b.accepted
}

// through is a client whose connections go through the breaker.
func (b *breaker) through(t *testing.T, contentType string) kubernetes.Interface {
	t.Helper()
	c := rest.CopyConfig(config)
	host, _, err := net.SplitHostPort(b.target)
	if err != nil {
		t.Fatal(err)
	}
	c.Host, c.ServerName, c.ContentType = "https://"+b.listener.Addr().String(), host, contentType
	if contentType != runtime.ContentTypeJSON {
		c.AcceptContentTypes = contentType + "," + runtime.ContentTypeJSON
	}
	through, err := kubernetes.NewForConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	return through
}

// view is the objects as their events tell: name to resource version. It says
// when the events contradict each other.
type view struct {
	mu      sync.Mutex
	objects map[string]string // guarded by mu
	wrong   []string          // guarded by mu
}

func (v *view) changed(obj any, isAdd bool) {
	m, ok := obj.(*corev1.ConfigMap)
	v.mu.Lock()
	defer v.mu.Unlock()
	if !ok {
		v.wrong = append(v.wrong, fmt.Sprintf("an event with a %T", obj))
		return
	}
	if _, known := v.objects[m.Name]; known == isAdd {
		v.wrong = append(v.wrong, fmt.Sprintf("%s: add is %t, known is %t", m.Name, isAdd, known))
	}
	v.objects[m.Name] = m.ResourceVersion
}

func (v *view) deleted(obj any) {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
	v.mu.Lock()
	defer v.mu.Unlock()
	_, name, _ := strings.Cut(key, "/")
	if _, known := v.objects[name]; !known || err != nil {
		v.wrong = append(v.wrong, fmt.Sprintf("%s: deleted, but not known (%v)", key, err))
	}
	delete(v.objects, name)
}

// churn creates, changes and deletes ConfigMaps until stopped.
func churn(ctx context.Context, ns string, count *atomic.Int64) error {
	maps := client.CoreV1().ConfigMaps(ns)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		// Every name is made, changed three times, and of two one is deleted.
		name := fmt.Sprintf("churn-%04d", i/5)
		count.Store(int64(i))
		var err error
		switch {
		case i%5 == 0:
			_, err = maps.Create(context.Background(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		case i%5 == 4 && i/5%2 == 0:
			err = maps.Delete(context.Background(), name, metav1.DeleteOptions{})
		default:
			var m *corev1.ConfigMap
			if m, err = maps.Get(context.Background(), name, metav1.GetOptions{}); err == nil {
				m.Data = map[string]string{"i": fmt.Sprint(i)}
				_, err = maps.Update(context.Background(), m, metav1.UpdateOptions{})
			}
		}
		if err != nil {
			return fmt.Errorf("churn: %w", err)
		}
	}
}

// churnWhileCutting changes objects and cuts the connections, each time after
// they came back and 100 changes more, and returns what there is in the end.
func churnWhileCutting(t *testing.T, b *breaker, ns string, cuts int) map[string]string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	result := make(chan error, 1)
	var done atomic.Int64
	go func() { result <- churn(ctx, ns, &done) }()
	for i := range cuts {
		before := b.cut()
		eventually(t, "a new connection", func(context.Context) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			if n := done.Load(); b.accepted == before || n < int64(100*(i+1)) {
				return fmt.Errorf("%d connections, before %d; %d changes", b.accepted, before, n)
			}
			return nil
		})
	}
	stop()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	list, err := client.CoreV1().ConfigMaps(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, m := range list.Items {
		want[m.Name] = m.ResourceVersion
	}
	return want
}

// TestClientsInformer is the other half of S4: an informer whose connection
// breaks again and again misses nothing, in either encoding.
func TestClientsInformer(t *testing.T) {
	for name, contentType := range map[string]string{"json": runtime.ContentTypeJSON, "protobuf": runtime.ContentTypeProtobuf} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := "informer-" + name
			namespace(t, ns)
			b := startBreaker(t)
			factory := informers.NewSharedInformerFactoryWithOptions(b.through(t, contentType), 0, informers.WithNamespace(ns))
			informer := factory.Core().V1().ConfigMaps().Informer()
			seen := &view{objects: map[string]string{}}
			if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
				AddFunc:    func(obj any) { seen.changed(obj, true) },
				UpdateFunc: func(_, obj any) { seen.changed(obj, false) },
				DeleteFunc: seen.deleted,
			}); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			factory.Start(ctx.Done())
			defer factory.Shutdown()
			defer stop()
			if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
				t.Fatal("the informer did not begin")
			}
			want := churnWhileCutting(t, b, ns, 5)
			eventually(t, "the informer has it all", func(context.Context) error {
				stored := map[string]string{}
				for _, obj := range informer.GetStore().List() {
					m := obj.(*corev1.ConfigMap)
					stored[m.Name] = m.ResourceVersion
				}
				seen.mu.Lock()
				defer seen.mu.Unlock()
				if !maps.Equal(stored, want) || !maps.Equal(seen.objects, want) {
					return fmt.Errorf("there are %d objects, %d in the store, %d by the events", len(want), len(stored), len(seen.objects))
				}
				return nil
			})
			seen.mu.Lock()
			defer seen.mu.Unlock()
			if len(seen.wrong) > 0 || len(want) < 10 {
				t.Errorf("of %d objects: %s", len(want), strings.Join(seen.wrong, "; "))
			}
		})
	}
}

// TestClientsWatchResumes: a watch that resumes where it broke off gets each
// event once, the same as a watch that never broke.
func TestClientsWatchResumes(t *testing.T) {
	t.Parallel()
	const ns = "watch-resumes"
	namespace(t, ns)
	b := startBreaker(t)
	list, err := client.CoreV1().ConfigMaps(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	broken := b.through(t, runtime.ContentTypeJSON)
	record := func(c kubernetes.Interface) (*watchtools.RetryWatcher, <-chan []string) {
		w, err := watchtools.NewRetryWatcherWithContext(t.Context(), list.ResourceVersion, &cache.ListWatch{
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				return c.CoreV1().ConfigMaps(ns).Watch(ctx, o)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		all := make(chan []string, 1)
		go func() {
			var events []string
			for e := range w.ResultChan() {
				m, ok := e.Object.(*corev1.ConfigMap)
				if !ok {
					events = append(events, fmt.Sprintf("%s %v", e.Type, apierrors.FromObject(e.Object)))
					break
				}
				events = append(events, fmt.Sprintf("%s %s %s", e.Type, m.Name, m.ResourceVersion))
				if m.Name == "last" {
					break
				}
			}
			all <- events
		}()
		return w, all
	}
	_, straight := record(client)
	_, resumed := record(broken)
	churnWhileCutting(t, b, ns, 5)
	last := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "last"}}
	if _, err := client.CoreV1().ConfigMaps(ns).Create(t.Context(), last, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var both [2][]string
	for i, events := range []<-chan []string{straight, resumed} {
		select {
		case both[i] = <-events:
		case <-ctx.Done():
			t.Fatal("the watch did not see the last object")
		}
	}
	if !slices.Equal(both[0], both[1]) {
		t.Errorf("a straight watch saw %d events, the broken one %d:\n%s\n\n%s",
			len(both[0]), len(both[1]), strings.Join(both[0], "\n"), strings.Join(both[1], "\n"))
	}
	t.Logf("%d events", len(both[0]))
}

package podsource

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/clock"
)

// log is a Sink that writes down what it is told.
type log struct {
	mu      sync.Mutex
	entries []string
	changed chan struct{}
}

func newLog() *log { return &log{changed: make(chan struct{}, 1)} }

func (l *log) add(format string, args ...any) {
	l.mu.Lock()
	l.entries = append(l.entries, fmt.Sprintf(format, args...))
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

func (l *log) Apply(pod *corev1.Pod)  { l.add("apply %s/%s", pod.Name, pod.Labels["v"]) }
func (l *log) Remove(pod *corev1.Pod) { l.add("remove %s", pod.Name) }
func (l *log) Synced()                { l.add("synced") }

// await waits until the log ends with the entries.
func (l *log) await(t *testing.T, want ...string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		l.mu.Lock()
		got := strings.Join(l.entries, ", ")
		l.mu.Unlock()
		if strings.HasSuffix(got, strings.Join(want, ", ")) {
			return
		}
		select {
		case <-l.changed:
		case <-deadline:
			t.Fatalf("log is %q, want it to end with %q", got, want)
		}
	}
}

func run(t *testing.T, part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- part(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func testMirrors(client *fake.Clientset, appeared func(types.UID)) *Mirrors {
	return NewMirrors(MirrorConfig{
		Client: client, Clock: clock.RealClock{}, Logger: slog.New(slog.DiscardHandler), Appeared: appeared,
		Node: func() (*corev1.Node, error) {
			return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "node-uid"}}, nil
		},
	})
}

func TestAPIServer(t *testing.T) {
	t.Parallel()
	pod := func(name, uid, v string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(uid), Labels: map[string]string{"v": v}},
			Spec:       corev1.PodSpec{NodeName: "n1"},
		}
	}
	client := fake.NewClientset(pod("a", "1", "1"))
	sink := newLog()
	source, err := NewAPIServer(client, "n1", sink, nil, NewBarrier(sink, 1))
	if err != nil {
		t.Fatal(err)
	}
	run(t, source.Run)
	deadline := time.Now().Add(time.Minute)
	for source.Ready() != nil && time.Now().Before(deadline) {
		<-sink.changed
	}
	pods := client.CoreV1().Pods("default")
	if _, err := pods.Update(t.Context(), pod("a", "1", "2"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	sink.await(t, "apply a/2")
	// Another Pod by that name, as after a broken watch.
	if _, err := pods.Update(t.Context(), pod("a", "2", "3"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	sink.await(t, "remove a", "apply a/3")
	if err := pods.Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	sink.await(t, "remove a")
}

const manifest = `apiVersion: v1
kind: Pod
metadata: {name: web, labels: {v: "%s"}}
spec:
  containers: [{name: c, image: "registry.example.com:5000/web:1", ports: [{containerPort: 80}]}]
`

func TestStaticPodsAndMirrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(v string) {
		t.Helper()
		temporary := filepath.Join(dir, ".web.yaml")
		if err := os.WriteFile(temporary, fmt.Appendf(nil, manifest, v), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temporary, filepath.Join(dir, "web.yaml")); err != nil {
			t.Fatal(err)
		}
	}
	client := fake.NewClientset()
	sink := newLog()
	appeared := make(chan types.UID, 10)
	mirrors := testMirrors(client, func(uid types.UID) { appeared <- uid })
	barrier := NewBarrier(sink, 2)
	api, err := NewAPIServer(client, "n1", sink, mirrors, barrier)
	if err != nil {
		t.Fatal(err)
	}
	write("1")
	static := &Static{
		Path: dir, NodeName: "n1", Sink: sink, Mirrors: mirrors, Barrier: barrier, Every: time.Second,
		Clock: clock.RealClock{}, Logger: slog.New(slog.DiscardHandler),
	}
	run(t, api.Run)
	run(t, mirrors.Run)
	run(t, static.Run)
	sink.await(t, "synced")
	first := <-appeared
	mirror, err := client.CoreV1().Pods("default").Get(t.Context(), "web-n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if mirror.Annotations[annotationMirror] != string(first) || mirror.OwnerReferences[0].UID != "node-uid" || mirror.Spec.NodeName != "n1" {
		t.Errorf("mirror: %+v", mirror)
	}
	write("2")
	sink.await(t, "remove web-n1", "apply web-n1/2")
	if second := <-appeared; second == first {
		t.Error("a changed manifest kept its uid")
	}
	if err := os.Remove(filepath.Join(dir, "web.yaml")); err != nil {
		t.Fatal(err)
	}
	sink.await(t, "remove web-n1")
}

func TestReadManifest(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pod.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, manifest, "1"), 0o600); err != nil {
		t.Fatal(err)
	}
	pod, err := ReadManifest(path, "N1", time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	c := pod.Spec.Containers[0]
	if pod.Name != "web-n1" || pod.Namespace != "default" || len(pod.UID) != 32 || pod.Spec.RestartPolicy != corev1.RestartPolicyAlways ||
		c.ImagePullPolicy != corev1.PullIfNotPresent || c.Ports[0].Protocol != corev1.ProtocolTCP || pod.Status.QOSClass != corev1.PodQOSBestEffort {
		t.Errorf("pod: %+v", pod)
	}
	for name, text := range map[string]string{
		"syntax": "{", "kind": "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n", "unknown field": "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {container: []}\n",
		"no containers": "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadManifest(path, "n1", time.Unix(0, 0)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

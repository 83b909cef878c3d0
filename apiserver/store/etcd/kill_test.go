package etcd_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skeg-dev/skeg/apiserver/etcdserver"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/apiserver/store/etcd"
)

// writerDir tells a process of this test binary to write there until killed.
const writerDir = "SKEG_TEST_WRITER_DIR"

// kills is how often the writer is killed, writes how many acknowledgements
// are awaited each time.
const kills, writes = 4, 60

// TestKilledServerKeepsAcknowledgedWrites kills a process that runs etcd and
// writes, in the middle of it, and starts it again on the same data.
func TestKilledServerKeepsAcknowledgedWrites(t *testing.T) {
	if dir := os.Getenv(writerDir); dir != "" {
		write(t, dir)
		return
	}
	dir := filepath.Join(t.TempDir(), "etcd")
	var acknowledged []string
	for range kills {
		acknowledged = append(acknowledged, runWriter(t, dir)...)
	}
	s := open(t, dir)
	for _, key := range acknowledged {
		if _, err := s.Get(t.Context(), key, store.Consistency{AtLeast: store.Latest}); err != nil {
			t.Errorf("%s was acknowledged: %v", key, err)
		}
	}
	if len(acknowledged) < kills*writes {
		t.Errorf("only %d writes", len(acknowledged))
	}
}

// runWriter returns the keys that a writer acknowledged before it was killed.
func runWriter(t *testing.T, dir string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestKilledServerKeepsAcknowledgedWrites$")
	cmd.Env = append(os.Environ(), writerDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var keys []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		keys = append(keys, lines.Text())
		if len(keys) == writes {
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the writer ended by itself: %v after %d writes: %v", err, len(keys), keys)
	}
	return keys
}

// write acknowledges keys on standard output, until the process is killed.
func write(t *testing.T, dir string) {
	s := open(t, dir)
	for i := 0; ; i++ {
		name := fmt.Sprintf("%d-%d", os.Getpid(), i)
		obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Data: map[string]string{"a": name}}
		if _, err := s.Create(t.Context(), "ns/"+name, obj); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Println("ns/" + name); err != nil {
			t.Fatal(err)
		}
	}
}

// open runs a durable etcd until the test ends.
func open(t *testing.T, dir string) *etcd.Store {
	t.Helper()
	server := etcdserver.New(etcdserver.Config{DataDir: dir, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	select {
	case <-server.Started():
	case err := <-done:
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	s, err := etcd.New(etcd.Config{Client: server.Client(), StorePrefix: "configmaps", New: func() runtime.Object { return &corev1.ConfigMap{} }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

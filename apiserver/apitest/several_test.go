package apitest_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/apiserver/apitest"
	"github.com/skeg-dev/skeg/apiserver/app"
	"github.com/skeg-dev/skeg/apiserver/etcdserver"
	"github.com/skeg-dev/skeg/internal/testkit"
)

// external runs an etcd that listens, and returns what makes an API server use
// it and a function that stops it and starts it again on its data.
func external(t *testing.T, files etcdserver.TLSFiles, scheme string) (apitest.Option, func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := scheme + "://" + listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "etcd")
	stop := startEtcd(t, url, data, files)
	t.Cleanup(func() { stop() })
	option := func(o *app.Options) {
		o.Etcd.Servers = []string{url}
		o.Etcd.CertFile, o.Etcd.KeyFile, o.Etcd.CAFile = files.CertFile, files.KeyFile, files.CAFile
	}
	return option, func() {
		stop()
		stop = startEtcd(t, url, data, files)
	}
}

func startEtcd(t *testing.T, url, data string, files etcdserver.TLSFiles) (stop func()) {
	t.Helper()
	logger, _ := testkit.NewLogger(t)
	s := etcdserver.New(etcdserver.Config{DataDir: data, ListenClientURL: url, TLS: files, UnsafeNoFsync: true, Logger: logger})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Started():
	case err := <-done:
		cancel()
		t.Fatalf("run etcd: %v", err)
	}
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run etcd: %v", err)
		}
	})
}

// TestSeveralServers runs two API servers on one etcd: concurrent Services
// never get the same address or port.
func TestSeveralServers(t *testing.T) {
	kept, _ := external(t, etcdserver.TLSFiles{}, "http")
	small := func(o *app.Options) {
		o.ServiceClusterIPRange = "10.77.0.0/26"
		o.ServiceNodePortRange.Base, o.ServiceNodePortRange.Size = 31000, 70
	}
	one := apitest.Start(t, kept, small)
	shared := func(o *app.Options) { o.PKIDir, o.Serving.CertDir = one.PKIDir, one.PKIDir }
	two := apitest.Start(t, kept, small, shared)
	servers := []*apitest.Server{one, two}

	const each = 25
	var mu sync.Mutex
	seen := map[string]string{}
	var wg sync.WaitGroup
	for i := range 2 * each {
		wg.Go(func() {
			s, err := servers[i%2].Client.CoreV1().Services("default").Create(t.Context(), nodePortService(fmt.Sprint("s", i), ""), metav1.CreateOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, key := range []string{s.Spec.ClusterIP, fmt.Sprint(s.Spec.Ports[0].NodePort)} {
				if other := seen[key]; other != "" {
					t.Errorf("%s was given to %s and %s", key, other, s.Name)
				}
				if key == "10.77.0.1" || key == "10.77.0.10" {
					t.Errorf("%s was drawn", key)
				}
				seen[key] = s.Name
			}
		})
	}
	wg.Wait()
	// One address, wanted by both at once: one gets it.
	var granted []string
	for i, server := range servers {
		wg.Go(func() {
			_, err := server.Client.CoreV1().Services("default").Create(t.Context(), nodePortService(fmt.Sprint("dns", i), "10.77.0.10"), metav1.CreateOptions{})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				granted = append(granted, fmt.Sprint("dns", i))
			} else if !apierrors.IsInvalid(err) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(granted) != 1 {
		t.Fatalf("10.77.0.10 was given to %v", granted)
	}
	// What one server gives back the other can give out.
	if err := one.Client.CoreV1().Services("default").Delete(t.Context(), granted[0], metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Client.CoreV1().Services("default").Create(t.Context(), nodePortService("again", "10.77.0.10"), metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	testPublished(t, two)
}

func nodePortService(name, ip string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: ip, Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

// testPublished looks at the ServiceCIDR and the address of the first Service.
func testPublished(t *testing.T, server *apitest.Server) {
	t.Helper()
	testkit.Eventually(t, "the service range", func() error {
		c, err := server.Client.NetworkingV1().ServiceCIDRs().Get(t.Context(), "kubernetes", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !slices.Equal(c.Spec.CIDRs, []string{"10.77.0.0/26"}) || !meta.IsStatusConditionTrue(c.Status.Conditions, "Ready") {
			return fmt.Errorf("%+v", c)
		}
		address, err := server.Client.NetworkingV1().IPAddresses().Get(t.Context(), "10.77.0.1", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if ref := address.Spec.ParentRef; ref == nil || ref.Namespace != "default" || ref.Name != "kubernetes" {
			return fmt.Errorf("%+v", address)
		}
		return nil
	})
}

package apitest_test

import (
	"net"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skeg-dev/skeg/apiserver/apitest"
	"github.com/skeg-dev/skeg/apiserver/etcdserver"
	"github.com/skeg-dev/skeg/internal/pki"
	"github.com/skeg-dev/skeg/internal/testkit"
)

// certificates writes an authority and a pair that serves and is a client.
func certificates(t *testing.T) etcdserver.TLSFiles {
	t.Helper()
	dir := t.TempDir()
	files := etcdserver.TLSFiles{CertFile: filepath.Join(dir, "etcd.crt"), KeyFile: filepath.Join(dir, "etcd.key"), CAFile: filepath.Join(dir, "ca.crt")}
	ca, err := pki.NewCA("etcd")
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Save(files.CAFile, filepath.Join(dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(pki.Request{CommonName: "etcd", IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true, Client: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := pair.Save(files.CertFile, files.KeyFile); err != nil {
		t.Fatal(err)
	}
	return files
}

// TestExternalEtcdRestarts: with an etcd behind TLS, a watch that began before
// etcd's restart delivers what is written after it.
func TestExternalEtcdRestarts(t *testing.T) {
	kept, restart := external(t, certificates(t), "https")
	client := apitest.Start(t, kept).Client.CoreV1().ConfigMaps("default")
	stream, err := client.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Stop()
	create := func(name string) {
		t.Helper()
		testkit.Eventually(t, "a write", func() error {
			_, err := client.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				return nil // an attempt without an answer was stored
			}
			return err
		})
	}
	create("before")
	awaitAdded(t, stream, "before")
	restart()
	create("after")
	awaitAdded(t, stream, "after")
	if _, err := client.Get(t.Context(), "before", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

func awaitAdded(t *testing.T, stream watch.Interface, name string) {
	t.Helper()
	for ev := range stream.ResultChan() {
		switch obj := ev.Object.(type) {
		case *corev1.ConfigMap:
			if ev.Type == watch.Added && obj.Name == name {
				return
			}
		default:
			t.Fatalf("%s: %+v", ev.Type, ev.Object)
		}
	}
	t.Fatalf("the watch ended before %s came", name)
}

package watch

import (
	"context"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skeg-dev/skeg/internal/testkit"
)

func sliceOf(name, service string, addrs ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, a := range addrs {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return s
}

// run follows a client until the test ends, and takes the first marks.
func run(t *testing.T, client *fake.Clientset) *Watch {
	t.Helper()
	w, err := New(client, "n1")
	if err != nil {
		t.Fatal(err)
	}
	if w.Ready() == nil {
		t.Error("ready before Run")
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	testkit.Eventually(t, "informers to sync", w.Ready)
	<-w.Changed()
	if _, all := w.Take(); !all {
		t.Error("the first marks are not all")
	}
	return w
}

// marked waits until these and no other Services are marked.
func (w *Watch) marked(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	testkit.Eventually(t, fmt.Sprintf("marks on %v", want), func() error {
		dirty, all := w.Take()
		if all {
			got = append(got, "all")
		}
		for key := range dirty {
			got = append(got, key)
		}
		slices.Sort(got)
		got = slices.Compact(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
}

func TestChangesMarkTheirService(t *testing.T) {
	node := testkit.Node("n1", "1", "1Gi", 10)
	client := fake.NewClientset(testkit.Service("ns", "a", "10.96.0.1", 80, 80), testkit.Service("ns", "b", "10.96.0.2", 80, 80), node)
	w := run(t, client)
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	slices := client.DiscoveryV1().EndpointSlices("ns")
	must(slices.Create(ctx, sliceOf("a-1", "a", "10.1.0.1"), metav1.CreateOptions{}))
	w.marked(t, "ns/a")
	must(slices.Update(ctx, sliceOf("a-1", "b", "10.1.0.1"), metav1.UpdateOptions{})) // from one to the other
	w.marked(t, "ns/a", "ns/b")
	must(nil, slices.Delete(ctx, "a-1", metav1.DeleteOptions{}))
	w.marked(t, "ns/b")
	must(nil, client.CoreV1().Services("ns").Delete(ctx, "a", metav1.DeleteOptions{}))
	w.marked(t, "ns/a")
	if w.Service("ns/a") != nil || w.Service("ns/b") == nil || len(w.Services()) != 1 {
		t.Error("the Services are not those that are left")
	}
	moved := node.DeepCopy()
	moved.Labels[corev1.LabelTopologyZone] = "z"
	must(client.CoreV1().Nodes().Update(ctx, moved, metav1.UpdateOptions{}))
	w.marked(t, "all")
	if w.Zone() != "z" {
		t.Errorf("zone %q", w.Zone())
	}
}

func TestIndexes(t *testing.T) {
	headless := testkit.Service("ns", "headless", corev1.ClusterIPNone, 80, 80)
	client := fake.NewClientset(testkit.Service("ns", "a", "10.96.0.1", 80, 80), headless,
		sliceOf("a-1", "a", "10.1.0.1", "10.1.0.2"), sliceOf("a-2", "a", "10.1.0.3"), sliceOf("none", "", "10.1.0.1"))
	w := run(t, client)
	if got := w.ServicesAt("10.96.0.1"); len(got) != 1 || got[0].Name != "a" {
		t.Errorf("Services at the address: %v", got)
	}
	if got := w.ServicesAt(corev1.ClusterIPNone); len(got) != 0 {
		t.Errorf("headless Services have no address: %v", got)
	}
	if got := w.Slices("ns/a"); len(got) != 2 {
		t.Errorf("%d slices of the Service", len(got))
	}
	if got := w.SlicesAt("10.1.0.1"); len(got) != 2 {
		t.Errorf("%d slices with the endpoint", len(got))
	}
}

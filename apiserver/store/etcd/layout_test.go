package etcd_test

import (
	"bytes"
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"github.com/skeg-dev/skeg/apiserver/etcdserver/etcdtest"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store/etcd"
)

// TestLayoutIsUpstreams writes objects and reads etcd as upstream's tools do:
// the keys are theirs, and apimachinery's own protobuf serializer decodes the
// values to what was written.
func TestLayoutIsUpstreams(t *testing.T) {
	client := etcdtest.Start(t, false).Client()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	serializer := protobuf.NewSerializer(scheme, scheme)
	meta := func(namespace, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "u-1", Labels: map[string]string{"a": "b"}}
	}
	tests := []struct {
		prefix, key, golden, kind string
		obj                       resource.Object
	}{
		{"pods", "ns/p", "/registry/pods/ns/p", "Pod", &corev1.Pod{ObjectMeta: meta("ns", "p"), Spec: corev1.PodSpec{NodeName: "n"}}},
		{"services/specs", "ns/s", "/registry/services/specs/ns/s", "Service", &corev1.Service{ObjectMeta: meta("ns", "s"), Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1"}}},
		{"minions", "n", "/registry/minions/n", "Node", &corev1.Node{ObjectMeta: meta("", "n"), Spec: corev1.NodeSpec{PodCIDR: "10.1.0.0/24"}}},
		{"events", "ns/e", "/registry/events/ns/e", "Event", &corev1.Event{ObjectMeta: meta("ns", "e"), Reason: "Started"}},
		{"ranges", "servicenodeports", "/registry/ranges/servicenodeports", "RangeAllocation", &corev1.RangeAllocation{Range: "30000-32767", Data: []byte{1}}},
	}
	var golden []string
	for _, test := range tests {
		golden = append(golden, test.golden)
		empty := func() runtime.Object {
			out, err := scheme.New(corev1.SchemeGroupVersion.WithKind(test.kind))
			if err != nil {
				t.Error(err)
			}
			return out
		}
		s, err := etcd.New(etcd.Config{Client: client, StorePrefix: test.prefix, New: empty})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Create(t.Context(), test.key, test.obj); err != nil {
			t.Fatal(err)
		}
		got, err := client.Get(t.Context(), test.golden)
		if err != nil || len(got.Kvs) != 1 {
			t.Fatalf("%s: %v, %v", test.golden, got, err)
		}
		value := got.Kvs[0].Value
		if !bytes.HasPrefix(value, []byte("k8s\x00")) {
			t.Errorf("%s: value begins with %q", test.golden, value[:4])
		}
		decoded, gvk, err := serializer.Decode(value, nil, nil)
		if err != nil || *gvk != corev1.SchemeGroupVersion.WithKind(test.kind) {
			t.Fatalf("%s: decode: %v, %v", test.golden, gvk, err)
		}
		object, ok := decoded.(resource.Object)
		if !ok || object.GetResourceVersion() != "" {
			t.Fatalf("%s: %T with a resource version", test.golden, decoded)
		}
		decoded.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
		if !equality.Semantic.DeepEqual(decoded, test.obj) {
			t.Errorf("%s: %+v is not what was written", test.golden, decoded)
		}
	}
	all, err := client.Get(t.Context(), "/registry/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, kv := range all.Kvs {
		keys = append(keys, string(kv.Key))
	}
	slices.Sort(golden)
	if !slices.Equal(keys, golden) {
		t.Errorf("keys %v, want %v", keys, golden)
	}
}

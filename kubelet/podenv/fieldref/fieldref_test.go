package fieldref_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/kubelet/podenv/fieldref"
)

func TestMetadata(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "web", Namespace: "shop", UID: "u-1",
		Labels:      map[string]string{"b": "2", "a": `say "x"`},
		Annotations: map[string]string{"example.com/note": "line\nbreak"},
	}}
	for path, want := range map[string]string{
		"metadata.name":      "web",
		"metadata.namespace": "shop",
		"metadata.uid":       "u-1",
		"metadata.labels":    "a=\"say \\\"x\\\"\"\nb=\"2\"",
		"metadata.annotations['example.com/note']": "line\nbreak",
		"metadata.labels['none']":                  "",
	} {
		if got, err := fieldref.Metadata(pod, path); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"spec.x", "metadata.name['x']", ""} {
		if _, err := fieldref.Metadata(pod, path); err == nil {
			t.Errorf("%q was accepted", path)
		}
	}
}

func TestResource(t *testing.T) {
	c := &corev1.Container{Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m")},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
	}}
	node := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("1Gi")}
	for _, test := range []struct{ name, divisor, want string }{
		{"requests.cpu", "", "1"},
		{"requests.cpu", "1m", "250"},
		{"requests.memory", "1Mi", "64"},
		{"limits.cpu", "1", "4"},
		{"limits.memory", "", "67108864"},
		{"limits.memory", "1Ki", "65536"},
	} {
		var divisor resource.Quantity
		if test.divisor != "" {
			divisor = resource.MustParse(test.divisor)
		}
		if got, err := fieldref.Resource(c, test.name, divisor, node); err != nil || got != test.want {
			t.Errorf("%s/%s: %q, %v; want %q", test.name, test.divisor, got, err, test.want)
		}
	}
	if _, err := fieldref.Resource(c, "limits.bogus", resource.Quantity{}, node); err == nil {
		t.Error("limits.bogus was accepted")
	}
}

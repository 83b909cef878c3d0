// Package fieldref reads single facts of a Pod by name, as fieldRef and
// resourceFieldRef do in environment variables and downward API volumes. Pure
// functions; kubelet/podenv and kubelet/volume call them.
package fieldref

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Metadata returns the named field of the Pod's metadata: name, namespace,
// uid, labels and annotations whole (one quoted pair a line, sorted) or one of
// them by key.
func Metadata(pod *corev1.Pod, path string) (string, error) {
	if field, key, ok := subscript(path); ok {
		switch field {
		case "metadata.labels":
			return pod.Labels[key], nil
		case "metadata.annotations":
			return pod.Annotations[key], nil
		}
		return "", fmt.Errorf("field %q does not support a subscript", path)
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return formatMap(pod.Labels), nil
	case "metadata.annotations":
		return formatMap(pod.Annotations), nil
	}
	return "", fmt.Errorf("unsupported field path %q", path)
}

// subscript splits "metadata.labels['key']".
func subscript(path string) (field, key string, ok bool) {
	field, rest, found := strings.Cut(path, "['")
	if !found {
		return "", "", false
	}
	key, ok = strings.CutSuffix(rest, "']")
	return field, key, ok
}

func formatMap(m map[string]string) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	lines := make([]string, len(keys))
	for i, k := range keys {
		lines[i] = k + "=" + strconv.Quote(m[k])
	}
	return strings.Join(lines, "\n")
}

// Resource returns a request or limit of the container in multiples of the
// divisor, rounded up. A limit that is not set is what the node has to give.
func Resource(c *corev1.Container, name string, divisor resource.Quantity, allocatable corev1.ResourceList) (string, error) {
	kind, res, ok := strings.Cut(name, ".")
	if !ok || (kind != "limits" && kind != "requests") {
		return "", fmt.Errorf("unsupported resource %q", name)
	}
	resourceName := corev1.ResourceName(res)
	if !supported(resourceName) {
		return "", fmt.Errorf("unsupported resource %q", name)
	}
	var amount resource.Quantity
	if kind == "limits" {
		amount = limit(c, resourceName, allocatable)
	} else {
		amount = request(c, resourceName)
	}
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if resourceName == corev1.ResourceCPU {
		return ceil(amount.MilliValue(), divisor.MilliValue())
	}
	return ceil(amount.Value(), divisor.Value())
}

func supported(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return true
	}
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

func limit(c *corev1.Container, name corev1.ResourceName, allocatable corev1.ResourceList) resource.Quantity {
	if q, ok := c.Resources.Limits[name]; ok && !q.IsZero() {
		return q
	}
	return allocatable[name]
}

func request(c *corev1.Container, name corev1.ResourceName) resource.Quantity {
	if q, ok := c.Resources.Requests[name]; ok {
		return q
	}
	return c.Resources.Limits[name]
}

func ceil(amount, divisor int64) (string, error) {
	if divisor <= 0 {
		return "", fmt.Errorf("divisor %d is not positive", divisor)
	}
	return strconv.FormatInt(int64(math.Ceil(float64(amount)/float64(divisor))), 10), nil
}

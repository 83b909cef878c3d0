package core

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// ResourceQuota defines the kind.
func ResourceQuota() *resource.Definition {
	d := &resource.Definition{
		Kind:                     corev1.SchemeGroupVersion.WithKind("ResourceQuota"),
		Resource:                 "resourcequotas",
		ShortNames:               []string{"quota"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &corev1.ResourceQuota{} },
		NewList:                  func() runtime.Object { return &corev1.ResourceQuotaList{} },
		Validate:                 typed.Check(validateResourceQuota),
		ValidateUpdate:           typed.Check2(validateResourceQuotaUpdate),
		AllowUnconditionalUpdate: true,
		Columns: []column.Definition{
			column.Name(),
			column.Text("Request", "Request represents a minimum amount of cpu/memory that a container may consume."),
			column.Text("Limit", "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node."),
			column.Age(),
		},
		Row: typed.Row(resourceQuotaRow),
	}
	typed.Parts[*corev1.ResourceQuota, corev1.ResourceQuotaSpec, corev1.ResourceQuotaStatus]{
		Spec:   func(q *corev1.ResourceQuota) *corev1.ResourceQuotaSpec { return &q.Spec },
		Status: func(q *corev1.ResourceQuota) *corev1.ResourceQuotaStatus { return &q.Status },
	}.Apply(d)
	return d
}

func resourceQuotaRow(q *corev1.ResourceQuota, now metav1.Time) []any {
	var requests, limits []string
	for _, name := range sortedResources(q.Status.Hard) {
		used, hard := q.Status.Used[name], q.Status.Hard[name]
		text := fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String())
		if strings.HasPrefix(string(name), "limits") {
			limits = append(limits, text)
		} else {
			requests = append(requests, text)
		}
	}
	return []any{q.Name, strings.Join(requests, ", "), strings.Join(limits, ", "), column.Since(q.CreationTimestamp, now)}
}

func sortedResources(list corev1.ResourceList) []corev1.ResourceName {
	names := make([]corev1.ResourceName, 0, len(list))
	for name := range list {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

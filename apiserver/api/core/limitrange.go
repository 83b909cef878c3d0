package core

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// LimitRange defines the kind.
func LimitRange() *resource.Definition {
	return &resource.Definition{
		Kind:                     corev1.SchemeGroupVersion.WithKind("LimitRange"),
		Resource:                 "limitranges",
		ShortNames:               []string{"limits"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &corev1.LimitRange{} },
		NewList:                  func() runtime.Object { return &corev1.LimitRangeList{} },
		Default:                  typed.Do(defaultLimitRange),
		Validate:                 typed.Check(validateLimitRange),
		ValidateUpdate:           typed.CheckAgain(validateLimitRange),
		AllowUnconditionalUpdate: true,
		AllowCreateOnUpdate:      true,
		Columns:                  []column.Definition{column.Name(), column.CreatedAt()},
		Row: typed.Row(func(lr *corev1.LimitRange, _ metav1.Time) []any {
			return []any{lr.Name, column.Created(lr.CreationTimestamp)}
		}),
	}
}

// defaultLimitRange derives, for containers, what is left out from what is
// there: default from max, defaultRequest from default, else from min.
func defaultLimitRange(lr *corev1.LimitRange) {
	for i := range lr.Spec.Limits {
		item := &lr.Spec.Limits[i]
		if item.Type != corev1.LimitTypeContainer {
			continue
		}
		item.Default = fillResources(item.Default, item.Max)
		item.DefaultRequest = fillResources(item.DefaultRequest, item.Default)
		item.DefaultRequest = fillResources(item.DefaultRequest, item.Min)
	}
}

func fillResources(target, source corev1.ResourceList) corev1.ResourceList {
	if target == nil {
		target = corev1.ResourceList{}
	}
	for name, quantity := range source {
		if _, ok := target[name]; !ok {
			target[name] = quantity.DeepCopy()
		}
	}
	return target
}

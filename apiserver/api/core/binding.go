package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Binding defines the kind. It is only posted; its effect is that of
// pods/binding on the Pod of the same name.
func Binding() *resource.Definition {
	return &resource.Definition{
		Kind:       corev1.SchemeGroupVersion.WithKind("Binding"),
		Resource:   "bindings",
		Namespaced: true,
		New:        func() runtime.Object { return &corev1.Binding{} },
		Verbs:      []string{"create"},
		Validate:   typed.Check(validateBinding),
	}
}

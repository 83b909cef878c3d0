package core

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/podspec"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// PodTemplate defines the kind.
func PodTemplate() *resource.Definition {
	d := &resource.Definition{
		Kind:                     corev1.SchemeGroupVersion.WithKind("PodTemplate"),
		Resource:                 "podtemplates",
		Namespaced:               true,
		New:                      func() runtime.Object { return &corev1.PodTemplate{} },
		NewList:                  func() runtime.Object { return &corev1.PodTemplateList{} },
		Default:                  typed.Do(func(t *corev1.PodTemplate) { podspec.Default(&t.Template.Spec) }),
		Validate:                 typed.Check(validatePodTemplate),
		ValidateUpdate:           typed.CheckAgain(validatePodTemplate),
		AllowUnconditionalUpdate: true,
		Columns: []column.Definition{
			column.Name(),
			column.Text("Containers", "Names of each container in the template."),
			column.Text("Images", "Images referenced by each container in the template."),
			column.Text("Pod Labels", "The labels for the pod template."),
		},
		Row: typed.Row(func(t *corev1.PodTemplate, _ metav1.Time) []any {
			names, images := column.ContainerCells(t.Template.Spec.Containers)
			return []any{t.Name, names, images, labels.FormatLabels(t.Template.Labels)}
		}),
	}
	typed.Generation(d, func(t *corev1.PodTemplate) *corev1.PodTemplateSpec { return &t.Template })
	return d
}

func validatePodTemplate(t *corev1.PodTemplate) field.ErrorList {
	return podspec.ValidateTemplate(&t.Template, field.NewPath("template"))
}

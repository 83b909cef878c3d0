package node

import (
	nodev1 "k8s.io/api/node/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/podspec"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// RuntimeClass defines the kind.
func RuntimeClass() *resource.Definition {
	return &resource.Definition{
		Kind:     nodev1.SchemeGroupVersion.WithKind("RuntimeClass"),
		Resource: "runtimeclasses",
		New:      func() runtime.Object { return &nodev1.RuntimeClass{} },
		NewList:  func() runtime.Object { return &nodev1.RuntimeClassList{} },
		Validate: typed.Check(validateRuntimeClass),
		ValidateUpdate: typed.Check2(func(r, old *nodev1.RuntimeClass) field.ErrorList {
			return append(validateRuntimeClass(r), apivalidation.ValidateImmutableField(r.Handler, old.Handler, field.NewPath("handler"))...)
		}),
		Columns: []column.Definition{column.Name(), column.Text("Handler", nodev1.RuntimeClass{}.SwaggerDoc()["handler"]), column.Age()},
		Row: typed.Row(func(r *nodev1.RuntimeClass, now metav1.Time) []any {
			return []any{r.Name, r.Handler, column.Since(r.CreationTimestamp, now)}
		}),
	}
}

func validateRuntimeClass(r *nodev1.RuntimeClass) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsDNS1123Label(r.Handler) {
		errs = append(errs, field.Invalid(field.NewPath("handler"), r.Handler, msg))
	}
	if r.Overhead != nil {
		errs = append(errs, podspec.ValidateOverhead(r.Overhead.PodFixed, field.NewPath("overhead", "podFixed"))...)
	}
	if r.Scheduling != nil {
		path := field.NewPath("scheduling")
		errs = append(errs, metavalidation.ValidateLabels(r.Scheduling.NodeSelector, path.Child("nodeSelector"))...)
		errs = append(errs, podspec.ValidateTolerations(r.Scheduling.Tolerations, path.Child("tolerations"))...)
	}
	return errs
}

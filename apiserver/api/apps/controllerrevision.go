package apps

import (
	"bytes"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// ControllerRevision defines the kind.
func ControllerRevision() *resource.Definition {
	return &resource.Definition{
		Kind:                     appsv1.SchemeGroupVersion.WithKind("ControllerRevision"),
		Resource:                 "controllerrevisions",
		Namespaced:               true,
		New:                      func() runtime.Object { return &appsv1.ControllerRevision{} },
		NewList:                  func() runtime.Object { return &appsv1.ControllerRevisionList{} },
		Validate:                 typed.Check(validateControllerRevision),
		ValidateUpdate:           typed.Check2(validateControllerRevisionUpdate),
		AllowUnconditionalUpdate: true,
		Columns: []column.Definition{
			column.Name(),
			column.Text("Controller", "Controller of the object"),
			column.Number("Revision", appsv1.ControllerRevision{}.SwaggerDoc()["revision"]),
			column.Age(),
		},
		Row: typed.Row(func(r *appsv1.ControllerRevision, now metav1.Time) []any {
			return []any{r.Name, controllerCell(r), r.Revision, column.Since(r.CreationTimestamp, now)}
		}),
	}
}

func controllerCell(r *appsv1.ControllerRevision) string {
	owner := metav1.GetControllerOf(r)
	if owner == nil {
		return column.None
	}
	group, _, hasGroup := strings.Cut(owner.APIVersion, "/")
	kind := strings.ToLower(owner.Kind)
	if hasGroup {
		kind += "." + group
	}
	return kind + "/" + owner.Name
}

func validateControllerRevision(r *appsv1.ControllerRevision) field.ErrorList {
	errs := apivalidation.ValidateNonnegativeField(r.Revision, field.NewPath("revision"))
	if r.Data.Raw == nil && r.Data.Object == nil {
		errs = append(errs, field.Required(field.NewPath("data"), "data is mandatory"))
	}
	return errs
}

func validateControllerRevisionUpdate(r, old *appsv1.ControllerRevision) field.ErrorList {
	errs := validateControllerRevision(r)
	if !bytes.Equal(r.Data.Raw, old.Data.Raw) || !equality.Semantic.DeepEqual(r.Data.Object, old.Data.Object) {
		errs = append(errs, field.Invalid(field.NewPath("data"), "", "field is immutable"))
	}
	return errs
}

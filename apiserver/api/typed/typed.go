// Package typed lets the files of apiserver/api write their functions on
// concrete types: it adapts them to the runtime.Object signatures of
// resource.Definition, and knows the split between spec and status once for
// all kinds. Used by apiserver/api/<group> only; pure.
package typed

import (
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Do adapts a function that changes an object in place (Default, PrepareCreate).
func Do[T runtime.Object](f func(T)) func(runtime.Object) {
	return func(obj runtime.Object) { f(obj.(T)) }
}

// Do2 adapts a function that changes the first object by the second
// (PrepareUpdate, StatusUpdate.Prepare).
func Do2[T runtime.Object](f func(obj, old T)) func(obj, old runtime.Object) {
	return func(obj, old runtime.Object) { f(obj.(T), old.(T)) }
}

// Check adapts a Validate function.
func Check[T runtime.Object](f func(T) field.ErrorList) func(runtime.Object) field.ErrorList {
	return func(obj runtime.Object) field.ErrorList { return f(obj.(T)) }
}

// Check2 adapts a ValidateUpdate function.
func Check2[T runtime.Object](f func(obj, old T) field.ErrorList) func(obj, old runtime.Object) field.ErrorList {
	return func(obj, old runtime.Object) field.ErrorList { return f(obj.(T), old.(T)) }
}

// Row adapts a function that makes table cells.
func Row[T runtime.Object](f func(T, metav1.Time) []any) func(runtime.Object, metav1.Time) []any {
	return func(obj runtime.Object, now metav1.Time) []any { return f(obj.(T), now) }
}

// Fields adapts a function that lists field-selector values.
func Fields[T runtime.Object](f func(T) map[string]string) func(runtime.Object) map[string]string {
	return func(obj runtime.Object) map[string]string { return f(obj.(T)) }
}

// Value adapts the Value of a resource.Index.
func Value[T runtime.Object](f func(T) string) func(runtime.Object) string {
	return func(obj runtime.Object) string { return f(obj.(T)) }
}

// Warnings adapts a function that lists warnings; old is the zero T on create.
func Warnings[T runtime.Object](f func(obj, old T) []string) func(obj, old runtime.Object) []string {
	return func(obj, old runtime.Object) []string {
		previous, _ := old.(T)
		return f(obj.(T), previous)
	}
}

// Parts tells where a kind keeps its spec and its status.
type Parts[T resource.Object, Spec, Status any] struct {
	// Spec points into an object; required.
	Spec func(T) *Spec
	// Status points into an object; required.
	Status func(T) *Status
	// Generation says that metadata.generation counts the changes of the spec.
	Generation bool
	// KeepLabels says that a status update may not change labels.
	KeepLabels bool
}

// Apply sets the four functions of d that follow from the split. d.Status is
// made when it is nil.
func (p Parts[T, Spec, Status]) Apply(d *resource.Definition) {
	d.PrepareCreate = Do(p.prepareCreate)
	d.PrepareUpdate = Do2(p.prepareUpdate)
	if d.Status == nil {
		d.Status = &resource.StatusUpdate{}
	}
	d.Status.Prepare = Do2(p.prepareStatus)
}

func (p Parts[T, Spec, Status]) prepareCreate(obj T) {
	var empty Status
	*p.Status(obj) = empty
	if p.Generation {
		obj.SetGeneration(1)
	}
}

func (p Parts[T, Spec, Status]) prepareUpdate(obj, old T) {
	*p.Status(obj) = *p.Status(old)
	if p.Generation {
		BumpGeneration(obj, old, !equality.Semantic.DeepEqual(p.Spec(obj), p.Spec(old)))
	}
}

func (p Parts[T, Spec, Status]) prepareStatus(obj, old T) {
	*p.Spec(obj) = *p.Spec(old)
	obj.SetGeneration(old.GetGeneration())
	if p.KeepLabels {
		obj.SetLabels(old.GetLabels())
	}
}

// BumpGeneration carries metadata.generation over and counts it up when the
// wanted state changed. (A first deletion bumps it as well; the handler of
// deletes does that, since it alone sets deletionTimestamp.)
func BumpGeneration(obj, old resource.Object, changed bool) {
	generation := old.GetGeneration()
	if changed {
		generation++
	}
	obj.SetGeneration(generation)
}

// Generation makes PrepareCreate and PrepareUpdate for a kind without status
// whose generation counts changes of the part that wanted points to.
func Generation[T resource.Object, Part any](d *resource.Definition, wanted func(T) *Part) {
	d.PrepareCreate = Do(func(obj T) { obj.SetGeneration(1) })
	d.PrepareUpdate = Do2(func(obj, old T) {
		BumpGeneration(obj, old, !equality.Semantic.DeepEqual(wanted(obj), wanted(old)))
	})
}

// CheckAgain makes a ValidateUpdate that only repeats Validate.
func CheckAgain[T runtime.Object](f func(T) field.ErrorList) func(obj, old runtime.Object) field.ErrorList {
	return func(obj, _ runtime.Object) field.ErrorList { return f(obj.(T)) }
}

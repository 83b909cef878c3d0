// Package lifecycle decides what happens to an object's metadata when it is
// created, updated and deleted: names, identity, generation, deletion
// timestamps, finalizers, and the generic validation around a kind's own. All
// functions are pure but for the identity handed in; the handlers call them.
// It starts no goroutines.
package lifecycle

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Identity is what a new object gets from outside.
type Identity struct {
	UID types.UID
	Now metav1.Time
	// Suffix completes metadata.generateName.
	Suffix string
}

// maxGeneratedBase bounds the part of a generated name before its suffix of
// five characters, so that names stay within 63 (upstream's name generator).
const maxGeneratedBase = 58

// ValidateName is the definition's name check, or the default one.
func ValidateName(d *resource.Definition) validation.ValidateNameFunc {
	if d.ValidateName != nil {
		return d.ValidateName
	}
	return validation.NameIsDNSSubdomain
}

// Create prepares obj, already defaulted and admitted, for being stored, and
// validates it. The error is an Invalid Status.
func Create(d *resource.Definition, obj resource.Object, id Identity) error {
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetSelfLink("")
	obj.SetResourceVersion("")
	obj.SetUID(id.UID)
	obj.SetCreationTimestamp(id.Now)
	obj.SetGeneration(0)
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		base := obj.GetGenerateName()
		if len(base) > maxGeneratedBase {
			base = base[:maxGeneratedBase]
		}
		obj.SetName(base + id.Suffix)
	}
	// The name is known by now: labels of Jobs and Namespaces carry it.
	if d.PrepareCreate != nil {
		d.PrepareCreate(obj)
	}
	errs := validation.ValidateObjectMetaAccessor(obj, d.Namespaced, ValidateName(d), field.NewPath("metadata"))
	if d.Validate != nil {
		errs = append(errs, d.Validate(obj)...)
	}
	return Invalid(d.Kind.GroupKind(), obj.GetName(), errs)
}

// Invalid returns the Status for errs, or nil for none.
func Invalid(kind schema.GroupKind, name string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(kind, name, dedupe(errs))
}

// dedupe drops repeated errors: generic and kind-specific checks may both
// find the same fault.
func dedupe(errs field.ErrorList) field.ErrorList {
	seen := map[string]bool{}
	out := errs[:0:0]
	for _, e := range errs {
		if key := e.Error(); !seen[key] {
			seen[key] = true
			out = append(out, e)
		}
	}
	return out
}

// Changes is one way of updating a kind: the main resource, status or another
// subresource.
type Changes struct {
	Prepare  func(obj, old runtime.Object)
	Validate func(obj, old runtime.Object) field.ErrorList
}

// Update prepares obj, which replaces old, and validates it. resourceVersion
// was already compared. The error is an Invalid Status.
func Update(d *resource.Definition, c Changes, obj, old resource.Object) error {
	obj.SetGeneration(old.GetGeneration())
	if c.Prepare != nil {
		c.Prepare(obj, old)
	}
	if obj.GetUID() == "" {
		obj.SetUID(old.GetUID())
	}
	if created := old.GetCreationTimestamp(); obj.GetCreationTimestamp() == (metav1.Time{}) || !created.IsZero() {
		obj.SetCreationTimestamp(created)
	}
	obj.SetSelfLink("")
	obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
	obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	errs := validation.ValidateObjectMetaAccessor(obj, d.Namespaced, anyName, field.NewPath("metadata"))
	errs = append(errs, validation.ValidateObjectMetaAccessorUpdate(obj, old, field.NewPath("metadata"))...)
	if c.Validate != nil {
		errs = append(errs, c.Validate(obj, old)...)
	}
	return Invalid(d.Kind.GroupKind(), old.GetName(), errs)
}

// anyName accepts what is already stored: name rules that were tightened must
// not freeze old objects.
func anyName(string, bool) []string { return nil }

// MatchUID refuses obj as a replacement of old when it names another identity.
func MatchUID(gr schema.GroupResource, obj, old resource.Object) error {
	if obj.GetUID() != "" && obj.GetUID() != old.GetUID() {
		return apierrors.NewConflict(gr, old.GetName(), fmt.Errorf(
			"Precondition failed: UID in precondition: %v, UID in object meta: %v", obj.GetUID(), old.GetUID())) //nolint:staticcheck // upstream's text
	}
	return nil
}

package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// LocalSubjectAccessReview defines the kind.
func LocalSubjectAccessReview() *resource.Definition {
	return &resource.Definition{
		Kind:       authorizationv1.SchemeGroupVersion.WithKind("LocalSubjectAccessReview"),
		Resource:   "localsubjectaccessreviews",
		Namespaced: true,
		New:        func() runtime.Object { return &authorizationv1.LocalSubjectAccessReview{} },
		Verbs:      []string{"create"},
		Validate: typed.Check(func(r *authorizationv1.LocalSubjectAccessReview) field.ErrorList {
			errs := validateSubject(&r.Spec)
			asked := r.Spec.ResourceAttributes
			if asked != nil && asked.Namespace != r.Namespace {
				path := field.NewPath("spec", "resourceAttributes", "namespace")
				errs = append(errs, field.Invalid(path, asked.Namespace, "must match metadata.namespace"))
			}
			if r.Spec.NonResourceAttributes != nil {
				path := field.NewPath("spec", "nonResourceAttributes")
				errs = append(errs, field.Invalid(path, r.Spec.NonResourceAttributes, "disallowed on this kind of request"))
			}
			return errs
		}),
	}
}

package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// SelfSubjectAccessReview defines the kind.
func SelfSubjectAccessReview() *resource.Definition {
	return &resource.Definition{
		Kind:     authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview"),
		Resource: "selfsubjectaccessreviews",

		New:   func() runtime.Object { return &authorizationv1.SelfSubjectAccessReview{} },
		Verbs: []string{"create"},
		Validate: typed.Check(func(r *authorizationv1.SelfSubjectAccessReview) field.ErrorList {
			return exactlyOne(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
		}),
	}
}

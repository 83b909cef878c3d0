package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// SubjectAccessReview defines the kind.
func SubjectAccessReview() *resource.Definition {
	return &resource.Definition{
		Kind:     authorizationv1.SchemeGroupVersion.WithKind("SubjectAccessReview"),
		Resource: "subjectaccessreviews",

		New:   func() runtime.Object { return &authorizationv1.SubjectAccessReview{} },
		Verbs: []string{"create"},
		Validate: typed.Check(func(r *authorizationv1.SubjectAccessReview) field.ErrorList {
			return validateSubject(&r.Spec)
		}),
	}
}

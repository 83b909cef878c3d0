package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// SelfSubjectRulesReview defines the kind.
func SelfSubjectRulesReview() *resource.Definition {
	return &resource.Definition{
		Kind:     authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectRulesReview"),
		Resource: "selfsubjectrulesreviews",

		New:   func() runtime.Object { return &authorizationv1.SelfSubjectRulesReview{} },
		Verbs: []string{"create"},
		Validate: typed.Check(func(r *authorizationv1.SelfSubjectRulesReview) field.ErrorList {
			if r.Spec.Namespace == "" {
				return field.ErrorList{field.Required(field.NewPath("spec", "namespace"), "no namespace on request")}
			}
			return nil
		}),
	}
}

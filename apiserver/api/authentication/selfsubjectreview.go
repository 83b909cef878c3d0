package authentication

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skeg-dev/skeg/apiserver/resource"
)

// SelfSubjectReview defines the kind.
func SelfSubjectReview() *resource.Definition {
	return &resource.Definition{
		Kind:     authenticationv1.SchemeGroupVersion.WithKind("SelfSubjectReview"),
		Resource: "selfsubjectreviews",
		New:      func() runtime.Object { return &authenticationv1.SelfSubjectReview{} },
		Verbs:    []string{"create"},
	}
}

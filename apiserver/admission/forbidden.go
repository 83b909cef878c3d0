package admission

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Forbidden makes the answer with which a plugin refuses a write: a Status of
// code 403 that names the object and the cause.
func Forbidden(a *Attributes, cause error) *apierrors.StatusError {
	return apierrors.NewForbidden(a.Resource.GroupResource(), objectName(a), cause)
}

// objectName is the name a request is about; for a generated name, which is
// made only after admission, its base.
func objectName(a *Attributes) string {
	if a.Name != "" {
		return a.Name
	}
	obj, ok := a.Object.(metav1.Object)
	if !ok {
		return ""
	}
	if obj.GetName() != "" {
		return obj.GetName()
	}
	return obj.GetGenerateName()
}

// isResource reports whether the request is for the resource and subresource.
func isResource(a *Attributes, group, resource, subresource string) bool {
	return a.Resource.GroupResource() == schema.GroupResource{Group: group, Resource: resource} && a.Subresource == subresource
}

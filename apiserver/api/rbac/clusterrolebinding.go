package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// ClusterRoleBinding defines the kind.
func ClusterRoleBinding() *resource.Definition {
	validate := func(b *rbacv1.ClusterRoleBinding) field.ErrorList {
		return validateBinding(b.RoleRef, b.Subjects, false)
	}
	return &resource.Definition{
		Kind:     rbacv1.SchemeGroupVersion.WithKind("ClusterRoleBinding"),
		Resource: "clusterrolebindings",
		New:      func() runtime.Object { return &rbacv1.ClusterRoleBinding{} },
		NewList:  func() runtime.Object { return &rbacv1.ClusterRoleBindingList{} },
		Default:  typed.Do(func(b *rbacv1.ClusterRoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) }),
		Validate: typed.Check(validate),
		ValidateUpdate: typed.Check2(func(b, old *rbacv1.ClusterRoleBinding) field.ErrorList {
			return append(validate(b), sameRole(b.RoleRef, old.RoleRef)...)
		}),
		ValidateName:             pathSegmentName,
		AllowUnconditionalUpdate: true,
		AllowCreateOnUpdate:      true,
		Columns:                  bindingColumns(rbacv1.ClusterRoleBinding{}.SwaggerDoc()["roleRef"]),
		Row: typed.Row(func(b *rbacv1.ClusterRoleBinding, now metav1.Time) []any {
			return bindingRow(b.Name, b.RoleRef, b.Subjects, column.Since(b.CreationTimestamp, now))
		}),
	}
}

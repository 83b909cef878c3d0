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

// Role defines the kind.
func Role() *resource.Definition {
	validate := func(r *rbacv1.Role) field.ErrorList { return validateRules(r.Rules, true, field.NewPath("rules")) }
	return &resource.Definition{
		Kind:                     rbacv1.SchemeGroupVersion.WithKind("Role"),
		Resource:                 "roles",
		Namespaced:               true,
		New:                      func() runtime.Object { return &rbacv1.Role{} },
		NewList:                  func() runtime.Object { return &rbacv1.RoleList{} },
		Validate:                 typed.Check(validate),
		ValidateUpdate:           typed.CheckAgain(validate),
		ValidateName:             pathSegmentName,
		AllowUnconditionalUpdate: true,
		AllowCreateOnUpdate:      true,
		Columns:                  []column.Definition{column.Name(), column.CreatedAt()},
		Row: typed.Row(func(r *rbacv1.Role, _ metav1.Time) []any {
			return []any{r.Name, column.Created(r.CreationTimestamp)}
		}),
	}
}

package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// ClusterRole defines the kind.
func ClusterRole() *resource.Definition {
	return &resource.Definition{
		Kind:                     rbacv1.SchemeGroupVersion.WithKind("ClusterRole"),
		Resource:                 "clusterroles",
		New:                      func() runtime.Object { return &rbacv1.ClusterRole{} },
		NewList:                  func() runtime.Object { return &rbacv1.ClusterRoleList{} },
		Validate:                 typed.Check(validateClusterRole),
		ValidateUpdate:           typed.CheckAgain(validateClusterRole),
		ValidateName:             pathSegmentName,
		AllowUnconditionalUpdate: true,
		AllowCreateOnUpdate:      true,
		Columns:                  []column.Definition{column.Name(), column.CreatedAt()},
		Row: typed.Row(func(r *rbacv1.ClusterRole, _ metav1.Time) []any {
			return []any{r.Name, column.Created(r.CreationTimestamp)}
		}),
	}
}

func validateClusterRole(r *rbacv1.ClusterRole) field.ErrorList {
	errs := validateRules(r.Rules, false, field.NewPath("rules"))
	if r.AggregationRule == nil {
		return errs
	}
	path := field.NewPath("aggregationRule", "clusterRoleSelectors")
	if len(r.AggregationRule.ClusterRoleSelectors) == 0 {
		errs = append(errs, field.Required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
	}
	for i := range r.AggregationRule.ClusterRoleSelectors {
		selector := &r.AggregationRule.ClusterRoleSelectors[i]
		errs = append(errs, metavalidation.ValidateLabelSelector(selector, metavalidation.LabelSelectorValidationOptions{}, path.Index(i))...)
	}
	return errs
}

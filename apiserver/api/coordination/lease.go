package coordination

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Lease defines the kind.
func Lease() *resource.Definition {
	return &resource.Definition{
		Kind:                coordinationv1.SchemeGroupVersion.WithKind("Lease"),
		Resource:            "leases",
		Namespaced:          true,
		New:                 func() runtime.Object { return &coordinationv1.Lease{} },
		NewList:             func() runtime.Object { return &coordinationv1.LeaseList{} },
		Validate:            typed.Check(validateLease),
		ValidateUpdate:      typed.CheckAgain(validateLease),
		AllowCreateOnUpdate: true,
		Fields: typed.Fields(func(l *coordinationv1.Lease) map[string]string {
			return map[string]string{"spec.holderIdentity": ptr.Deref(l.Spec.HolderIdentity, "")}
		}),
		Columns: []column.Definition{
			column.Name(),
			column.Text("Holder", coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"]),
			column.Age(),
		},
		Row: typed.Row(func(l *coordinationv1.Lease, now metav1.Time) []any {
			return []any{l.Name, ptr.Deref(l.Spec.HolderIdentity, ""), column.Since(l.CreationTimestamp, now)}
		}),
	}
}

func validateLease(l *coordinationv1.Lease) field.ErrorList {
	var errs field.ErrorList
	spec := field.NewPath("spec")
	if seconds := l.Spec.LeaseDurationSeconds; seconds != nil && *seconds <= 0 {
		errs = append(errs, field.Invalid(spec.Child("leaseDurationSeconds"), *seconds, "must be greater than 0"))
	}
	if transitions := l.Spec.LeaseTransitions; transitions != nil && *transitions < 0 {
		errs = append(errs, field.Invalid(spec.Child("leaseTransitions"), *transitions, apivalidation.IsNegativeErrorMsg))
	}
	if l.Spec.PreferredHolder != nil && ptr.Deref(l.Spec.Strategy, "") == "" {
		errs = append(errs, field.Forbidden(spec.Child("preferredHolder"), "may only be specified if `strategy` is defined"))
	}
	return errs
}

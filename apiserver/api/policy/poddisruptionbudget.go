package policy

import (
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/podspec"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// PodDisruptionBudget defines the kind.
func PodDisruptionBudget() *resource.Definition {
	d := &resource.Definition{
		Kind:           policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"),
		Resource:       "poddisruptionbudgets",
		ShortNames:     []string{"pdb"},
		Namespaced:     true,
		New:            func() runtime.Object { return &policyv1.PodDisruptionBudget{} },
		NewList:        func() runtime.Object { return &policyv1.PodDisruptionBudgetList{} },
		Validate:       typed.Check(validateBudget),
		ValidateUpdate: typed.CheckAgain(validateBudget),
		Columns: []column.Definition{
			column.Name(),
			column.Text("Min Available", "The minimum number of pods that must be available."),
			column.Text("Max Unavailable", "The maximum number of pods that may be unavailable."),
			column.Number("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."),
			column.Age(),
		},
		Row: typed.Row(func(b *policyv1.PodDisruptionBudget, now metav1.Time) []any {
			return []any{
				b.Name, orNotApplicable(b.Spec.MinAvailable), orNotApplicable(b.Spec.MaxUnavailable),
				int64(b.Status.DisruptionsAllowed), column.Since(b.CreationTimestamp, now),
			}
		}),
	}
	typed.Parts[*policyv1.PodDisruptionBudget, policyv1.PodDisruptionBudgetSpec, policyv1.PodDisruptionBudgetStatus]{
		Spec:       func(b *policyv1.PodDisruptionBudget) *policyv1.PodDisruptionBudgetSpec { return &b.Spec },
		Status:     func(b *policyv1.PodDisruptionBudget) *policyv1.PodDisruptionBudgetStatus { return &b.Status },
		Generation: true,
	}.Apply(d)
	return d
}

func orNotApplicable(value *intstr.IntOrString) string {
	if value == nil {
		return "N/A"
	}
	return value.String()
}

func validateBudget(b *policyv1.PodDisruptionBudget) field.ErrorList {
	var errs field.ErrorList
	spec := field.NewPath("spec")
	if b.Spec.MinAvailable != nil && b.Spec.MaxUnavailable != nil {
		errs = append(errs, field.Invalid(spec, b.Spec, "minAvailable and maxUnavailable cannot be both set"))
	}
	if value := b.Spec.MinAvailable; value != nil {
		errs = append(errs, podspec.ValidateIntOrPercent(*value, spec.Child("minAvailable"))...)
	}
	if value := b.Spec.MaxUnavailable; value != nil {
		errs = append(errs, podspec.ValidateIntOrPercent(*value, spec.Child("maxUnavailable"))...)
	}
	errs = append(errs, metavalidation.ValidateLabelSelector(b.Spec.Selector, metavalidation.LabelSelectorValidationOptions{}, spec.Child("selector"))...)
	if policy := b.Spec.UnhealthyPodEvictionPolicy; policy != nil && *policy != policyv1.IfHealthyBudget && *policy != policyv1.AlwaysAllow {
		known := []policyv1.UnhealthyPodEvictionPolicyType{policyv1.AlwaysAllow, policyv1.IfHealthyBudget}
		errs = append(errs, field.NotSupported(spec.Child("unhealthyPodEvictionPolicy"), *policy, known))
	}
	return errs
}

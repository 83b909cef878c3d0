package apps

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	corev1 "k8s.io/api/core/v1"

	"github.com/skeg-dev/skeg/apiserver/podspec"
)

// validateSelected checks a selector and the template whose Pods it must
// select, which restart for ever.
func validateSelected(selector *metav1.LabelSelector, template *corev1.PodTemplateSpec, spec *field.Path, kind string) field.ErrorList {
	var errs field.ErrorList
	at := spec.Child("selector")
	if selector == nil {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, metavalidation.ValidateLabelSelector(selector, metavalidation.LabelSelectorValidationOptions{}, at)...)
		if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
			errs = append(errs, field.Invalid(at, selector, "empty selector is invalid for "+kind))
		}
	}
	path := spec.Child("template")
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	switch {
	case err != nil:
		errs = append(errs, field.Invalid(at, selector, "invalid label selector"))
	case !parsed.Empty() && !parsed.Matches(labels.Set(template.Labels)):
		errs = append(errs, field.Invalid(path.Child("metadata", "labels"), template.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, podspec.ValidateTemplate(template, path)...)
	return append(errs, podspec.RunsForEver(&template.Spec, path.Child("spec"))...)
}

package autoscaling

import (
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// Bounds of the API reference.
const (
	maxPeriodSeconds = 1800
	maxWindowSeconds = 3600
)

func validateAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateReplicas(h, spec)
	errs = append(errs, validateReference(&h.Spec.ScaleTargetRef, spec.Child("scaleTargetRef"))...)
	for i := range h.Spec.Metrics {
		errs = append(errs, validateMetric(&h.Spec.Metrics[i], spec.Child("metrics").Index(i))...)
	}
	if b := h.Spec.Behavior; b != nil {
		errs = append(errs, validateRules(b.ScaleUp, spec.Child("behavior", "scaleUp"))...)
		errs = append(errs, validateRules(b.ScaleDown, spec.Child("behavior", "scaleDown"))...)
	}
	return errs
}

func validateReplicas(h *autoscalingv2.HorizontalPodAutoscaler, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	least := ptr.Deref(h.Spec.MinReplicas, 1)
	if least < 0 {
		errs = append(errs, field.Invalid(spec.Child("minReplicas"), least, "must be greater than or equal to 0"))
	}
	if h.Spec.MaxReplicas < 1 {
		errs = append(errs, field.Invalid(spec.Child("maxReplicas"), h.Spec.MaxReplicas, "must be greater than 0"))
	}
	if h.Spec.MaxReplicas < least {
		errs = append(errs, field.Invalid(spec.Child("maxReplicas"), h.Spec.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	if least == 0 && !scalesFromZero(h) {
		errs = append(errs, field.Forbidden(spec.Child("metrics"), "must specify at least one Object or External metric to support scaling to zero replicas"))
	}
	return errs
}

// scalesFromZero: only such metrics have a value while there are no Pods.
func scalesFromZero(h *autoscalingv2.HorizontalPodAutoscaler) bool {
	for _, m := range h.Spec.Metrics {
		if m.Type == autoscalingv2.ObjectMetricSourceType || m.Type == autoscalingv2.ExternalMetricSourceType {
			return true
		}
	}
	return false
}

func validateReference(r *autoscalingv2.CrossVersionObjectReference, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.Kind == "" {
		errs = append(errs, field.Required(path.Child("kind"), ""))
	}
	if r.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	return errs
}

func validateMetric(m *autoscalingv2.MetricSpec, path *field.Path) field.ErrorList {
	missing := func(child string) field.ErrorList {
		return field.ErrorList{field.Required(path.Child(child), fmt.Sprintf("must populate information for the given metric source of type %s", m.Type))}
	}
	switch m.Type {
	case autoscalingv2.ResourceMetricSourceType:
		if m.Resource == nil {
			return missing("resource")
		}
		return validateResource(string(m.Resource.Name), &m.Resource.Target, path.Child("resource"))
	case autoscalingv2.ContainerResourceMetricSourceType:
		if m.ContainerResource == nil {
			return missing("containerResource")
		}
		at := path.Child("containerResource")
		errs := validateResource(string(m.ContainerResource.Name), &m.ContainerResource.Target, at)
		if m.ContainerResource.Container == "" {
			errs = append(errs, field.Required(at.Child("container"), "must specify a container"))
		}
		return errs
	case autoscalingv2.PodsMetricSourceType:
		if m.Pods == nil {
			return missing("pods")
		}
		return validatePods(m.Pods, path.Child("pods"))
	case autoscalingv2.ObjectMetricSourceType:
		if m.Object == nil {
			return missing("object")
		}
		at := path.Child("object")
		errs := validateReference(&m.Object.DescribedObject, at.Child("describedObject"))
		errs = append(errs, validateIdentifier(&m.Object.Metric, at.Child("metric"))...)
		return append(errs, validateTarget(&m.Object.Target, at.Child("target"), false)...)
	case autoscalingv2.ExternalMetricSourceType:
		if m.External == nil {
			return missing("external")
		}
		at := path.Child("external")
		errs := validateIdentifier(&m.External.Metric, at.Child("metric"))
		return append(errs, validateTarget(&m.External.Target, at.Child("target"), false)...)
	}
	known := []autoscalingv2.MetricSourceType{
		autoscalingv2.ContainerResourceMetricSourceType, autoscalingv2.ExternalMetricSourceType, autoscalingv2.ObjectMetricSourceType,
		autoscalingv2.PodsMetricSourceType, autoscalingv2.ResourceMetricSourceType,
	}
	return field.ErrorList{field.NotSupported(path.Child("type"), m.Type, known)}
}

func validateResource(name string, target *autoscalingv2.MetricTarget, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name == "" {
		errs = append(errs, field.Required(path.Child("name"), "must specify a resource name"))
	}
	if target.Type == autoscalingv2.ValueMetricType {
		errs = append(errs, field.Invalid(path.Child("target", "type"), target.Type, "must be Utilization or AverageValue"))
	}
	return append(errs, validateTarget(target, path.Child("target"), true)...)
}

func validatePods(m *autoscalingv2.PodsMetricSource, path *field.Path) field.ErrorList {
	errs := validateIdentifier(&m.Metric, path.Child("metric"))
	if m.Target.AverageValue == nil || m.Target.AverageValue.Sign() != 1 {
		errs = append(errs, field.Required(path.Child("target", "averageValue"), "must specify a positive target averageValue"))
	}
	return errs
}

func validateIdentifier(m *autoscalingv2.MetricIdentifier, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if m.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), "must specify a metric name"))
	}
	if m.Selector != nil {
		errs = append(errs, metavalidation.ValidateLabelSelector(m.Selector, metavalidation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	}
	return errs
}

// validateTarget checks that what the type needs, and only that, is there.
func validateTarget(t *autoscalingv2.MetricTarget, path *field.Path, utilization bool) field.ErrorList {
	var errs field.ErrorList
	switch t.Type {
	case autoscalingv2.UtilizationMetricType, autoscalingv2.ValueMetricType, autoscalingv2.AverageValueMetricType:
	case "":
		errs = append(errs, field.Required(path.Child("type"), "must specify a metric target type"))
	default:
		errs = append(errs, field.Invalid(path.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue"))
	}
	if t.Value != nil && t.Value.Sign() != 1 {
		errs = append(errs, field.Invalid(path.Child("value"), t.Value.String(), "must be positive"))
	}
	if t.AverageValue != nil && t.AverageValue.Sign() != 1 {
		errs = append(errs, field.Invalid(path.Child("averageValue"), t.AverageValue.String(), "must be positive"))
	}
	if t.AverageUtilization != nil && *t.AverageUtilization < 1 {
		errs = append(errs, field.Invalid(path.Child("averageUtilization"), *t.AverageUtilization, "must be greater than 0"))
	}
	switch {
	case utilization && t.AverageUtilization != nil && t.AverageValue != nil:
		errs = append(errs, field.Forbidden(path.Child("averageValue"), "may not set both a target raw value and a target utilization"))
	case utilization && t.AverageUtilization == nil && t.AverageValue == nil:
		errs = append(errs, field.Required(path.Child("averageUtilization"), "must set either a target raw value or a target utilization"))
	case !utilization && t.Value != nil && t.AverageValue != nil:
		errs = append(errs, field.Forbidden(path.Child("value"), "may not set both a target value and a target average value"))
	case !utilization && t.Value == nil && t.AverageValue == nil:
		errs = append(errs, field.Required(path.Child("averageValue"), "must set either a target value for metric or a per-pod target"))
	}
	return errs
}

func validateRules(r *autoscalingv2.HPAScalingRules, path *field.Path) field.ErrorList {
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	if w := ptr.Deref(r.StabilizationWindowSeconds, 0); w < 0 {
		errs = append(errs, field.Invalid(path.Child("stabilizationWindowSeconds"), w, "must be greater than or equal to zero"))
	} else if w > maxWindowSeconds {
		errs = append(errs, field.Invalid(path.Child("stabilizationWindowSeconds"), w, fmt.Sprintf("must be less than or equal to %d", maxWindowSeconds)))
	}
	switch policy := ptr.Deref(r.SelectPolicy, autoscalingv2.MaxChangePolicySelect); policy {
	case autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect:
	default:
		known := []autoscalingv2.ScalingPolicySelect{autoscalingv2.DisabledPolicySelect, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect}
		errs = append(errs, field.NotSupported(path.Child("selectPolicy"), policy, known))
	}
	if len(r.Policies) == 0 {
		errs = append(errs, field.Required(path.Child("policies"), "must specify at least one Policy"))
	}
	if r.Tolerance != nil && r.Tolerance.Sign() < 0 {
		errs = append(errs, field.Invalid(path.Child("tolerance"), r.Tolerance.String(), "must be greater than or equal to zero"))
	}
	for i, policy := range r.Policies {
		errs = append(errs, validatePolicy(policy, path.Child("policies").Index(i))...)
	}
	return errs
}

func validatePolicy(p autoscalingv2.HPAScalingPolicy, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.Type != autoscalingv2.PodsScalingPolicy && p.Type != autoscalingv2.PercentScalingPolicy {
		errs = append(errs, field.NotSupported(path.Child("type"), p.Type, []autoscalingv2.HPAScalingPolicyType{autoscalingv2.PercentScalingPolicy, autoscalingv2.PodsScalingPolicy}))
	}
	if p.Value <= 0 {
		errs = append(errs, field.Invalid(path.Child("value"), p.Value, "must be greater than zero"))
	}
	if p.PeriodSeconds <= 0 {
		errs = append(errs, field.Invalid(path.Child("periodSeconds"), p.PeriodSeconds, "must be greater than zero"))
	}
	if p.PeriodSeconds > maxPeriodSeconds {
		errs = append(errs, field.Invalid(path.Child("periodSeconds"), p.PeriodSeconds, fmt.Sprintf("must be less than or equal to %d", maxPeriodSeconds)))
	}
	return errs
}

package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/podspec"
)

func validateLimitRange(lr *corev1.LimitRange) field.ErrorList {
	var errs field.ErrorList
	seen := map[corev1.LimitType]bool{}
	for i := range lr.Spec.Limits {
		item, path := &lr.Spec.Limits[i], field.NewPath("spec", "limits").Index(i)
		for _, msg := range validation.IsQualifiedName(string(item.Type)) {
			errs = append(errs, field.Invalid(path.Child("type"), item.Type, msg))
		}
		if seen[item.Type] {
			errs = append(errs, field.Duplicate(path.Child("type"), item.Type))
		}
		seen[item.Type] = true
		errs = append(errs, validateLimitItem(item, path)...)
	}
	return errs
}

func validateLimitItem(item *corev1.LimitRangeItem, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	lists := []struct {
		name string
		list corev1.ResourceList
	}{{"max", item.Max}, {"min", item.Min}, {"default", item.Default}, {"defaultRequest", item.DefaultRequest}, {"maxLimitRequestRatio", item.MaxLimitRequestRatio}}
	for _, l := range lists {
		for name := range l.list {
			errs = append(errs, podspec.ValidateResourceName(name, path.Child(l.name).Key(string(name)))...)
		}
	}
	if item.Type == corev1.LimitTypePod {
		if len(item.Default) > 0 {
			errs = append(errs, field.Forbidden(path.Child("default"), "may not be specified when `type` is 'Pod'"))
		}
		if len(item.DefaultRequest) > 0 {
			errs = append(errs, field.Forbidden(path.Child("defaultRequest"), "may not be specified when `type` is 'Pod'"))
		}
	}
	if item.Type == corev1.LimitTypePersistentVolumeClaim {
		_, low := item.Min[corev1.ResourceStorage]
		_, high := item.Max[corev1.ResourceStorage]
		if !low && !high {
			errs = append(errs, field.Required(path.Child("limits"), "either minimum or maximum storage value is required, but neither was provided"))
		}
	}
	order := []struct {
		lowName, highName string
		low, high         corev1.ResourceList
	}{
		{"min", "max", item.Min, item.Max},
		{"min", "defaultRequest", item.Min, item.DefaultRequest},
		{"defaultRequest", "max", item.DefaultRequest, item.Max},
		{"defaultRequest", "default", item.DefaultRequest, item.Default},
		{"min", "default", item.Min, item.Default},
		{"default", "max", item.Default, item.Max},
	}
	for _, o := range order {
		errs = append(errs, notAbove(o.lowName, o.highName, o.low, o.high, path)...)
	}
	return append(errs, validateRatio(item, path.Child("maxLimitRequestRatio"))...)
}

func notAbove(lowName, highName string, low, high corev1.ResourceList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for name, lower := range low {
		if upper, ok := high[name]; ok && lower.Cmp(upper) > 0 {
			at, detail := path.Child(lowName).Key(string(name)), fmt.Sprintf("%s value %s is greater than %s value %s", lowName, lower.String(), highName, upper.String())
			errs = append(errs, field.Invalid(at, lower.String(), detail))
		}
	}
	return errs
}

func validateRatio(item *corev1.LimitRangeItem, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for name, ratio := range item.MaxLimitRequestRatio {
		at := path.Key(string(name))
		if ratio.MilliValue() < 1000 {
			errs = append(errs, field.Invalid(at, ratio.String(), fmt.Sprintf("ratio %s is less than 1", ratio.String())))
		}
		low, hasLow := item.Min[name]
		high, hasHigh := item.Max[name]
		if hasLow && hasHigh && low.Sign() > 0 && ratio.AsApproximateFloat64() > high.AsApproximateFloat64()/low.AsApproximateFloat64() {
			errs = append(errs, field.Invalid(at, ratio.String(), fmt.Sprintf("ratio %s is greater than max/min = %f", ratio.String(), high.AsApproximateFloat64()/low.AsApproximateFloat64())))
		}
	}
	return errs
}

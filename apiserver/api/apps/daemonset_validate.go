package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/podspec"
)

func validateDaemonSet(ds *appsv1.DaemonSet) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateSelected(ds.Spec.Selector, &ds.Spec.Template, spec, "daemonset")
	errs = append(errs, notNegative(ds.Spec.MinReadySeconds, spec.Child("minReadySeconds"))...)
	if limit := ds.Spec.RevisionHistoryLimit; limit != nil {
		errs = append(errs, notNegative(*limit, spec.Child("revisionHistoryLimit"))...)
	}
	return append(errs, validateDaemonStrategy(&ds.Spec.UpdateStrategy, spec.Child("updateStrategy"))...)
}

func validateDaemonStrategy(s *appsv1.DaemonSetUpdateStrategy, path *field.Path) field.ErrorList {
	switch s.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
		return nil
	case appsv1.RollingUpdateDaemonSetStrategyType:
		if s.RollingUpdate == nil {
			return field.ErrorList{field.Required(path.Child("rollingUpdate"), "")}
		}
		return validateDaemonRolling(s.RollingUpdate, path.Child("rollingUpdate"))
	}
	return field.ErrorList{field.NotSupported(path, s, []appsv1.DaemonSetUpdateStrategyType{appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType})}
}

// validateDaemonRolling: exactly one of the two says how an update moves.
func validateDaemonRolling(r *appsv1.RollingUpdateDaemonSet, path *field.Path) field.ErrorList {
	zero := intstr.FromInt32(0)
	down, up := ptr.Deref(r.MaxUnavailable, zero), ptr.Deref(r.MaxSurge, zero)
	errs := podspec.ValidateIntOrPercent(down, path.Child("maxUnavailable"))
	errs = append(errs, podspec.ValidateIntOrPercent(up, path.Child("maxSurge"))...)
	errs = append(errs, notOverHundred(down, path.Child("maxUnavailable"))...)
	errs = append(errs, notOverHundred(up, path.Child("maxSurge"))...)
	switch {
	case isZero(down) && isZero(up):
		errs = append(errs, field.Required(path.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0"))
	case !isZero(down) && !isZero(up):
		errs = append(errs, field.Invalid(path.Child("maxSurge"), up, "may not be set when maxUnavailable is non-zero"))
	}
	return errs
}

func validateDaemonSetUpdate(ds, old *appsv1.DaemonSet) field.ErrorList {
	errs := validateDaemonSet(ds)
	return append(errs, apivalidation.ValidateImmutableField(ds.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))...)
}

func validateDaemonSetStatus(ds, old *appsv1.DaemonSet) field.ErrorList {
	s, path := ds.Status, field.NewPath("status")
	var errs field.ErrorList
	for _, f := range []struct {
		name  string
		value int32
	}{
		{"currentNumberScheduled", s.CurrentNumberScheduled}, {"numberMisscheduled", s.NumberMisscheduled},
		{"desiredNumberScheduled", s.DesiredNumberScheduled}, {"numberReady", s.NumberReady},
		{"updatedNumberScheduled", s.UpdatedNumberScheduled}, {"numberAvailable", s.NumberAvailable},
		{"numberUnavailable", s.NumberUnavailable},
	} {
		errs = append(errs, notNegative(f.value, path.Child(f.name))...)
	}
	errs = append(errs, apivalidation.ValidateNonnegativeField(s.ObservedGeneration, path.Child("observedGeneration"))...)
	return append(errs, collisionsNotLess(s.CollisionCount, old.Status.CollisionCount, path.Child("collisionCount"))...)
}

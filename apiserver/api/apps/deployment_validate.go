package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/podspec"
)

func validateDeployment(d *appsv1.Deployment) field.ErrorList {
	spec := field.NewPath("spec")
	errs := notNegative(ptr.Deref(d.Spec.Replicas, 0), spec.Child("replicas"))
	errs = append(errs, validateSelected(d.Spec.Selector, &d.Spec.Template, spec, "deployment")...)
	errs = append(errs, validateDeploymentStrategy(&d.Spec.Strategy, spec.Child("strategy"))...)
	errs = append(errs, notNegative(d.Spec.MinReadySeconds, spec.Child("minReadySeconds"))...)
	if limit := d.Spec.RevisionHistoryLimit; limit != nil {
		errs = append(errs, notNegative(*limit, spec.Child("revisionHistoryLimit"))...)
	}
	if deadline := d.Spec.ProgressDeadlineSeconds; deadline != nil {
		errs = append(errs, notNegative(*deadline, spec.Child("progressDeadlineSeconds"))...)
		if *deadline <= d.Spec.MinReadySeconds {
			errs = append(errs, field.Invalid(spec.Child("progressDeadlineSeconds"), *deadline, "must be greater than minReadySeconds"))
		}
	}
	return errs
}

func notNegative(value int32, path *field.Path) field.ErrorList {
	return apivalidation.ValidateNonnegativeField(int64(value), path)
}

func validateDeploymentStrategy(s *appsv1.DeploymentStrategy, path *field.Path) field.ErrorList {
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(path.Child("rollingUpdate"), "may not be specified when strategy `type` is '"+string(appsv1.RecreateDeploymentStrategyType)+"'")}
		}
		return nil
	case appsv1.RollingUpdateDeploymentStrategyType:
		if s.RollingUpdate == nil {
			return field.ErrorList{field.Required(path.Child("rollingUpdate"), "this should be defaulted and never be nil")}
		}
		return validateRolling(s.RollingUpdate.MaxUnavailable, s.RollingUpdate.MaxSurge, path.Child("rollingUpdate"))
	}
	return field.ErrorList{field.NotSupported(path, s, []appsv1.DeploymentStrategyType{appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType})}
}

// validateRolling: an update that may neither take a Pod away nor add one
// would never move.
func validateRolling(unavailable, surge *intstr.IntOrString, path *field.Path) field.ErrorList {
	zero := intstr.FromInt32(0)
	down, up := ptr.Deref(unavailable, zero), ptr.Deref(surge, zero)
	errs := podspec.ValidateIntOrPercent(down, path.Child("maxUnavailable"))
	errs = append(errs, podspec.ValidateIntOrPercent(up, path.Child("maxSurge"))...)
	if isZero(down) && isZero(up) {
		errs = append(errs, field.Invalid(path.Child("maxUnavailable"), down, "may not be 0 when `maxSurge` is 0"))
	}
	return append(errs, notOverHundred(down, path.Child("maxUnavailable"))...)
}

func isZero(value intstr.IntOrString) bool {
	// Of 100, so that a percentage counts as it is.
	scaled, err := intstr.GetScaledValueFromIntOrPercent(&value, 100, false)
	return err == nil && scaled == 0
}

func notOverHundred(value intstr.IntOrString, path *field.Path) field.ErrorList {
	if value.Type != intstr.String {
		return nil
	}
	scaled, err := intstr.GetScaledValueFromIntOrPercent(&value, 100, false)
	if err == nil && scaled > 100 {
		return field.ErrorList{field.Invalid(path, value, "must not be greater than 100%")}
	}
	return nil
}

func validateDeploymentUpdate(d, old *appsv1.Deployment) field.ErrorList {
	errs := validateDeployment(d)
	return append(errs, apivalidation.ValidateImmutableField(d.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))...)
}

func validateDeploymentStatus(d, old *appsv1.Deployment) field.ErrorList {
	s, path := d.Status, field.NewPath("status")
	errs := podspec.ValidateReplicaStatus(podspec.ReplicaStatus{
		Replicas: s.Replicas, Ready: s.ReadyReplicas, Available: s.AvailableReplicas, ObservedGeneration: s.ObservedGeneration,
	}, path)
	errs = append(errs, notNegative(s.UpdatedReplicas, path.Child("updatedReplicas"))...)
	errs = append(errs, notNegative(s.UnavailableReplicas, path.Child("unavailableReplicas"))...)
	if s.UpdatedReplicas > s.Replicas {
		errs = append(errs, field.Invalid(path.Child("updatedReplicas"), s.UpdatedReplicas, "cannot be greater than status.replicas"))
	}
	return append(errs, collisionsNotLess(s.CollisionCount, old.Status.CollisionCount, path.Child("collisionCount"))...)
}

// collisionsNotLess: the count makes names unique and so only grows.
func collisionsNotLess(count, old *int32, path *field.Path) field.ErrorList {
	if count != nil {
		if errs := notNegative(*count, path); len(errs) > 0 {
			return errs
		}
	}
	if ptr.Deref(count, 0) < ptr.Deref(old, 0) {
		return field.ErrorList{field.Invalid(path, count, "cannot be decremented")}
	}
	return nil
}

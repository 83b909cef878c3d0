package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/podspec"
)

func validateReplicaSet(rs *appsv1.ReplicaSet) field.ErrorList {
	spec := field.NewPath("spec")
	errs := notNegative(ptr.Deref(rs.Spec.Replicas, 0), spec.Child("replicas"))
	errs = append(errs, notNegative(rs.Spec.MinReadySeconds, spec.Child("minReadySeconds"))...)
	return append(errs, validateSelected(rs.Spec.Selector, &rs.Spec.Template, spec, "replicaset")...)
}

func validateReplicaSetUpdate(rs, old *appsv1.ReplicaSet) field.ErrorList {
	errs := validateReplicaSet(rs)
	return append(errs, apivalidation.ValidateImmutableField(rs.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))...)
}

func validateReplicaSetStatus(rs, _ *appsv1.ReplicaSet) field.ErrorList {
	s := rs.Status
	return podspec.ValidateReplicaStatus(podspec.ReplicaStatus{
		Replicas: s.Replicas, FullyLabeled: s.FullyLabeledReplicas, Ready: s.ReadyReplicas,
		Available: s.AvailableReplicas, ObservedGeneration: s.ObservedGeneration,
	}, field.NewPath("status"))
}

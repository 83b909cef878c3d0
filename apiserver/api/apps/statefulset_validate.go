package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/podspec"
)

func validateStatefulSet(s *appsv1.StatefulSet) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateSelected(s.Spec.Selector, &s.Spec.Template, spec, "statefulset")
	errs = append(errs, notNegative(ptr.Deref(s.Spec.Replicas, 0), spec.Child("replicas"))...)
	errs = append(errs, notNegative(s.Spec.MinReadySeconds, spec.Child("minReadySeconds"))...)
	switch s.Spec.PodManagementPolicy {
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
	case "":
		errs = append(errs, field.Required(spec.Child("podManagementPolicy"), ""))
	default:
		errs = append(errs, field.Invalid(spec.Child("podManagementPolicy"), s.Spec.PodManagementPolicy, "must be 'OrderedReady' or 'Parallel'"))
	}
	errs = append(errs, validateStatefulStrategy(&s.Spec.UpdateStrategy, spec.Child("updateStrategy"))...)
	errs = append(errs, validateRetention(s.Spec.PersistentVolumeClaimRetentionPolicy, spec.Child("persistentVolumeClaimRetentionPolicy"))...)
	if s.Spec.Ordinals != nil {
		errs = append(errs, notNegative(s.Spec.Ordinals.Start, spec.Child("ordinals", "start"))...)
	}
	for i := range s.Spec.VolumeClaimTemplates {
		errs = append(errs, podspec.ValidateClaimSpec(&s.Spec.VolumeClaimTemplates[i].Spec, spec.Child("volumeClaimTemplates").Index(i).Child("spec"))...)
	}
	return errs
}

func validateStatefulStrategy(s *appsv1.StatefulSetUpdateStrategy, path *field.Path) field.ErrorList {
	switch s.Type {
	case "":
		return field.ErrorList{field.Required(path, "")}
	case appsv1.OnDeleteStatefulSetStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Invalid(path.Child("rollingUpdate"), s.RollingUpdate, "only allowed for updateStrategy '"+string(appsv1.RollingUpdateStatefulSetStrategyType)+"'")}
		}
		return nil
	case appsv1.RollingUpdateStatefulSetStrategyType:
		rolling := s.RollingUpdate
		if rolling == nil {
			return nil
		}
		errs := notNegative(ptr.Deref(rolling.Partition, 0), path.Child("rollingUpdate", "partition"))
		if limit := rolling.MaxUnavailable; limit != nil {
			at := path.Child("rollingUpdate", "maxUnavailable")
			errs = append(errs, podspec.ValidateIntOrPercent(*limit, at)...)
			if isZero(*limit) {
				errs = append(errs, field.Invalid(at, *limit, "cannot be 0"))
			}
			errs = append(errs, notOverHundred(*limit, at)...)
		}
		return errs
	}
	return field.ErrorList{field.Invalid(path, s, "must be 'RollingUpdate' or 'OnDelete'")}
}

func validateRetention(p *appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	var errs field.ErrorList
	known := []appsv1.PersistentVolumeClaimRetentionPolicyType{appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType}
	for name, value := range map[string]appsv1.PersistentVolumeClaimRetentionPolicyType{"whenDeleted": p.WhenDeleted, "whenScaled": p.WhenScaled} {
		if value != known[0] && value != known[1] {
			errs = append(errs, field.NotSupported(path.Child(name), value, known))
		}
	}
	return errs
}

func validateStatefulSetUpdate(s, old *appsv1.StatefulSet) field.ErrorList {
	errs := validateStatefulSet(s)
	allowed := s.Spec.DeepCopy()
	allowed.Replicas = old.Spec.Replicas
	allowed.Template = old.Spec.Template
	allowed.UpdateStrategy = old.Spec.UpdateStrategy
	allowed.MinReadySeconds = old.Spec.MinReadySeconds
	allowed.Ordinals = old.Spec.Ordinals
	allowed.RevisionHistoryLimit = old.Spec.RevisionHistoryLimit
	allowed.PersistentVolumeClaimRetentionPolicy = old.Spec.PersistentVolumeClaimRetentionPolicy
	if !equality.Semantic.DeepEqual(allowed, &old.Spec) {
		errs = append(errs, field.Forbidden(field.NewPath("spec"), "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"))
	}
	return errs
}

func validateStatefulSetStatus(s, old *appsv1.StatefulSet) field.ErrorList {
	st, path := s.Status, field.NewPath("status")
	errs := podspec.ValidateReplicaStatus(podspec.ReplicaStatus{
		Replicas: st.Replicas, Ready: st.ReadyReplicas, Available: st.AvailableReplicas, ObservedGeneration: st.ObservedGeneration,
	}, path)
	errs = append(errs, notNegative(st.CurrentReplicas, path.Child("currentReplicas"))...)
	errs = append(errs, notNegative(st.UpdatedReplicas, path.Child("updatedReplicas"))...)
	if st.CurrentReplicas > st.Replicas {
		errs = append(errs, field.Invalid(path.Child("currentReplicas"), st.CurrentReplicas, "cannot be greater than status.replicas"))
	}
	if st.UpdatedReplicas > st.Replicas {
		errs = append(errs, field.Invalid(path.Child("updatedReplicas"), st.UpdatedReplicas, "cannot be greater than status.replicas"))
	}
	return append(errs, collisionsNotLess(st.CollisionCount, old.Status.CollisionCount, path.Child("collisionCount"))...)
}

package deployment

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// replicas returns how many pods the deployment wants.
func replicas(d *appsv1.Deployment) int32 { return ptr.Deref(d.Spec.Replicas, 1) }

// limits resolves maxSurge (rounded up) and maxUnavailable (rounded down) to
// numbers of pods. Both zero would never move: then one may be unavailable.
func limits(d *appsv1.Deployment) (surge, unavailable int32) {
	ru := d.Spec.Strategy.RollingUpdate
	if d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType || ru == nil {
		return 0, 0
	}
	zero := intstr.FromInt32(0)
	s, errS := intstr.GetScaledValueFromIntOrPercent(cmp.Or(ru.MaxSurge, &zero), int(replicas(d)), true)
	u, errU := intstr.GetScaledValueFromIntOrPercent(cmp.Or(ru.MaxUnavailable, &zero), int(replicas(d)), false)
	if errS != nil || errU != nil {
		s, u = 0, 0 // refused by validation; move one at a time
	}
	if s == 0 && u == 0 {
		u = 1
	}
	return int32(s), min(int32(u), replicas(d))
}

// maxSurge is limits' first value.
func maxSurge(d *appsv1.Deployment) int32 { s, _ := limits(d); return s }

// nextNewReplicas is how many replicas the newest set should ask for now, all
// sets together staying within replicas + maxSurge.
func nextNewReplicas(d *appsv1.Deployment, sets []*appsv1.ReplicaSet, newest *appsv1.ReplicaSet) int32 {
	want, have := replicas(d), *newest.Spec.Replicas
	if have >= want {
		return want // scaled down, or done
	}
	room := want + maxSurge(d) - asked(sets)
	if room <= 0 {
		return have
	}
	return have + min(room, want-have)
}

// scaling is a set and the number of replicas it goes to.
type scaling struct {
	set *appsv1.ReplicaSet
	to  int32
}

// nextOldReplicas lists the old sets to scale down now. At least replicas -
// maxUnavailable pods stay available: unhealthy pods of old sets go first,
// oldest set first, as far as the new set's own missing pods allow; then
// available ones.
func nextOldReplicas(d *appsv1.Deployment, sets []*appsv1.ReplicaSet, newest *appsv1.ReplicaSet) []scaling {
	old := active(oldOf(sets, newest))
	_, unavailable := limits(d)
	minAvailable := replicas(d) - unavailable
	newMissing := *newest.Spec.Replicas - newest.Status.AvailableReplicas
	budget := asked(sets) - minAvailable - newMissing
	if len(old) == 0 || budget <= 0 {
		return nil
	}
	to := make([]int32, len(old))
	for i, rs := range old {
		to[i] = *rs.Spec.Replicas
	}
	// Unhealthy ones first.
	for i, rs := range old {
		unhealthy := max(to[i]-rs.Status.AvailableReplicas, 0)
		take := min(budget, unhealthy)
		to[i] -= take
		budget -= take
	}
	// Then available ones, counted after the clean-up above changes nothing
	// about who is available.
	spare := available(sets) - minAvailable
	for i := range old {
		take := max(min(spare, to[i]), 0)
		to[i] -= take
		spare -= take
	}
	var steps []scaling
	for i, rs := range old {
		if to[i] != *rs.Spec.Replicas {
			steps = append(steps, scaling{rs, to[i]})
		}
	}
	return steps
}

// asked sums spec.replicas.
func asked(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += ptr.Deref(rs.Spec.Replicas, 1)
	}
	return n
}

// available sums the available replicas.
func available(sets []*appsv1.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += rs.Status.AvailableReplicas
	}
	return n
}

// active returns the sets that ask for pods, in the order given.
func active(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	return slices.DeleteFunc(slices.Clone(sets), func(rs *appsv1.ReplicaSet) bool { return ptr.Deref(rs.Spec.Replicas, 1) == 0 })
}

// oldOf returns the sets but the newest.
func oldOf(sets []*appsv1.ReplicaSet, newest *appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	return slices.DeleteFunc(slices.Clone(sets), func(rs *appsv1.ReplicaSet) bool { return newest != nil && rs.UID == newest.UID })
}

// sortByAge puts the oldest set first, equal ages by name.
func sortByAge(sets []*appsv1.ReplicaSet) {
	slices.SortFunc(sets, func(a, b *appsv1.ReplicaSet) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
}

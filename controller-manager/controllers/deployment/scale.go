package deployment

import (
	"cmp"
	"context"
	"math"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/utils/ptr"
)

// scaleProportionally follows a change of spec.replicas. With one active set
// it gets all replicas. In the middle of a rollout the change is shared among
// the active sets by their size, so that the risk stays as it was.
func (r *rollout) scaleProportionally(ctx context.Context, newest *appsv1.ReplicaSet) error {
	if only := onlyActive(r.sets, newest); only != nil {
		return r.scale(ctx, only, replicas(r.d))
	}
	var steps []scaling
	switch {
	case newest != nil && saturated(r.d, newest):
		for _, rs := range active(oldOf(r.sets, newest)) {
			steps = append(steps, scaling{rs, 0})
		}
	case r.d.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType:
		steps = shares(r.d, active(r.sets))
	}
	for _, step := range steps {
		if err := r.scale(ctx, step.set, step.to); err != nil {
			return err
		}
	}
	return nil
}

// onlyActive returns the one active set; the newest when none is active, else
// the youngest; nil when several are.
func onlyActive(sets []*appsv1.ReplicaSet, newest *appsv1.ReplicaSet) *appsv1.ReplicaSet {
	running := active(sets)
	switch {
	case len(running) == 1:
		return running[0]
	case len(running) > 1:
		return nil
	case newest != nil:
		return newest
	case len(sets) > 0:
		return sets[len(sets)-1]
	}
	return nil
}

// saturated reports whether the newest set alone does what the deployment asks.
func saturated(d *appsv1.Deployment, newest *appsv1.ReplicaSet) bool {
	desired, ok := annotatedInt(newest, annotationDesired)
	want := replicas(d)
	return ok && desired == want && ptr.Deref(newest.Spec.Replicas, 1) == want && newest.Status.AvailableReplicas == want
}

// shares divides replicas + maxSurge among the active sets in proportion to
// their sizes. What rounding leaves goes to the first: the largest set, the
// younger of two equals when growing, the older when shrinking.
func shares(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) []scaling {
	allowed := int32(0)
	if replicas(d) > 0 {
		allowed = replicas(d) + maxSurge(d)
	}
	add := allowed - asked(sets)
	sets = slices.Clone(sets)
	slices.SortStableFunc(sets, func(a, b *appsv1.ReplicaSet) int {
		age := a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
		if add > 0 {
			age = -age
		}
		return cmp.Or(cmp.Compare(*b.Spec.Replicas, *a.Spec.Replicas), age)
	})
	steps := make([]scaling, len(sets))
	added := int32(0)
	for i, rs := range sets {
		part := share(d, rs, add, added)
		added += part
		steps[i] = scaling{rs, *rs.Spec.Replicas + part}
	}
	if len(steps) > 0 && add != 0 {
		steps[0].to = max(steps[0].to+add-added, 0)
	}
	return steps
}

// share is how many of the replicas still to add (or, negative, to take) fall
// to one set.
func share(d *appsv1.Deployment, rs *appsv1.ReplicaSet, add, added int32) int32 {
	if add == 0 || *rs.Spec.Replicas == 0 {
		return 0
	}
	part := fraction(d, rs)
	if add > 0 {
		return min(part, add-added)
	}
	return max(part, add-added)
}

// fraction is the change that keeps a set's part of the whole as it was when
// it was last scaled.
func fraction(d *appsv1.Deployment, rs *appsv1.ReplicaSet) int32 {
	size := *rs.Spec.Replicas
	if replicas(d) == 0 {
		return -size
	}
	before, ok := annotatedInt(rs, annotationMax)
	if !ok || before == 0 {
		before = d.Status.Replicas
	}
	if before == 0 {
		return 0
	}
	scaled := float64(size) * float64(replicas(d)+maxSurge(d)) / float64(before)
	return int32(math.Round(scaled)) - size
}

package podcontrol

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// SortForDeletion orders pods so that those to delete first come first:
// unassigned before assigned, pending before unknown before running, not ready
// before ready, lower deletion cost, more pods of the same kind on the node,
// ready for a shorter time, more restarts, younger. Ages are compared by
// order of magnitude, as the API reference of ReplicaSet says, so that a
// victim among pods of about one age is random (their UID).
//
// onNode tells how many related pods share the pod's node; nil means none.
func SortForDeletion(pods []*corev1.Pod, onNode func(pod *corev1.Pod) int, now time.Time) {
	rank := func(pod *corev1.Pod) int {
		if onNode == nil || pod.Spec.NodeName == "" {
			return 0
		}
		return onNode(pod)
	}
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int {
		if d := compareUse(a, b); d != 0 {
			return d
		}
		if d := cmp.Compare(rank(b), rank(a)); d != 0 {
			return d
		}
		return compareAge(a, b, now)
	})
}

// compareUse compares by how much a pod does for anybody.
func compareUse(a, b *corev1.Pod) int {
	return cmp.Or(
		cmp.Compare(boolRank(a.Spec.NodeName != ""), boolRank(b.Spec.NodeName != "")),
		cmp.Compare(phaseRank(a.Status.Phase), phaseRank(b.Status.Phase)),
		cmp.Compare(boolRank(Ready(a)), boolRank(Ready(b))),
		cmp.Compare(deletionCost(a), deletionCost(b)),
	)
}

func compareAge(a, b *corev1.Pod, now time.Time) int {
	if Ready(a) && Ready(b) {
		ra, rb := readySince(a), readySince(b)
		if !ra.Equal(rb) {
			if d := compareSince(ra, rb, now); d != 0 {
				return d
			}
			return cmp.Compare(a.UID, b.UID)
		}
	}
	if d := cmp.Compare(Restarts(b), Restarts(a)); d != 0 {
		return d
	}
	ca, cb := a.CreationTimestamp.Time, b.CreationTimestamp.Time
	if !ca.Equal(cb) {
		if d := compareSince(ca, cb, now); d != 0 {
			return d
		}
		return cmp.Compare(a.UID, b.UID)
	}
	return 0
}

// compareSince puts the time that is less far back first, by powers of two. A
// zero time counts as just now.
func compareSince(a, b, now time.Time) int {
	if a.IsZero() || b.IsZero() {
		return cmp.Compare(boolRank(!a.IsZero()), boolRank(!b.IsZero()))
	}
	return cmp.Compare(magnitude(now.Sub(a)), magnitude(now.Sub(b)))
}

func magnitude(age time.Duration) int64 {
	if age <= 0 {
		return -1
	}
	return int64(math.Log2(float64(age)))
}

func readySince(pod *corev1.Pod) time.Time {
	if c := Condition(pod, corev1.PodReady); c != nil {
		return c.LastTransitionTime.Time
	}
	return time.Time{}
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}

func phaseRank(phase corev1.PodPhase) int {
	switch phase {
	case corev1.PodPending:
		return 0
	case corev1.PodUnknown:
		return 1
	}
	return 2
}

func deletionCost(pod *corev1.Pod) int64 {
	cost, err := strconv.ParseInt(pod.Annotations[corev1.PodDeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return cost
}

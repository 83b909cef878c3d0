package deployment

import (
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// Annotations of the rollout, as kubectl rollout reads them.
const (
	annotationRevision = "deployment.kubernetes.io/revision"
	annotationHistory  = "deployment.kubernetes.io/revision-history"
	annotationDesired  = "deployment.kubernetes.io/desired-replicas"
	annotationMax      = "deployment.kubernetes.io/max-replicas"
	// historyChars bounds the revision history (upstream maxRevHistoryLengthInChars).
	historyChars = 2000
)

// ownAnnotations are not copied between a deployment and its sets.
var ownAnnotations = []string{
	corev1.LastAppliedConfigAnnotation, annotationRevision, annotationHistory,
	annotationDesired, annotationMax, appsv1.DeprecatedRollbackTo,
}

// sameTemplate compares two templates but for the hash label.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	return equality.Semantic.DeepEqual(withoutHash(a), withoutHash(b))
}

func withoutHash(t *corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
	t = t.DeepCopy()
	delete(t.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return t
}

// newestOf returns the oldest set with the deployment's template, nil if none.
func newestOf(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	for _, rs := range sets {
		if sameTemplate(&rs.Spec.Template, &d.Spec.Template) {
			return rs
		}
	}
	return nil
}

// revision returns the set's revision number, 0 when it has none.
func revision(rs *appsv1.ReplicaSet) int64 {
	n, err := strconv.ParseInt(rs.Annotations[annotationRevision], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// maxRevision returns the highest revision among the sets.
func maxRevision(sets []*appsv1.ReplicaSet) (highest int64) {
	for _, rs := range sets {
		highest = max(highest, revision(rs))
	}
	return highest
}

// lastRevision returns the second highest revision, 0 if there is none.
func lastRevision(sets []*appsv1.ReplicaSet) int64 {
	var first, second int64
	for _, rs := range sets {
		switch n := revision(rs); {
		case n >= first:
			first, second = n, first
		case n > second:
			second = n
		}
	}
	return second
}

// annotateSet copies the deployment's annotations to its newest set and raises
// the set's revision. It reports whether anything changed.
func annotateSet(d *appsv1.Deployment, rs *appsv1.ReplicaSet, next int64, existed bool) bool {
	changed := false
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	for k, v := range d.Annotations {
		if old, there := rs.Annotations[k]; !slices.Contains(ownAnnotations, k) && (!there || old != v) {
			rs.Annotations[k] = v
			changed = true
		}
	}
	before, had := rs.Annotations[annotationRevision]
	if old, err := strconv.ParseInt(before, 10, 64); had && before != "" && err != nil {
		return changed // not a number: somebody else's
	} else if old < next {
		rs.Annotations[annotationRevision] = strconv.FormatInt(next, 10)
		changed = true
		if existed && before != "" {
			rs.Annotations[annotationHistory] = appendHistory(rs.Annotations[annotationHistory], before)
		}
	}
	if !existed && annotateSize(d, rs) {
		changed = true
	}
	return changed
}

// appendHistory adds a revision to a comma-separated list, dropping the oldest
// ones when it would get too long.
func appendHistory(history, rev string) string {
	if history == "" {
		return rev
	}
	list := strings.Split(history, ",")
	for total := len(history) + len(rev) + 1; total > historyChars && len(list) > 0; list = list[1:] {
		total -= len(list[0]) + 1
	}
	return strings.Join(append(list, rev), ",")
}

// annotateSize records on a set what the deployment asked for when it was last
// scaled. It reports whether anything changed.
func annotateSize(d *appsv1.Deployment, rs *appsv1.ReplicaSet) bool {
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	changed := false
	for key, n := range map[string]int32{annotationDesired: replicas(d), annotationMax: replicas(d) + maxSurge(d)} {
		if text := strconv.Itoa(int(n)); rs.Annotations[key] != text {
			rs.Annotations[key] = text
			changed = true
		}
	}
	return changed
}

func annotatedInt(rs *appsv1.ReplicaSet, key string) (int32, bool) {
	n, err := strconv.ParseInt(rs.Annotations[key], 10, 32)
	return int32(n), err == nil
}

// surplus returns the old sets that revisionHistoryLimit leaves no room for,
// lowest revision first, of those that are fully scaled down.
func surplus(d *appsv1.Deployment, old []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	if d.Spec.RevisionHistoryLimit == nil {
		return nil
	}
	old = slices.DeleteFunc(slices.Clone(old), func(rs *appsv1.ReplicaSet) bool { return rs.DeletionTimestamp != nil })
	over := len(old) - int(*d.Spec.RevisionHistoryLimit)
	if over <= 0 {
		return nil
	}
	slices.SortStableFunc(old, func(a, b *appsv1.ReplicaSet) int { return int(revision(a) - revision(b)) })
	var gone []*appsv1.ReplicaSet
	for _, rs := range old[:over] {
		if rs.Status.Replicas == 0 && rs.Spec.Replicas != nil && *rs.Spec.Replicas == 0 && rs.Generation <= rs.Status.ObservedGeneration {
			gone = append(gone, rs)
		}
	}
	return gone
}

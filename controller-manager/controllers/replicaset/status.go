package replicaset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
)

// newStatus computes the status from the set's pods. wait is when the next pod
// becomes available by the passing of time, 0 for none.
func newStatus(rs *appsv1.ReplicaSet, pods []*corev1.Pod, terminating int32, manageErr error, now time.Time) (status appsv1.ReplicaSetStatus, wait time.Duration) {
	rs.Status.DeepCopyInto(&status)
	template := labels.Set(rs.Spec.Template.Labels).AsSelectorPreValidated()
	minReady := time.Duration(rs.Spec.MinReadySeconds) * time.Second
	status.Replicas = int32(len(pods))
	status.FullyLabeledReplicas, status.ReadyReplicas, status.AvailableReplicas = 0, 0, 0
	status.TerminatingReplicas = &terminating
	for _, pod := range pods {
		if template.Matches(labels.Set(pod.Labels)) {
			status.FullyLabeledReplicas++
		}
		if !podcontrol.Ready(pod) {
			continue
		}
		status.ReadyReplicas++
		available, in := podcontrol.Available(pod, minReady, now)
		if available {
			status.AvailableReplicas++
		}
		if in > 0 && (wait == 0 || in < wait) {
			wait = in
		}
	}
	setFailure(rs, &status, len(pods), manageErr, now)
	return status, wait
}

// setFailure sets or lifts the ReplicaFailure condition.
func setFailure(rs *appsv1.ReplicaSet, status *appsv1.ReplicaSetStatus, pods int, manageErr error, now time.Time) {
	at := -1
	for i, c := range status.Conditions {
		if c.Type == appsv1.ReplicaSetReplicaFailure {
			at = i
		}
	}
	switch {
	case manageErr != nil && at < 0:
		reason := "FailedCreate"
		if pods > int(ptr.Deref(rs.Spec.Replicas, 1)) {
			reason = "FailedDelete"
		}
		status.Conditions = append(status.Conditions, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue,
			LastTransitionTime: metav1.NewTime(now), Reason: reason, Message: manageErr.Error(),
		})
	case manageErr == nil && at >= 0:
		status.Conditions = append(status.Conditions[:at], status.Conditions[at+1:]...)
	}
}

func statusEqual(rs *appsv1.ReplicaSet, status appsv1.ReplicaSetStatus) bool {
	return rs.Generation == rs.Status.ObservedGeneration && equality.Semantic.DeepEqual(withObserved(rs.Status), withObserved(status))
}

func withObserved(s appsv1.ReplicaSetStatus) appsv1.ReplicaSetStatus {
	s.ObservedGeneration = 0
	return s
}

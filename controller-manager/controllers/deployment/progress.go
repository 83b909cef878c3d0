package deployment

import (
	"fmt"
	"math"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// Reasons of the Progressing condition, as the API reference has them.
const (
	reasonSetCreated   = "NewReplicaSetCreated"
	reasonSetFound     = "FoundNewReplicaSet"
	reasonSetUpdated   = "ReplicaSetUpdated"
	reasonSetAvailable = "NewReplicaSetAvailable"
	reasonCreateError  = "ReplicaSetCreateError"
	reasonTimedOut     = "ProgressDeadlineExceeded"
	reasonPaused       = "DeploymentPaused"
	reasonResumed      = "DeploymentResumed"
)

// hasDeadline reports whether the rollout can time out; MaxInt32 means never.
func hasDeadline(d *appsv1.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds != math.MaxInt32
}

// complete reports whether all wanted pods are of the new template and available.
func complete(d *appsv1.Deployment, s *appsv1.DeploymentStatus) bool {
	want := replicas(d)
	return s.UpdatedReplicas == want && s.Replicas == want && s.AvailableReplicas == want && s.ObservedGeneration >= d.Generation
}

// moved reports whether now is nearer to the goal than the status before.
func moved(before, now *appsv1.DeploymentStatus) bool {
	return now.UpdatedReplicas > before.UpdatedReplicas ||
		now.Replicas-now.UpdatedReplicas < before.Replicas-before.UpdatedReplicas ||
		now.ReadyReplicas > before.ReadyReplicas ||
		now.AvailableReplicas > before.AvailableReplicas
}

// timedOut reports whether nothing moved for the progress deadline.
func timedOut(d *appsv1.Deployment, s *appsv1.DeploymentStatus, now time.Time) bool {
	c := condition(s, appsv1.DeploymentProgressing)
	if c == nil || c.Reason == reasonSetAvailable {
		return false
	}
	if c.Reason == reasonTimedOut {
		return true
	}
	return c.LastUpdateTime.Add(deadline(d)).Before(now)
}

func deadline(d *appsv1.Deployment) time.Duration {
	return time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second
}

// judgeProgress sets the Progressing condition of the status: complete, moving
// or stuck.
func judgeProgress(d *appsv1.Deployment, status *appsv1.DeploymentStatus, newest *appsv1.ReplicaSet, now time.Time) {
	if !hasDeadline(d) {
		removeCondition(status, appsv1.DeploymentProgressing)
		return
	}
	current := condition(&d.Status, appsv1.DeploymentProgressing)
	// Once complete, a pod that is lost later is not a rollout.
	if status.Replicas == status.UpdatedReplicas && current != nil && current.Reason == reasonSetAvailable {
		return
	}
	what := fmt.Sprintf("Deployment %q", d.Name)
	if newest != nil {
		what = fmt.Sprintf("ReplicaSet %q", newest.Name)
	}
	switch {
	case complete(d, status):
		setCondition(status, newCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue,
			reasonSetAvailable, what+" has successfully progressed.", now))
	case moved(&d.Status, status):
		c := newCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonSetUpdated, what+" is progressing.", now)
		if current != nil && current.Status == corev1.ConditionTrue {
			c.LastTransitionTime = current.LastTransitionTime
		}
		// Replaced even when equal: its update time is what the deadline runs from.
		removeCondition(status, appsv1.DeploymentProgressing)
		setCondition(status, c)
	case timedOut(d, status, now):
		setCondition(status, newCondition(appsv1.DeploymentProgressing, corev1.ConditionFalse,
			reasonTimedOut, what+" has timed out progressing.", now))
	}
}

// copyFailure takes over the ReplicaFailure condition of a set, the newest one's first.
func copyFailure(status *appsv1.DeploymentStatus, sets []*appsv1.ReplicaSet, newest *appsv1.ReplicaSet) {
	if newest != nil {
		sets = append([]*appsv1.ReplicaSet{newest}, sets...)
	}
	for _, rs := range sets {
		for _, c := range rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure {
				setCondition(status, appsv1.DeploymentCondition{
					Type: appsv1.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason, Message: c.Message,
					LastUpdateTime: c.LastTransitionTime, LastTransitionTime: c.LastTransitionTime,
				})
				return
			}
		}
	}
	removeCondition(status, appsv1.DeploymentReplicaFailure)
}

// untilDeadline is when to look again for a rollout that stopped moving, as no
// event will come; 0 when nothing is under way.
func untilDeadline(d *appsv1.Deployment, s *appsv1.DeploymentStatus, now time.Time) time.Duration {
	c := condition(s, appsv1.DeploymentProgressing)
	if !hasDeadline(d) || c == nil || complete(d, s) || c.Reason == reasonTimedOut || c.Reason == reasonSetAvailable {
		return 0
	}
	// A second more, as the time in the condition is cut to seconds.
	return max(c.LastUpdateTime.Add(deadline(d)).Sub(now), 0) + time.Second
}

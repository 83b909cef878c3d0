package deployment

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// rollout is one look at one deployment.
type rollout struct {
	c    *Controller
	d    *appsv1.Deployment // a copy, kept up with what is written
	sets []*appsv1.ReplicaSet
	now  time.Time
	// judge says that this look may find the rollout done or stuck; a look that
	// only scales does not.
	judge bool
	// recheck is when to look again without an event; 0 for not.
	recheck time.Duration
}

// run does the one thing the deployment needs next.
func (r *rollout) run(ctx context.Context) error {
	if r.d.DeletionTimestamp != nil {
		return r.writeStatus(ctx, newestOf(r.d, r.sets))
	}
	if err := r.markPaused(ctx); err != nil {
		return err
	}
	if r.d.Spec.Paused {
		return r.scaleOnly(ctx)
	}
	if _, asked := r.d.Annotations[appsv1.DeprecatedRollbackTo]; asked {
		return r.rollBack(ctx)
	}
	if r.resized() {
		return r.scaleOnly(ctx)
	}
	if r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return r.recreate(ctx)
	}
	return r.roll(ctx)
}

// scaleOnly follows spec.replicas without carrying the rollout further.
func (r *rollout) scaleOnly(ctx context.Context) error {
	newest, err := r.newest(ctx, false)
	if err != nil {
		return err
	}
	if err := r.scaleProportionally(ctx, newest); err != nil {
		return err
	}
	if r.d.Spec.Paused && !r.rollingBack() {
		if err := r.cleanUp(ctx, newest); err != nil {
			return err
		}
	}
	return r.writeStatus(ctx, newest)
}

func (r *rollout) rollingBack() bool {
	_, asked := r.d.Annotations[appsv1.DeprecatedRollbackTo]
	return asked
}

// resized reports that spec.replicas changed since some active set was last
// scaled: then the sets are scaled before the rollout goes on.
func (r *rollout) resized() bool {
	for _, rs := range active(r.sets) {
		desired, ok := annotatedInt(rs, annotationDesired)
		if ok && desired != replicas(r.d) {
			return true
		}
	}
	return false
}

// roll takes the next step of a rolling update: up first, then down.
func (r *rollout) roll(ctx context.Context) error {
	r.judge = true
	newest, err := r.newest(ctx, true)
	if err != nil {
		return err
	}
	if n := nextNewReplicas(r.d, r.sets, newest); n != *newest.Spec.Replicas {
		if err := r.scale(ctx, newest, n); err != nil {
			return err
		}
		return r.writeStatus(ctx, newest)
	}
	downs := nextOldReplicas(r.d, r.sets, newest)
	for _, down := range downs {
		if err := r.scale(ctx, down.set, down.to); err != nil {
			return err
		}
	}
	if len(downs) == 0 && complete(r.d, &r.d.Status) {
		if err := r.cleanUp(ctx, newest); err != nil {
			return err
		}
	}
	return r.writeStatus(ctx, newest)
}

// recreate stops all old pods before the first new one starts.
func (r *rollout) recreate(ctx context.Context) error {
	r.judge = true
	newest := newestOf(r.d, r.sets)
	scaled := false
	for _, rs := range active(oldOf(r.sets, newest)) {
		if err := r.scale(ctx, rs, 0); err != nil {
			return err
		}
		scaled = true
	}
	if scaled {
		return r.writeStatus(ctx, newest)
	}
	running, err := r.oldPodsRunning(newest)
	if err != nil || running {
		if err != nil {
			return err
		}
		return r.writeStatus(ctx, newest)
	}
	if newest, err = r.newest(ctx, true); err != nil {
		return err
	}
	if *newest.Spec.Replicas != replicas(r.d) {
		if err := r.scale(ctx, newest, replicas(r.d)); err != nil {
			return err
		}
	}
	if complete(r.d, &r.d.Status) {
		if err := r.cleanUp(ctx, newest); err != nil {
			return err
		}
	}
	return r.writeStatus(ctx, newest)
}

// oldPodsRunning reports whether a pod of an old set may still be running.
func (r *rollout) oldPodsRunning(newest *appsv1.ReplicaSet) (bool, error) {
	for _, rs := range oldOf(r.sets, newest) {
		pods, err := reconcile.OwnedObjects[*corev1.Pod](r.c.pods, rs.UID)
		if err != nil {
			return false, err
		}
		for _, pod := range pods {
			if !podcontrol.Ended(pod) {
				return true, nil
			}
		}
	}
	return false, nil
}

// cleanUp removes old sets beyond revisionHistoryLimit, oldest revision first.
func (r *rollout) cleanUp(ctx context.Context, newest *appsv1.ReplicaSet) error {
	for _, rs := range surplus(r.d, oldOf(r.sets, newest)) {
		uid := rs.UID
		err := r.c.client.AppsV1().ReplicaSets(rs.Namespace).Delete(ctx, rs.Name,
			metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete old replica set: %w", err)
		}
	}
	return nil
}

// writeStatus computes the status from the sets and writes it when it changed.
func (r *rollout) writeStatus(ctx context.Context, newest *appsv1.ReplicaSet) error {
	status := countStatus(r.d, r.sets, newest, r.now)
	if r.judge {
		judgeProgress(r.d, &status, newest, r.now)
		copyFailure(&status, r.sets, newest)
		r.recheck = untilDeadline(r.d, &status, r.now)
	}
	if !statusChanged(&r.d.Status, &status) {
		return nil
	}
	d := r.d.DeepCopy()
	d.Status = status
	if _, err := r.c.client.AppsV1().Deployments(d.Namespace).UpdateStatus(ctx, d, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

// markPaused keeps the Progressing condition in step with spec.paused, so that
// time spent paused does not count against the progress deadline.
func (r *rollout) markPaused(ctx context.Context) error {
	if !hasDeadline(r.d) {
		return nil
	}
	c := condition(&r.d.Status, appsv1.DeploymentProgressing)
	if c != nil && c.Reason == reasonTimedOut {
		return nil
	}
	paused := c != nil && c.Reason == reasonPaused
	switch {
	case r.d.Spec.Paused && !paused:
		setCondition(&r.d.Status, newCondition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonPaused, "Deployment is paused", r.now))
	case !r.d.Spec.Paused && paused:
		setCondition(&r.d.Status, newCondition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonResumed, "Deployment is resumed", r.now))
	default:
		return nil
	}
	written, err := r.c.client.AppsV1().Deployments(r.d.Namespace).UpdateStatus(ctx, r.d, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("write paused condition: %w", err)
	}
	r.d = written
	return nil
}

package deployment

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
)

// newest returns the set of the present template, brought up to date in
// revision, annotations and minReadySeconds; made when missing and create is set.
func (r *rollout) newest(ctx context.Context, create bool) (*appsv1.ReplicaSet, error) {
	found := newestOf(r.d, r.sets)
	next := maxRevision(oldOf(r.sets, found)) + 1
	if found == nil {
		if !create {
			return nil, nil
		}
		return r.create(ctx, next)
	}
	update := found.DeepCopy()
	changed := annotateSet(r.d, update, next, true)
	if update.Spec.MinReadySeconds != r.d.Spec.MinReadySeconds {
		update.Spec.MinReadySeconds = r.d.Spec.MinReadySeconds
		changed = true
	}
	if changed {
		written, err := r.putSet(ctx, update)
		if err != nil {
			return nil, err
		}
		found = written
	}
	if err := r.setRevision(ctx, found.Annotations[annotationRevision]); err != nil {
		return nil, err
	}
	if hasDeadline(r.d) && condition(&r.d.Status, appsv1.DeploymentProgressing) == nil {
		setCondition(&r.d.Status, newCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue,
			reasonSetFound, fmt.Sprintf("Found new replica set %q", found.Name), r.now))
		return found, r.putStatus(ctx)
	}
	return found, nil
}

// putSet updates a set and replaces it in r.sets.
func (r *rollout) putSet(ctx context.Context, rs *appsv1.ReplicaSet) (*appsv1.ReplicaSet, error) {
	written, err := r.c.client.AppsV1().ReplicaSets(rs.Namespace).Update(ctx, rs, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("update replica set %s: %w", rs.Name, err)
	}
	for i := range r.sets {
		if r.sets[i].UID == written.UID {
			r.sets[i] = written
		}
	}
	return written, nil
}

// setRevision shows the newest set's revision on the deployment.
func (r *rollout) setRevision(ctx context.Context, rev string) error {
	if rev == "" || r.d.Annotations[annotationRevision] == rev {
		return nil
	}
	d := r.d.DeepCopy()
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	d.Annotations[annotationRevision] = rev
	written, err := r.c.client.AppsV1().Deployments(d.Namespace).Update(ctx, d, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("write revision: %w", err)
	}
	status := r.d.Status
	r.d = written
	r.d.Status = status
	return nil
}

func (r *rollout) putStatus(ctx context.Context) error {
	written, err := r.c.client.AppsV1().Deployments(r.d.Namespace).UpdateStatus(ctx, r.d, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	r.d = written
	return nil
}

// create makes the set of the present template.
func (r *rollout) create(ctx context.Context, next int64) (*appsv1.ReplicaSet, error) {
	rs := newSet(r.d, r.sets, next)
	made, err := r.c.client.AppsV1().ReplicaSets(rs.Namespace).Create(ctx, rs, metav1.CreateOptions{})
	switch {
	case apierrors.IsAlreadyExists(err):
		made, err = r.sameOrCollision(ctx, rs, err)
		if err != nil {
			return nil, err
		}
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil, fmt.Errorf("create replica set %s: %w", rs.Name, err)
	case err != nil:
		r.c.events.Eventf(r.d, corev1.EventTypeWarning, reasonCreateError, "Failed to create new replica set %q: %v", rs.Name, err)
		if hasDeadline(r.d) {
			setCondition(&r.d.Status, newCondition(appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonCreateError,
				fmt.Sprintf("Failed to create new replica set %q: %v", rs.Name, err), r.now))
			if err := r.putStatus(ctx); err != nil {
				slog.Warn("create failure not recorded in the status", "deployment", r.d.Namespace+"/"+r.d.Name, "err", err)
			}
		}
		return nil, fmt.Errorf("create replica set %s: %w", rs.Name, err)
	default:
		slog.Info("replica set created", "deployment", r.d.Namespace+"/"+r.d.Name, "replicaSet", made.Name, "revision", next)
		if n := *made.Spec.Replicas; n > 0 {
			r.c.events.Eventf(r.d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled up replica set %s from 0 to %d", made.Name, n)
		}
	}
	r.sets = append(r.sets, made)
	if err := r.setRevision(ctx, made.Annotations[annotationRevision]); err != nil {
		return nil, err
	}
	if hasDeadline(r.d) {
		setCondition(&r.d.Status, newCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue,
			reasonSetCreated, fmt.Sprintf("Created new replica set %q", made.Name), r.now))
		return made, r.putStatus(ctx)
	}
	return made, nil
}

// newSet builds the set of the deployment's template at its first size.
func newSet(d *appsv1.Deployment, sets []*appsv1.ReplicaSet, next int64) *appsv1.ReplicaSet {
	template := *d.Spec.Template.DeepCopy()
	hash := podcontrol.TemplateHash(&template, d.Status.CollisionCount)
	template.Labels = with(template.Labels, appsv1.DefaultDeploymentUniqueLabelKey, hash)
	selector := d.Spec.Selector.DeepCopy()
	selector.MatchLabels = with(selector.MatchLabels, appsv1.DefaultDeploymentUniqueLabelKey, hash)
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: d.Name + "-" + hash, Namespace: d.Namespace, Labels: maps.Clone(template.Labels),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, kindDeployment)},
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: new(int32), MinReadySeconds: d.Spec.MinReadySeconds, Selector: selector, Template: template,
		},
	}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		rs.Spec.Replicas = ptr.To(replicas(d))
	} else {
		rs.Spec.Replicas = ptr.To(nextNewReplicas(d, sets, rs))
	}
	annotateSet(d, rs, next, false)
	return rs
}

func with(labels map[string]string, key, value string) map[string]string {
	labels = maps.Clone(labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[key] = value
	return labels
}

// sameOrCollision handles a set name that is taken: by our own set that the
// cache has not shown yet, or by another template with the same hash, which
// raises the collision count for the next attempt.
func (r *rollout) sameOrCollision(ctx context.Context, want *appsv1.ReplicaSet, exists error) (*appsv1.ReplicaSet, error) {
	there, err := r.c.client.AppsV1().ReplicaSets(want.Namespace).Get(ctx, want.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read replica set %s: %w", want.Name, err)
	}
	if metav1.IsControlledBy(there, r.d) && sameTemplate(&there.Spec.Template, &r.d.Spec.Template) {
		return there, nil
	}
	r.d.Status.CollisionCount = ptr.To(ptr.Deref(r.d.Status.CollisionCount, 0) + 1)
	if err := r.putStatus(ctx); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("create replica set: its name collides: %w", exists)
}

// scale sets a set's size, and records what the deployment asked for.
func (r *rollout) scale(ctx context.Context, rs *appsv1.ReplicaSet, to int32) error {
	from := ptr.Deref(rs.Spec.Replicas, 1)
	update := rs.DeepCopy()
	update.Spec.Replicas = &to
	if !annotateSize(r.d, update) && from == to {
		return nil
	}
	if _, err := r.putSet(ctx, update); err != nil {
		return err
	}
	if from == to {
		return nil
	}
	direction := "up"
	if to < from {
		direction = "down"
	}
	slog.Info("replica set scaled", "replicaSet", rs.Namespace+"/"+rs.Name, "from", from, "to", to)
	r.c.events.Eventf(r.d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", direction, rs.Name, from, to)
	return nil
}

// rollBack replaces the template by that of an earlier revision.
func (r *rollout) rollBack(ctx context.Context) error {
	if _, err := r.newest(ctx, true); err != nil {
		return err
	}
	d := r.d.DeepCopy()
	to, err := strconv.ParseInt(d.Annotations[appsv1.DeprecatedRollbackTo], 10, 64)
	delete(d.Annotations, appsv1.DeprecatedRollbackTo)
	if err == nil && to == 0 {
		to = lastRevision(r.sets)
	}
	at := slices.IndexFunc(r.sets, func(rs *appsv1.ReplicaSet) bool { return to > 0 && revision(rs) == to })
	switch {
	case at < 0:
		r.c.events.Event(d, corev1.EventTypeWarning, "DeploymentRollbackRevisionNotFound", "Unable to find the revision to roll back to.")
	case sameTemplate(&d.Spec.Template, &r.sets[at].Spec.Template):
		r.c.events.Eventf(d, corev1.EventTypeWarning, "DeploymentRollbackTemplateUnchanged",
			"The rollback revision contains the same template as current deployment %q", d.Name)
	default:
		d.Spec.Template = *withoutHash(&r.sets[at].Spec.Template)
		restoreAnnotations(d, r.sets[at])
		r.c.events.Eventf(d, corev1.EventTypeNormal, "DeploymentRollback", "Rolled back deployment %q to revision %d", d.Name, to)
	}
	if _, err := r.c.client.AppsV1().Deployments(d.Namespace).Update(ctx, d, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("roll back to revision %d: %w", to, err)
	}
	return nil
}

// restoreAnnotations gives the deployment the annotations it had at that revision.
func restoreAnnotations(d *appsv1.Deployment, rs *appsv1.ReplicaSet) {
	restored := map[string]string{}
	for k, v := range d.Annotations {
		if slices.Contains(ownAnnotations, k) {
			restored[k] = v
		}
	}
	for k, v := range rs.Annotations {
		if !slices.Contains(ownAnnotations, k) {
			restored[k] = v
		}
	}
	d.Annotations = restored
}

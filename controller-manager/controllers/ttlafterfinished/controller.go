// Package ttlafterfinished deletes Jobs a while after they have finished, when
// their spec says how long that is. app/ lists it; it starts no goroutines.
package ttlafterfinished

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// Controller reconciles finished Jobs.
type Controller struct {
	client kubernetes.Interface
	jobs   cache.SharedIndexInformer
	lister batchlisters.JobLister
}

// New returns the controller.
func New(env reconcile.Env) *Controller {
	jobs := env.Informers.Batch().V1().Jobs()
	return &Controller{client: env.Client, jobs: jobs.Informer(), lister: jobs.Lister()}
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "ttl-after-finished-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch { return []reconcile.Watch{reconcile.Self(c.jobs)} }

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read key: %w", err)
	}
	job, err := c.lister.Jobs(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	end, ok := expiry(job)
	if !ok {
		return reconcile.Result{}, nil
	}
	if wait := time.Until(end); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	// The cache may be behind a longer TTL: only the API server's word counts.
	fresh, err := c.client.BatchV1().Jobs(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read job: %w", err)
	}
	if end, ok := expiry(fresh); !ok || time.Now().Before(end) || fresh.UID != job.UID {
		return reconcile.Result{}, nil
	}
	foreground := metav1.DeletePropagationForeground
	slog.Info("finished job deleted", "job", key, "uid", job.UID, "ttl", *fresh.Spec.TTLSecondsAfterFinished)
	err = c.client.BatchV1().Jobs(namespace).Delete(ctx, name, metav1.DeleteOptions{
		PropagationPolicy: &foreground, Preconditions: &metav1.Preconditions{UID: &fresh.UID, ResourceVersion: &fresh.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return reconcile.Result{}, fmt.Errorf("delete job: %w", err)
	}
	return reconcile.Result{}, nil
}

// expiry is when the Job may be deleted; false when never, or not yet known.
func expiry(job *batchv1.Job) (time.Time, bool) {
	if job.Spec.TTLSecondsAfterFinished == nil || job.DeletionTimestamp != nil {
		return time.Time{}, false
	}
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue && !c.LastTransitionTime.IsZero() {
			return c.LastTransitionTime.Add(time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second), true
		}
	}
	return time.Time{}, false
}

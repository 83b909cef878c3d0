// Package job runs the pods of a Job until enough have succeeded or too many
// have failed. Every pod is counted exactly once: it keeps a finalizer until
// the count that includes it is stored (KEP-2307). tally.go counts, verdict.go
// decides whether the Job is over, index.go knows completion indexes; all pure.
// app/ lists the controller; it starts no goroutines of its own.
package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

const (
	// burst is the most pods one reconcile creates (upstream MaxPodCreateDeletePerSync).
	burst = 500
	// uncountedMax bounds the pods counted in one write (upstream MaxUncountedPods).
	uncountedMax = 500
)

var kindJob = batchv1.SchemeGroupVersion.WithKind("Job")

// Controller reconciles Jobs.
type Controller struct {
	client     kubernetes.Interface
	events     record.EventRecorder
	ctl        podcontrol.Control
	expect     reconcile.Expectations
	jobs, pods cache.SharedIndexInformer
	lister     batchlisters.JobLister
}

// New returns the controller.
func New(env reconcile.Env) (*Controller, error) {
	events := env.Events("job-controller")
	c := &Controller{
		client: env.Client, events: events, ctl: podcontrol.Control{Client: env.Client, Events: events},
		jobs: env.Informers.Batch().V1().Jobs().Informer(), lister: env.Informers.Batch().V1().Jobs().Lister(),
		pods: env.Informers.Core().V1().Pods().Informer(),
	}
	if err := c.pods.AddIndexers(cache.Indexers{trackedIndex: trackedBy}); err != nil {
		return nil, fmt.Errorf("index tracked pods: %w", err)
	}
	return c, reconcile.IndexByOwner(c.pods)
}

// trackedIndex finds pods with the tracking finalizer by the key of their Job.
const trackedIndex = "tracked-by-job"

func trackedBy(obj any) ([]string, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok || !tracked(pod) {
		return nil, nil
	}
	if owner := reconcile.OwnerKey(pod, kindJob.Kind); owner != "" {
		return []string{owner}, nil
	}
	return nil, nil
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "job-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{
		reconcile.Self(c.jobs),
		reconcile.On(c.pods, func(q reconcile.Queue, old, now *corev1.Pod) {
			for _, pod := range []*corev1.Pod{old, now} {
				owner := ""
				if pod != nil {
					owner = reconcile.OwnerKey(pod, kindJob.Kind)
				}
				if owner == "" {
					continue
				}
				if old == nil {
					c.expect.Created(owner, 1)
				}
				if now == nil || now.DeletionTimestamp != nil {
					c.expect.Deleted(owner, reconcile.KeyOf(pod))
				}
				q.Add(owner)
			}
		}),
	}
}

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read key: %w", err)
	}
	cached, err := c.lister.Jobs(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		c.expect.Forget(key)
		return reconcile.Result{}, c.letOrphansGo(ctx, namespace, name, "")
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	if err := c.letOrphansGo(ctx, namespace, name, cached.UID); err != nil {
		return reconcile.Result{}, err
	}
	if by := ptr.Deref(cached.Spec.ManagedBy, batchv1.JobControllerName); by != batchv1.JobControllerName {
		return reconcile.Result{}, nil
	}
	settled := c.expect.Satisfied(key)
	pods, err := c.ownPods(ctx, cached)
	if err != nil {
		return reconcile.Result{}, err
	}
	if finished(cached) || cached.DeletionTimestamp != nil {
		return reconcile.Result{}, c.letGo(ctx, pods, func(*corev1.Pod) bool { return true })
	}
	return c.advance(ctx, key, cached, pods, settled)
}

// advance takes one step: count, judge, then make or delete pods.
func (c *Controller) advance(ctx context.Context, key string, cached *batchv1.Job, pods []*corev1.Pod, settled bool) (reconcile.Result, error) {
	job := cached.DeepCopy()
	now := time.Now()
	if job.Status.StartTime == nil && !suspended(job) {
		job.Status.StartTime = ptr.To(metav1.NewTime(now))
	}
	t := newTally(job, pods, now)
	t.count()
	v := judge(t)
	var workErr error
	switch {
	case v.over():
		workErr = c.remove(ctx, key, job, t.active)
	case suspended(job):
		workErr = c.remove(ctx, key, job, t.active)
	case settled && job.DeletionTimestamp == nil:
		workErr = c.manage(ctx, key, t)
	}
	t.conditions(v, c.event(job))
	if !equality.Semantic.DeepEqual(cached.Status, job.Status) {
		if _, err := c.client.BatchV1().Jobs(job.Namespace).UpdateStatus(ctx, job, metav1.UpdateOptions{}); err != nil {
			return reconcile.Result{}, errors.Join(workErr, fmt.Errorf("write status: %w", err))
		}
	}
	// Only what is stored as counted loses its finalizer.
	err := c.letGo(ctx, pods, t.stored)
	return reconcile.Result{RequeueAfter: t.recheck}, errors.Join(workErr, err)
}

func (c *Controller) event(job *batchv1.Job) func(kind, reason, message string) {
	return func(kind, reason, message string) {
		slog.Info("job state changed", "job", reconcile.KeyOf(job), "reason", reason)
		c.events.Event(job, kind, reason, message)
	}
}

func (c *Controller) ownPods(ctx context.Context, job *batchv1.Job) ([]*corev1.Pod, error) {
	selector, err := metav1.LabelSelectorAsSelector(job.Spec.Selector)
	if err != nil || selector.Empty() {
		return nil, err
	}
	candidates, err := reconcile.Dependents[*corev1.Pod](c.pods, job)
	if err != nil {
		return nil, err
	}
	return reconcile.Claim[*corev1.Pod]{
		Owner: job, Kind: kindJob, Selector: selector, Patch: c.ctl.Patch,
		Fresh: func(ctx context.Context) (metav1.Object, error) {
			return c.client.BatchV1().Jobs(job.Namespace).Get(ctx, job.Name, metav1.GetOptions{})
		},
		Adoptable: func(*corev1.Pod) bool { return !finished(job) },
	}.Own(ctx, candidates)
}

// manage brings the number of active pods to what is wanted now.
func (c *Controller) manage(ctx context.Context, key string, t *tally) error {
	want := t.wanted()
	if over := len(t.active) - want; over > 0 {
		victims := slices.Clone(t.active)
		podcontrol.SortForDeletion(victims, nil, t.now)
		return c.remove(ctx, key, t.job, victims[:over])
	}
	missing := min(want-len(t.active)-t.blocking(), burst)
	if missing <= 0 {
		return nil
	}
	if wait := t.backoff(); wait > 0 {
		t.soon(wait)
		return nil
	}
	indexes := t.freeIndexes(missing)
	if indexed(t.job) {
		missing = len(indexes)
	}
	ref := metav1.NewControllerRef(t.job, kindJob)
	c.expect.ExpectCreations(key, missing)
	done, err := reconcile.SlowStart(missing, func(i int) error {
		pod := podcontrol.FromTemplate(&t.job.Spec.Template, t.job, ref)
		pod.Finalizers = append(pod.Finalizers, batchv1.JobTrackingFinalizer)
		if indexed(t.job) {
			setIndex(t.job, pod, indexes[i])
		}
		_, err := c.ctl.Create(ctx, t.job, pod)
		return err
	})
	c.expect.Created(key, missing-done)
	t.job.Status.Active += int32(done)
	return err
}

// remove deletes active pods.
func (c *Controller) remove(ctx context.Context, key string, job *batchv1.Job, pods []*corev1.Pod) error {
	_, err := reconcile.Parallel(len(pods), func(i int) error {
		c.expect.ExpectDeletions(key, []string{reconcile.KeyOf(pods[i])})
		err := c.ctl.Delete(ctx, job, pods[i])
		if err != nil {
			c.expect.Deleted(key, reconcile.KeyOf(pods[i]))
		}
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	return err
}

// letGo removes the tracking finalizer from the pods that may go.
func (c *Controller) letGo(ctx context.Context, pods []*corev1.Pod, may func(*corev1.Pod) bool) error {
	var errs []error
	for _, pod := range pods {
		if !tracked(pod) || !may(pod) {
			continue
		}
		rest := slices.DeleteFunc(slices.Clone(pod.Finalizers), func(f string) bool { return f == batchv1.JobTrackingFinalizer })
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion, "finalizers": rest}})
		if err == nil {
			err = c.ctl.Patch(ctx, pod, types.MergePatchType, patch)
		}
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("remove tracking finalizer: %w", err))
		}
	}
	return errors.Join(errs...)
}

// letOrphansGo removes the tracking finalizer from the pods of Jobs of this
// name that are gone: all but the one that lives, which may be "". Nobody
// else would, and the pods and their namespace could never go.
func (c *Controller) letOrphansGo(ctx context.Context, namespace, name string, living types.UID) error {
	objects, err := c.pods.GetIndexer().ByIndex(trackedIndex, namespace+"/"+name)
	if err != nil {
		return fmt.Errorf("look up tracked pods: %w", err)
	}
	var orphans []*corev1.Pod
	for _, obj := range objects {
		if pod, ok := obj.(*corev1.Pod); ok && metav1.GetControllerOf(pod).UID != living {
			orphans = append(orphans, pod)
		}
	}
	if len(orphans) == 0 {
		return nil
	}
	// The cache may be behind.
	job, err := c.client.BatchV1().Jobs(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("read job: %w", err)
	}
	return c.letGo(ctx, orphans, func(pod *corev1.Pod) bool {
		return err != nil || metav1.GetControllerOf(pod).UID != job.UID
	})
}

func tracked(pod *corev1.Pod) bool {
	return slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer)
}

func suspended(job *batchv1.Job) bool { return ptr.Deref(job.Spec.Suspend, false) }

// finished reports whether the Job is Complete or Failed for good.
func finished(job *batchv1.Job) bool {
	return isTrue(job, batchv1.JobComplete) || isTrue(job, batchv1.JobFailed)
}

func isTrue(job *batchv1.Job, kind batchv1.JobConditionType) bool {
	return slices.ContainsFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Type == kind && c.Status == corev1.ConditionTrue
	})
}

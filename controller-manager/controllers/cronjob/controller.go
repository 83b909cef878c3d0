// Package cronjob makes Jobs from CronJobs at the times of their schedules and
// keeps the last ones. schedule.go reads cron expressions, missed.go finds the
// time that is due; both pure. app/ lists it; it starts no goroutines.
package cronjob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

var kindCronJob = batchv1.SchemeGroupVersion.WithKind("CronJob")

// Controller reconciles CronJobs.
type Controller struct {
	client      kubernetes.Interface
	events      record.EventRecorder
	crons, jobs cache.SharedIndexInformer
	lister      batchlisters.CronJobLister
}

// New returns the controller.
func New(env reconcile.Env) (*Controller, error) {
	batch := env.Informers.Batch().V1()
	c := &Controller{
		client: env.Client, events: env.Events("cronjob-controller"),
		crons: batch.CronJobs().Informer(), lister: batch.CronJobs().Lister(), jobs: batch.Jobs().Informer(),
	}
	return c, reconcile.IndexByOwner(c.jobs)
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "cronjob-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{reconcile.Self(c.crons), reconcile.OwnedBy(c.jobs, kindCronJob.Kind)}
}

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read key: %w", err)
	}
	cached, err := c.lister.CronJobs(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	cron := cached.DeepCopy()
	jobs, err := reconcile.OwnedObjects[*batchv1.Job](c.jobs, cron.UID)
	if err != nil {
		return reconcile.Result{}, err
	}
	c.follow(cron, jobs)
	workErr := c.cleanUp(ctx, cron, jobs)
	var again time.Duration
	if cron.DeletionTimestamp == nil && !ptr.Deref(cron.Spec.Suspend, false) {
		var err error
		again, err = c.run(ctx, cron, jobs, time.Now())
		workErr = errors.Join(workErr, err)
	}
	if !equality.Semantic.DeepEqual(cached.Status, cron.Status) {
		if _, err := c.client.BatchV1().CronJobs(namespace).UpdateStatus(ctx, cron, metav1.UpdateOptions{}); err != nil {
			return reconcile.Result{}, errors.Join(workErr, fmt.Errorf("write status: %w", err))
		}
	}
	return reconcile.Result{RequeueAfter: again}, workErr
}

// follow keeps the list of active Jobs and the time of the last success.
func (c *Controller) follow(cron *batchv1.CronJob, jobs []*batchv1.Job) {
	var active []corev1.ObjectReference
	for _, job := range jobs {
		kind, at := outcome(job)
		if kind == batchv1.JobComplete && (cron.Status.LastSuccessfulTime == nil || at.After(cron.Status.LastSuccessfulTime.Time)) {
			cron.Status.LastSuccessfulTime = &at
		}
		if kind == "" {
			active = append(active, reference(job))
		} else if slices.ContainsFunc(cron.Status.Active, func(r corev1.ObjectReference) bool { return r.UID == job.UID }) {
			c.events.Eventf(cron, corev1.EventTypeNormal, "SawCompletedJob", "Saw completed job: %s, condition: %v", job.Name, kind)
		}
	}
	slices.SortFunc(active, func(a, b corev1.ObjectReference) int { return cmp.Compare(a.Name, b.Name) })
	cron.Status.Active = active
}

// outcome returns Complete or Failed and when, "" while the Job goes on.
func outcome(job *batchv1.Job) (batchv1.JobConditionType, metav1.Time) {
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			if c.Type == batchv1.JobComplete && job.Status.CompletionTime != nil {
				return c.Type, *job.Status.CompletionTime
			}
			return c.Type, c.LastTransitionTime
		}
	}
	return "", metav1.Time{}
}

func reference(job *batchv1.Job) corev1.ObjectReference {
	return corev1.ObjectReference{
		APIVersion: "batch/v1", Kind: "Job", Namespace: job.Namespace, Name: job.Name, UID: job.UID, ResourceVersion: job.ResourceVersion,
	}
}

// cleanUp deletes finished Jobs beyond the history limits, oldest first.
func (c *Controller) cleanUp(ctx context.Context, cron *batchv1.CronJob, jobs []*batchv1.Job) error {
	byOutcome := map[batchv1.JobConditionType][]*batchv1.Job{}
	for _, job := range jobs {
		if kind, _ := outcome(job); kind != "" && job.DeletionTimestamp == nil {
			byOutcome[kind] = append(byOutcome[kind], job)
		}
	}
	var errs []error
	for kind, limit := range map[batchv1.JobConditionType]*int32{
		batchv1.JobComplete: cron.Spec.SuccessfulJobsHistoryLimit, batchv1.JobFailed: cron.Spec.FailedJobsHistoryLimit,
	} {
		done := byOutcome[kind]
		if limit == nil || len(done) <= int(*limit) {
			continue
		}
		slices.SortFunc(done, func(a, b *batchv1.Job) int {
			return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
		for _, job := range done[:len(done)-int(*limit)] {
			errs = append(errs, c.delete(ctx, cron, job))
		}
	}
	return errors.Join(errs...)
}

func (c *Controller) delete(ctx context.Context, cron *batchv1.CronJob, job *batchv1.Job) error {
	background := metav1.DeletePropagationBackground
	err := c.client.BatchV1().Jobs(job.Namespace).Delete(ctx, job.Name, metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: &job.UID}})
	if err != nil && !apierrors.IsNotFound(err) {
		c.events.Eventf(cron, corev1.EventTypeWarning, "FailedDelete", "Deleted job: %v", err)
		return fmt.Errorf("delete job %s: %w", job.Name, err)
	}
	slog.Info("job of cron job deleted", "job", reconcile.KeyOf(job), "cronJob", cron.Name)
	c.events.Eventf(cron, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job %v", job.Name)
	return nil
}

// run starts the Job that is due, and returns when the next one is.
func (c *Controller) run(ctx context.Context, cron *batchv1.CronJob, jobs []*batchv1.Job, now time.Time) (time.Duration, error) {
	location := time.Local
	if cron.Spec.TimeZone != nil {
		l, err := time.LoadLocation(*cron.Spec.TimeZone)
		if err != nil {
			c.events.Eventf(cron, corev1.EventTypeWarning, "UnknownTimeZone", "invalid timeZone: %q: %v", *cron.Spec.TimeZone, err)
			return 0, nil
		}
		location = l
	}
	plan, err := parseSchedule(cron.Spec.Schedule)
	if err != nil {
		c.events.Eventf(cron, corev1.EventTypeWarning, "UnparseableSchedule", "unparseable schedule: %q : %v", cron.Spec.Schedule, err)
		return 0, nil
	}
	again := time.Duration(0)
	if next := plan.next(now.In(location)); !next.IsZero() {
		again = next.Sub(now) + 100*time.Millisecond // surely after it, as upstream waits
	}
	due, many := latestDue(cron, plan, now.In(location))
	if due.IsZero() {
		return again, nil
	}
	if many {
		c.events.Event(cron, corev1.EventTypeWarning, "TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	if limit := cron.Spec.StartingDeadlineSeconds; limit != nil && due.Add(time.Duration(*limit)*time.Second).Before(now) {
		c.events.Eventf(cron, corev1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: %s", due.UTC().Format(time.RFC1123Z))
		return again, nil
	}
	name := fmt.Sprintf("%s-%d", cron.Name, due.Unix()/60)
	if slices.ContainsFunc(jobs, func(j *batchv1.Job) bool { return j.Name == name }) {
		cron.Status.LastScheduleTime = ptr.To(metav1.NewTime(due))
		return again, nil
	}
	switch cron.Spec.ConcurrencyPolicy {
	case batchv1.ForbidConcurrent:
		if len(cron.Status.Active) > 0 {
			c.events.Event(cron, corev1.EventTypeNormal, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
			return again, nil
		}
	case batchv1.ReplaceConcurrent:
		for _, job := range jobs {
			if kind, _ := outcome(job); kind == "" {
				if err := c.delete(ctx, cron, job); err != nil {
					return 0, err
				}
			}
		}
		cron.Status.Active = nil
	}
	return again, c.start(ctx, cron, name, due)
}

func (c *Controller) start(ctx context.Context, cron *batchv1.CronJob, name string, due time.Time) error {
	template := cron.Spec.JobTemplate.DeepCopy()
	annotations := maps.Clone(template.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[batchv1.CronJobScheduledTimestampAnnotation] = due.Format(time.RFC3339)
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: cron.Namespace, Labels: template.Labels, Annotations: annotations,
			CreationTimestamp: metav1.NewTime(due), OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cron, kindCronJob)},
		},
		Spec: template.Spec,
	}
	made, err := c.client.BatchV1().Jobs(cron.Namespace).Create(ctx, job, metav1.CreateOptions{})
	switch {
	case apierrors.IsAlreadyExists(err):
		there, getErr := c.client.BatchV1().Jobs(cron.Namespace).Get(ctx, name, metav1.GetOptions{})
		if getErr != nil || !metav1.IsControlledBy(there, cron) {
			return fmt.Errorf("create job %s: %w", name, errors.Join(err, getErr))
		}
		made = there
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	case err != nil:
		c.events.Eventf(cron, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %v", err)
		return fmt.Errorf("create job %s: %w", name, err)
	default:
		slog.Info("job of cron job created", "job", reconcile.KeyOf(made), "due", due)
		c.events.Eventf(cron, corev1.EventTypeNormal, "SuccessfulCreate", "Created job %v", made.Name)
	}
	if kind, _ := outcome(made); kind == "" {
		cron.Status.Active = append(cron.Status.Active, reference(made))
	}
	cron.Status.LastScheduleTime = ptr.To(metav1.NewTime(due))
	return nil
}

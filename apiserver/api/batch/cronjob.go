package batch

import (
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/podspec"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// CronJob defines the kind.
func CronJob() *resource.Definition {
	d := &resource.Definition{
		Kind:                     batchv1.SchemeGroupVersion.WithKind("CronJob"),
		Resource:                 "cronjobs",
		ShortNames:               []string{"cj"},
		Categories:               []string{"all"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &batchv1.CronJob{} },
		NewList:                  func() runtime.Object { return &batchv1.CronJobList{} },
		Default:                  typed.Do(defaultCronJob),
		Validate:                 typed.Check(validateCronJob),
		ValidateUpdate:           typed.Check2(validateCronJobUpdate),
		AllowUnconditionalUpdate: true,
		Columns:                  cronJobColumns(),
		Row:                      typed.Row(cronJobRow),
	}
	typed.Parts[*batchv1.CronJob, batchv1.CronJobSpec, batchv1.CronJobStatus]{
		Spec:       func(c *batchv1.CronJob) *batchv1.CronJobSpec { return &c.Spec },
		Status:     func(c *batchv1.CronJob) *batchv1.CronJobStatus { return &c.Status },
		Generation: true,
	}.Apply(d)
	return d
}

func defaultCronJob(c *batchv1.CronJob) {
	spec := &c.Spec
	if spec.ConcurrencyPolicy == "" {
		spec.ConcurrencyPolicy = batchv1.AllowConcurrent
	}
	setPointer(&spec.Suspend, false)
	setPointer(&spec.SuccessfulJobsHistoryLimit, 3)
	setPointer(&spec.FailedJobsHistoryLimit, 1)
	// Of the job template only the Pod part is defaulted here; the rest when
	// a Job is made of it.
	podspec.Default(&spec.JobTemplate.Spec.Template.Spec)
}

func cronJobColumns() []column.Definition {
	spec, status := batchv1.CronJobSpec{}.SwaggerDoc(), batchv1.CronJobStatus{}.SwaggerDoc()
	columns := []column.Definition{
		column.Name(),
		column.Text("Schedule", spec["schedule"]),
		column.Text("Timezone", spec["timeZone"]),
		column.Bool("Suspend", spec["suspend"]),
		column.Number("Active", status["active"]),
		column.Text("Last Schedule", status["lastScheduleTime"]),
		column.Age(),
	}
	columns = append(columns, column.Containers()...)
	return append(columns, column.Wide(column.Text("Selector", batchv1.JobSpec{}.SwaggerDoc()["selector"]))...)
}

func cronJobRow(c *batchv1.CronJob, now metav1.Time) []any {
	last := column.None
	if c.Status.LastScheduleTime != nil {
		last = column.Since(*c.Status.LastScheduleTime, now)
	}
	names, images := column.ContainerCells(c.Spec.JobTemplate.Spec.Template.Spec.Containers)
	return []any{
		c.Name, c.Spec.Schedule, ptr.Deref(c.Spec.TimeZone, column.None), suspended(c.Spec.Suspend), int64(len(c.Status.Active)),
		last, column.Since(c.CreationTimestamp, now), names, images, metav1.FormatLabelSelector(c.Spec.JobTemplate.Spec.Selector),
	}
}

// suspended is text although the column is boolean: that is what kubectl has
// always been sent.
func suspended(flag *bool) string {
	switch {
	case flag == nil:
		return "<unset>"
	case *flag:
		return "True"
	default:
		return "False"
	}
}

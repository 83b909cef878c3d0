package batch

import (
	"fmt"
	"maps"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/podspec"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Job defines the kind.
func Job() *resource.Definition {
	return &resource.Definition{
		Kind:                     batchv1.SchemeGroupVersion.WithKind("Job"),
		Resource:                 "jobs",
		Categories:               []string{"all"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &batchv1.Job{} },
		NewList:                  func() runtime.Object { return &batchv1.JobList{} },
		Default:                  typed.Do(defaultJob),
		PrepareCreate:            typed.Do(createJob),
		PrepareUpdate:            typed.Do2(updateJob),
		Validate:                 typed.Check(validateJob),
		ValidateUpdate:           typed.Check2(validateJobUpdate),
		AllowUnconditionalUpdate: true,
		DefaultDeletePropagation: metav1.DeletePropagationOrphan,
		Fields: typed.Fields(func(j *batchv1.Job) map[string]string {
			return map[string]string{"status.successful": strconv.Itoa(int(j.Status.Succeeded))}
		}),
		Columns: jobColumns(),
		Row:     typed.Row(jobRow),
		Status: &resource.StatusUpdate{
			Prepare: typed.Do2(func(j, old *batchv1.Job) {
				j.Spec = old.Spec
				j.Generation = old.Generation
			}),
			Validate: typed.Check2(validateJobStatus),
		},
	}
}

func defaultJob(j *batchv1.Job) {
	if len(j.Labels) == 0 {
		j.Labels = maps.Clone(j.Spec.Template.Labels)
	}
	defaultJobSpec(&j.Spec)
}

func defaultJobSpec(spec *batchv1.JobSpec) {
	podspec.Default(&spec.Template.Spec)
	if spec.Completions == nil && spec.Parallelism == nil {
		setPointer(&spec.Completions, 1)
	}
	setPointer(&spec.Parallelism, 1)
	if spec.BackoffLimit == nil {
		limit := int32(6)
		if spec.BackoffLimitPerIndex != nil {
			// Failures are bounded per index instead (KEP-3850).
			limit = 1<<31 - 1
		}
		spec.BackoffLimit = &limit
	}
	setPointer(&spec.CompletionMode, batchv1.NonIndexedCompletion)
	setPointer(&spec.Suspend, false)
	setPointer(&spec.ManualSelector, false)
	if spec.PodReplacementPolicy == nil {
		policy := batchv1.TerminatingOrFailed
		if spec.PodFailurePolicy != nil {
			policy = batchv1.Failed
		}
		spec.PodReplacementPolicy = &policy
	}
	if spec.PodFailurePolicy == nil {
		return
	}
	for i := range spec.PodFailurePolicy.Rules {
		patterns := spec.PodFailurePolicy.Rules[i].OnPodConditions
		for j := range patterns {
			if patterns[j].Status == "" {
				patterns[j].Status = corev1.ConditionTrue
			}
		}
	}
}

func setPointer[T any](target **T, value T) {
	if *target == nil {
		*target = &value
	}
}

func createJob(j *batchv1.Job) {
	generateSelector(j)
	j.Generation = 1
	j.Status = batchv1.JobStatus{}
}

// generateSelector gives the Job a selector of its own: its uid. Without that,
// two Jobs of the same template would fight over Pods. The old label keys stay
// for old readers.
func generateSelector(j *batchv1.Job) {
	if ptr.Deref(j.Spec.ManualSelector, false) || j.UID == "" {
		return
	}
	if j.Spec.Template.Labels == nil {
		j.Spec.Template.Labels = map[string]string{}
	}
	labels := j.Spec.Template.Labels
	for key, value := range map[string]string{
		batchv1.JobNameLabel: j.Name, "job-name": j.Name,
		batchv1.ControllerUidLabel: string(j.UID), "controller-uid": string(j.UID),
	} {
		if _, ok := labels[key]; !ok {
			labels[key] = value
		}
	}
	if j.Spec.Selector == nil {
		j.Spec.Selector = &metav1.LabelSelector{}
	}
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	if _, ok := j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel]; !ok {
		j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel] = string(j.UID)
	}
}

func updateJob(j, old *batchv1.Job) {
	j.Status = old.Status
	typed.BumpGeneration(j, old, !equality.Semantic.DeepEqual(j.Spec, old.Spec))
}

func jobColumns() []column.Definition {
	spec := batchv1.JobSpec{}.SwaggerDoc()
	columns := []column.Definition{
		column.Name(),
		column.Text("Status", "Status of the job."),
		column.Text("Completions", batchv1.JobStatus{}.SwaggerDoc()["succeeded"]),
		column.Text("Duration", "Time required to complete the job."),
		column.Age(),
	}
	columns = append(columns, column.Containers()...)
	return append(columns, column.Wide(column.Text("Selector", spec["selector"]))...)
}

func jobRow(j *batchv1.Job, now metav1.Time) []any {
	names, images := column.ContainerCells(j.Spec.Template.Spec.Containers)
	return []any{
		j.Name, jobState(j), jobCompletions(j), jobDuration(j, now),
		column.Since(j.CreationTimestamp, now), names, images, metav1.FormatLabelSelector(j.Spec.Selector),
	}
}

func jobCompletions(j *batchv1.Job) string {
	if j.Spec.Completions != nil {
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	}
	if parallelism := ptr.Deref(j.Spec.Parallelism, 0); parallelism > 1 {
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, parallelism)
	}
	return fmt.Sprintf("%d/1", j.Status.Succeeded)
}

func jobDuration(j *batchv1.Job, now metav1.Time) string {
	switch {
	case j.Status.StartTime == nil:
		return ""
	case j.Status.CompletionTime == nil:
		return duration.HumanDuration(now.Sub(j.Status.StartTime.Time))
	default:
		return duration.HumanDuration(j.Status.CompletionTime.Sub(j.Status.StartTime.Time))
	}
}

func jobState(j *batchv1.Job) string {
	has := func(kind batchv1.JobConditionType) bool {
		for _, c := range j.Status.Conditions {
			if c.Type == kind && c.Status == corev1.ConditionTrue {
				return true
			}
		}
		return false
	}
	switch {
	case has(batchv1.JobComplete):
		return "Complete"
	case has(batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case has(batchv1.JobSuspended):
		return "Suspended"
	case has(batchv1.JobFailureTarget):
		return "FailureTarget"
	case has(batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	default:
		return "Running"
	}
}

package batch

import (
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxCronJobName leaves room for the 11 characters that a Job's name appends.
const maxCronJobName = validation.DNS1035LabelMaxLength - 11

func validateCronJob(c *batchv1.CronJob) field.ErrorList {
	var errs field.ErrorList
	if len(c.Name) > maxCronJobName {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), c.Name, fmt.Sprintf("must be no more than %d characters", maxCronJobName)))
	}
	spec := field.NewPath("spec")
	if c.Spec.Schedule == "" {
		errs = append(errs, field.Required(spec.Child("schedule"), ""))
	} else {
		errs = append(errs, validateSchedule(c.Spec.Schedule, spec.Child("schedule"))...)
	}
	if c.Spec.StartingDeadlineSeconds != nil {
		errs = append(errs, apivalidation.ValidateNonnegativeField(*c.Spec.StartingDeadlineSeconds, spec.Child("startingDeadlineSeconds"))...)
	}
	errs = append(errs, validateTimeZone(c.Spec.TimeZone, spec.Child("timeZone"))...)
	known := []batchv1.ConcurrencyPolicy{batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent}
	switch {
	case c.Spec.ConcurrencyPolicy == "":
		errs = append(errs, field.Required(spec.Child("concurrencyPolicy"), ""))
	case !slices.Contains(known, c.Spec.ConcurrencyPolicy):
		errs = append(errs, field.NotSupported(spec.Child("concurrencyPolicy"), c.Spec.ConcurrencyPolicy, known))
	}
	for name, limit := range map[string]*int32{"successfulJobsHistoryLimit": c.Spec.SuccessfulJobsHistoryLimit, "failedJobsHistoryLimit": c.Spec.FailedJobsHistoryLimit} {
		if limit != nil {
			errs = append(errs, apivalidation.ValidateNonnegativeField(int64(*limit), spec.Child(name))...)
		}
	}
	return append(errs, validateJobTemplate(&c.Spec.JobTemplate, spec.Child("jobTemplate"))...)
}

func validateJobTemplate(t *batchv1.JobTemplateSpec, path *field.Path) field.ErrorList {
	errs := validateJobSpec(&t.Spec, path.Child("spec"))
	if t.Spec.Selector != nil {
		errs = append(errs, field.Invalid(path.Child("spec", "selector"), t.Spec.Selector, "`selector` will be auto-generated"))
	}
	if t.Spec.ManualSelector != nil && *t.Spec.ManualSelector {
		errs = append(errs, field.NotSupported(path.Child("spec", "manualSelector"), t.Spec.ManualSelector, []string{"nil", "false"}))
	}
	return errs
}

// validateTimeZone checks the form only: the zones are known to the
// controller, whose database may be another one.
func validateTimeZone(zone *string, path *field.Path) field.ErrorList {
	if zone == nil {
		return nil
	}
	switch {
	case *zone == "":
		return field.ErrorList{field.Invalid(path, *zone, "timeZone must be nil or non-empty string")}
	case strings.EqualFold(*zone, "Local"):
		return field.ErrorList{field.Invalid(path, *zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")}
	}
	for _, part := range strings.Split(*zone, "/") {
		clean := strings.Trim(part, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-")
		if part == "" || clean != "" {
			return field.ErrorList{field.Invalid(path, *zone, fmt.Sprintf("unknown time zone %s", *zone))}
		}
	}
	return nil
}

func validateCronJobUpdate(c, old *batchv1.CronJob) field.ErrorList {
	errs := validateCronJob(c)
	if c.Spec.Schedule != old.Spec.Schedule && strings.Contains(c.Spec.Schedule, "TZ") {
		errs = append(errs, field.Invalid(field.NewPath("spec", "schedule"), c.Spec.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
	}
	return errs
}

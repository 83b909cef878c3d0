package batch

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/podspec"
)

// Bounds of the batch/v1 API reference.
const (
	maxIndexedParallelism = 100_000
	maxFailureRules       = 20
	maxExitCodes          = 255
	maxPodConditions      = 20
)

func validateJob(j *batchv1.Job) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateJobSpec(&j.Spec, spec)
	if ptr.Deref(j.Spec.CompletionMode, batchv1.NonIndexedCompletion) == batchv1.IndexedCompletion && j.Spec.Completions != nil && *j.Spec.Completions > 0 {
		// Pods are named <job>-<index>, and that is their host name too.
		name := fmt.Sprintf("%s-%d", j.Name, *j.Spec.Completions-1)
		for _, msg := range validation.IsDNS1123Label(name) {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), j.Name, fmt.Sprintf("will not able to create pod with invalid DNS label: %s: %s", name, msg)))
		}
	}
	if j.Spec.Selector == nil {
		return append(errs, field.Required(spec.Child("selector"), ""))
	}
	errs = append(errs, metavalidation.ValidateLabelSelector(j.Spec.Selector, metavalidation.LabelSelectorValidationOptions{}, spec.Child("selector"))...)
	if selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !selector.Matches(labels.Set(j.Spec.Template.Labels)) {
		errs = append(errs, field.Invalid(spec.Child("template", "metadata", "labels"), j.Spec.Template.Labels, "`selector` does not match template `labels`"))
	}
	return append(errs, validateGenerated(j)...)
}

// validateGenerated: a selector the server makes must have been made.
func validateGenerated(j *batchv1.Job) field.ErrorList {
	if ptr.Deref(j.Spec.ManualSelector, false) {
		return nil
	}
	var errs field.ErrorList
	at := field.NewPath("spec", "template", "metadata", "labels")
	if j.Spec.Template.Labels[batchv1.ControllerUidLabel] != string(j.UID) {
		errs = append(errs, field.Invalid(at.Key(batchv1.ControllerUidLabel), j.Spec.Template.Labels[batchv1.ControllerUidLabel], fmt.Sprintf("must be '%s'", j.UID)))
	}
	if j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel] != string(j.UID) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

func validateJobSpec(s *batchv1.JobSpec, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		name  string
		value *int32
	}{
		{"parallelism", s.Parallelism}, {"completions", s.Completions}, {"backoffLimit", s.BackoffLimit},
		{"ttlSecondsAfterFinished", s.TTLSecondsAfterFinished}, {"backoffLimitPerIndex", s.BackoffLimitPerIndex},
		{"maxFailedIndexes", s.MaxFailedIndexes},
	} {
		if f.value != nil {
			errs = append(errs, apivalidation.ValidateNonnegativeField(int64(*f.value), spec.Child(f.name))...)
		}
	}
	if s.ActiveDeadlineSeconds != nil {
		errs = append(errs, apivalidation.ValidateNonnegativeField(*s.ActiveDeadlineSeconds, spec.Child("activeDeadlineSeconds"))...)
	}
	errs = append(errs, validateCompletionMode(s, spec)...)
	errs = append(errs, validateFailurePolicy(s, spec)...)
	errs = append(errs, validateReplacement(s, spec)...)
	if s.ManagedBy != nil {
		errs = append(errs, validation.IsDomainPrefixedPath(spec.Child("managedBy"), *s.ManagedBy)...)
	}
	errs = append(errs, podspec.ValidateTemplate(&s.Template, spec.Child("template"))...)
	if policy := s.Template.Spec.RestartPolicy; policy != corev1.RestartPolicyOnFailure && policy != corev1.RestartPolicyNever {
		at := spec.Child("template", "spec", "restartPolicy")
		// The default, Always, is what people get here by leaving it out.
		if policy == corev1.RestartPolicyAlways || policy == "" {
			errs = append(errs, field.Required(at, fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)))
		} else {
			errs = append(errs, field.NotSupported(at, policy, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}))
		}
	}
	return errs
}

func validateCompletionMode(s *batchv1.JobSpec, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	mode := ptr.Deref(s.CompletionMode, batchv1.NonIndexedCompletion)
	indexed := mode == batchv1.IndexedCompletion
	if !indexed && mode != batchv1.NonIndexedCompletion {
		errs = append(errs, field.NotSupported(spec.Child("completionMode"), mode, []batchv1.CompletionMode{batchv1.IndexedCompletion, batchv1.NonIndexedCompletion}))
	}
	if !indexed {
		for name, set := range map[string]bool{"backoffLimitPerIndex": s.BackoffLimitPerIndex != nil, "maxFailedIndexes": s.MaxFailedIndexes != nil} {
			if set {
				errs = append(errs, field.Invalid(spec.Child(name), true, "requires indexed completion mode"))
			}
		}
		if s.SuccessPolicy != nil {
			errs = append(errs, field.Invalid(spec.Child("successPolicy"), *s.SuccessPolicy, "requires indexed completion mode"))
		}
		return errs
	}
	if s.Completions == nil {
		errs = append(errs, field.Required(spec.Child("completions"), "when completion mode is Indexed"))
	}
	if p := ptr.Deref(s.Parallelism, 0); p > maxIndexedParallelism {
		errs = append(errs, field.Invalid(spec.Child("parallelism"), p, fmt.Sprintf("must be less than or equal to %d when completion mode is Indexed", maxIndexedParallelism)))
	}
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(spec.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	if s.SuccessPolicy != nil && len(s.SuccessPolicy.Rules) == 0 {
		errs = append(errs, field.Required(spec.Child("successPolicy", "rules"), "at least one rules must be specified when the successPolicy is specified"))
	}
	return errs
}

func validateReplacement(s *batchv1.JobSpec, spec *field.Path) field.ErrorList {
	if s.PodReplacementPolicy == nil {
		return nil
	}
	known := []batchv1.PodReplacementPolicy{batchv1.Failed, batchv1.TerminatingOrFailed}
	if s.PodFailurePolicy != nil {
		known = known[:1]
	}
	if !slices.Contains(known, *s.PodReplacementPolicy) {
		return field.ErrorList{field.NotSupported(spec.Child("podReplacementPolicy"), *s.PodReplacementPolicy, known)}
	}
	return nil
}

func validateFailurePolicy(s *batchv1.JobSpec, spec *field.Path) field.ErrorList {
	if s.PodFailurePolicy == nil {
		return nil
	}
	var errs field.ErrorList
	if s.Template.Spec.RestartPolicy != corev1.RestartPolicyNever {
		errs = append(errs, field.Invalid(spec.Child("template", "spec", "restartPolicy"), s.Template.Spec.RestartPolicy, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", corev1.RestartPolicyNever)))
	}
	rules := spec.Child("podFailurePolicy", "rules")
	if len(s.PodFailurePolicy.Rules) > maxFailureRules {
		errs = append(errs, field.TooMany(rules, len(s.PodFailurePolicy.Rules), maxFailureRules))
	}
	names := map[string]bool{}
	for i := range s.Template.Spec.Containers {
		names[s.Template.Spec.Containers[i].Name] = true
	}
	for i := range s.Template.Spec.InitContainers {
		names[s.Template.Spec.InitContainers[i].Name] = true
	}
	for i := range s.PodFailurePolicy.Rules {
		errs = append(errs, validateFailureRule(&s.PodFailurePolicy.Rules[i], names, rules.Index(i))...)
	}
	return errs
}

func validateFailureRule(r *batchv1.PodFailurePolicyRule, containers map[string]bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	actions := []batchv1.PodFailurePolicyAction{
		batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex,
		batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore,
	}
	switch {
	case r.Action == "":
		errs = append(errs, field.Required(path.Child("action"), ""))
	case !slices.Contains(actions, r.Action):
		errs = append(errs, field.NotSupported(path.Child("action"), r.Action, actions))
	}
	switch {
	case r.OnExitCodes != nil && len(r.OnPodConditions) > 0:
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
	case r.OnExitCodes == nil && len(r.OnPodConditions) == 0:
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
	}
	if r.OnExitCodes != nil {
		errs = append(errs, validateExitCodes(r.OnExitCodes, containers, path.Child("onExitCodes"))...)
	}
	if len(r.OnPodConditions) > maxPodConditions {
		errs = append(errs, field.TooMany(path.Child("onPodConditions"), len(r.OnPodConditions), maxPodConditions))
	}
	for i, c := range r.OnPodConditions {
		for _, msg := range validation.IsQualifiedName(string(c.Type)) {
			errs = append(errs, field.Invalid(path.Child("onPodConditions").Index(i).Child("type"), c.Type, msg))
		}
	}
	return errs
}

func validateExitCodes(c *batchv1.PodFailurePolicyOnExitCodesRequirement, containers map[string]bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	operators := []batchv1.PodFailurePolicyOnExitCodesOperator{batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn}
	if !slices.Contains(operators, c.Operator) {
		errs = append(errs, field.NotSupported(path.Child("operator"), c.Operator, operators))
	}
	if c.ContainerName != nil && !containers[*c.ContainerName] {
		errs = append(errs, field.Invalid(path.Child("containerName"), *c.ContainerName, "must be one of the container or initContainer names in the pod template"))
	}
	values := path.Child("values")
	switch {
	case len(c.Values) == 0:
		errs = append(errs, field.Invalid(values, c.Values, "at least one value is required"))
	case len(c.Values) > maxExitCodes:
		errs = append(errs, field.TooMany(values, len(c.Values), maxExitCodes))
	}
	for i, value := range c.Values {
		if c.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && value == 0 {
			errs = append(errs, field.Invalid(values.Index(i), value, "must not be 0 for the In operator"))
		}
		if slices.Contains(c.Values[:i], value) {
			errs = append(errs, field.Duplicate(values.Index(i), value))
		}
	}
	if !slices.IsSorted(c.Values) {
		errs = append(errs, field.Invalid(values, c.Values, "must be ordered"))
	}
	return errs
}

// validateJobUpdate: what decides when a Job is done is for life; where its
// Pods may run can change while it is suspended and none has started.
func validateJobUpdate(j, old *batchv1.Job) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateJobSpec(&j.Spec, spec)
	fixed := func(name string, now, before any) {
		errs = append(errs, apivalidation.ValidateImmutableField(now, before, spec.Child(name))...)
	}
	elastic := ptr.Deref(j.Spec.CompletionMode, "") == batchv1.IndexedCompletion &&
		ptr.Equal(j.Spec.Completions, j.Spec.Parallelism) && j.Spec.Completions != nil
	if !elastic {
		fixed("completions", j.Spec.Completions, old.Spec.Completions)
	}
	fixed("selector", j.Spec.Selector, old.Spec.Selector)
	fixed("completionMode", j.Spec.CompletionMode, old.Spec.CompletionMode)
	fixed("podFailurePolicy", j.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy)
	fixed("backoffLimitPerIndex", j.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex)
	fixed("managedBy", j.Spec.ManagedBy, old.Spec.ManagedBy)
	fixed("successPolicy", j.Spec.SuccessPolicy, old.Spec.SuccessPolicy)
	fixed("template", templateToCompare(j, old), old.Spec.Template)
	return errs
}

func templateToCompare(j, old *batchv1.Job) corev1.PodTemplateSpec {
	template := *j.Spec.Template.DeepCopy()
	suspended := ptr.Deref(old.Spec.Suspend, false) && old.Status.StartTime == nil
	if !suspended {
		return template
	}
	before := old.Spec.Template
	template.Labels, template.Annotations = before.Labels, before.Annotations
	template.Spec.NodeSelector = before.Spec.NodeSelector
	template.Spec.Tolerations = before.Spec.Tolerations
	template.Spec.SchedulingGates = before.Spec.SchedulingGates
	if template.Spec.Affinity != nil {
		template.Spec.Affinity.NodeAffinity = nil
		if before.Spec.Affinity != nil {
			template.Spec.Affinity.NodeAffinity = before.Spec.Affinity.NodeAffinity
		} else if equality.Semantic.DeepEqual(template.Spec.Affinity, &corev1.Affinity{}) {
			template.Spec.Affinity = nil
		}
	}
	for i := range template.Spec.Containers {
		if i < len(before.Spec.Containers) {
			template.Spec.Containers[i].Resources = before.Spec.Containers[i].Resources
		}
	}
	return template
}

func validateJobStatus(j, _ *batchv1.Job) field.ErrorList {
	var errs field.ErrorList
	status := field.NewPath("status")
	for _, f := range []struct {
		name  string
		value int32
	}{
		{"active", j.Status.Active}, {"succeeded", j.Status.Succeeded}, {"failed", j.Status.Failed},
		{"ready", ptr.Deref(j.Status.Ready, 0)}, {"terminating", ptr.Deref(j.Status.Terminating, 0)},
	} {
		errs = append(errs, apivalidation.ValidateNonnegativeField(int64(f.value), status.Child(f.name))...)
	}
	complete := slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Type == batchv1.JobComplete && c.Status == corev1.ConditionTrue
	})
	failed := slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue
	})
	if complete && failed {
		errs = append(errs, field.Invalid(status.Child("conditions"), field.OmitValueType{}, "cannot set Complete=True and Failed=True conditions"))
	}
	if j.Status.CompletionTime != nil && !complete {
		errs = append(errs, field.Invalid(status.Child("completionTime"), j.Status.CompletionTime, "cannot set completionTime when there is no Complete=True condition"))
	}
	return errs
}

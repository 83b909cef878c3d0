package job

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
)

// verdict says how the Job stands. The zero value: it goes on.
type verdict struct {
	kind            batchv1.JobConditionType // JobComplete, JobFailed or ""
	reason, message string
}

func (v verdict) over() bool { return v.kind != "" }

// judge decides. An earlier decision, kept as FailureTarget or
// SuccessCriteriaMet while pods still end, stands.
func judge(t *tally) verdict {
	job := t.job
	for _, c := range job.Status.Conditions {
		switch {
		case c.Status != corev1.ConditionTrue:
		case c.Type == batchv1.JobFailureTarget:
			return verdict{batchv1.JobFailed, c.Reason, c.Message}
		case c.Type == batchv1.JobSuccessCriteriaMet:
			return verdict{batchv1.JobComplete, c.Reason, c.Message}
		}
	}
	if t.fatal != "" {
		return verdict{batchv1.JobFailed, batchv1.JobReasonPodFailurePolicy, t.fatal}
	}
	if limit := ptr.Deref(job.Spec.BackoffLimit, 6); t.failed > limit || restarts(t) > limit {
		return verdict{batchv1.JobFailed, batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit"}
	}
	if job.Spec.ActiveDeadlineSeconds != nil && job.Status.StartTime != nil && !suspended(job) {
		end := job.Status.StartTime.Add(time.Duration(*job.Spec.ActiveDeadlineSeconds) * time.Second)
		if !t.now.Before(end) {
			return verdict{batchv1.JobFailed, batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline"}
		}
		t.soon(end.Sub(t.now))
	}
	if v := judgeIndexes(t); v.over() {
		return v
	}
	if job.Spec.Completions == nil {
		if t.succeeded > 0 && len(t.active) == 0 && t.terminating == 0 {
			return done()
		}
		return verdict{}
	}
	if int(t.succeeded) >= completions(job) {
		return done()
	}
	return verdict{}
}

func done() verdict {
	return verdict{batchv1.JobComplete, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods"}
}

// judgeIndexes looks at limits per index and the success policy.
func judgeIndexes(t *tally) verdict {
	job := t.job
	if !indexed(job) {
		return verdict{}
	}
	if job.Spec.SuccessPolicy != nil {
		for i, rule := range job.Spec.SuccessPolicy.Rules {
			if ruleMet(rule, t.completed) {
				return verdict{batchv1.JobComplete, batchv1.JobReasonSuccessPolicy, fmt.Sprintf("Matched rules at index %d", i)}
			}
		}
	}
	if job.Spec.BackoffLimitPerIndex == nil {
		return verdict{}
	}
	if most := job.Spec.MaxFailedIndexes; most != nil && len(t.broken) > int(*most) {
		return verdict{batchv1.JobFailed, batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes"}
	}
	if len(t.broken) > 0 && len(t.broken)+len(t.completed) >= completions(job) {
		return verdict{batchv1.JobFailed, batchv1.JobReasonFailedIndexes, "Job has failed indexes"}
	}
	return verdict{}
}

func ruleMet(rule batchv1.SuccessPolicyRule, completed indexSet) bool {
	n := 0
	if rule.SucceededIndexes == nil {
		n = len(completed)
	} else {
		wanted := parseIndexes(*rule.SucceededIndexes)
		for i := range wanted {
			if completed[i] {
				n++
			}
		}
		if rule.SucceededCount == nil {
			return n == len(wanted)
		}
	}
	return rule.SucceededCount != nil && n >= int(*rule.SucceededCount)
}

// restarts sums the restarts of containers where the kubelet does them.
func restarts(t *tally) (n int32) {
	if t.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return 0
	}
	for _, pod := range t.active {
		for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
			for _, c := range list {
				n += c.RestartCount
			}
		}
	}
	return n
}

// failureAction is what the podFailurePolicy says about the pod: the first
// rule that matches, Count without one.
func failureAction(job *batchv1.Job, pod *corev1.Pod) batchv1.PodFailurePolicyAction {
	if job.Spec.PodFailurePolicy == nil {
		return batchv1.PodFailurePolicyActionCount
	}
	for _, rule := range job.Spec.PodFailurePolicy.Rules {
		if matchesExit(rule.OnExitCodes, pod) || matchesConditions(rule.OnPodConditions, pod) {
			return rule.Action
		}
	}
	return batchv1.PodFailurePolicyActionCount
}

func matchesExit(on *batchv1.PodFailurePolicyOnExitCodesRequirement, pod *corev1.Pod) bool {
	if on == nil {
		return false
	}
	return slices.ContainsFunc(slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses), func(c corev1.ContainerStatus) bool {
		if c.State.Terminated == nil || c.State.Terminated.ExitCode == 0 || (on.ContainerName != nil && *on.ContainerName != c.Name) {
			return false
		}
		return slices.Contains(on.Values, c.State.Terminated.ExitCode) == (on.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn)
	})
}

func matchesConditions(on []batchv1.PodFailurePolicyOnPodConditionsPattern, pod *corev1.Pod) bool {
	return slices.ContainsFunc(on, func(p batchv1.PodFailurePolicyOnPodConditionsPattern) bool {
		c := podcontrol.Condition(pod, p.Type)
		return c != nil && c.Status == p.Status
	})
}

func failureMessage(pod *corev1.Pod) string {
	return fmt.Sprintf("Pod %s/%s failed and a rule of the pod failure policy matches with action FailJob", pod.Namespace, pod.Name)
}

// conditions writes the verdict: at once as the interim condition, and as the
// final one when no pod is left to end or to be counted.
func (t *tally) conditions(v verdict, event func(kind, reason, message string)) {
	job, now := t.job, metav1.NewTime(t.now)
	if !v.over() {
		t.suspension(event)
		return
	}
	interim := batchv1.JobSuccessCriteriaMet
	if v.kind == batchv1.JobFailed {
		interim = batchv1.JobFailureTarget
	}
	if !isTrue(job, interim) {
		add(job, interim, corev1.ConditionTrue, v.reason, v.message, now)
	}
	u := job.Status.UncountedTerminatedPods
	if len(t.active)+t.terminating+len(u.Succeeded)+len(u.Failed) > 0 {
		return
	}
	add(job, v.kind, corev1.ConditionTrue, v.reason, v.message, now)
	job.Status.Active, job.Status.Ready, job.Status.Terminating = 0, ptr.To[int32](0), ptr.To[int32](0)
	if v.kind == batchv1.JobComplete {
		job.Status.CompletionTime = &now
		event(corev1.EventTypeNormal, "Completed", "Job completed")
		return
	}
	event(corev1.EventTypeWarning, v.reason, v.message)
}

// suspension keeps the Suspended condition in step with spec.suspend.
func (t *tally) suspension(event func(kind, reason, message string)) {
	job, now := t.job, metav1.NewTime(t.now)
	was := isTrue(job, batchv1.JobSuspended)
	switch {
	case suspended(job) && !was:
		set(job, batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended", now)
		job.Status.StartTime = nil
		event(corev1.EventTypeNormal, "Suspended", "Job suspended")
	case !suspended(job) && was:
		set(job, batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed", now)
		job.Status.StartTime = &now
		event(corev1.EventTypeNormal, "Resumed", "Job resumed")
	}
}

func add(job *batchv1.Job, kind batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string, now metav1.Time) {
	job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{
		Type: kind, Status: status, Reason: reason, Message: message, LastProbeTime: now, LastTransitionTime: now,
	})
}

func set(job *batchv1.Job, kind batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string, now metav1.Time) {
	job.Status.Conditions = slices.DeleteFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == kind })
	add(job, kind, status, reason, message, now)
}

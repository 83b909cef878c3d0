package job

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
)

// Back-off between a failed pod and the next one (API reference, Job).
const (
	backoffFirst = 10 * time.Second
	backoffMost  = 10 * time.Minute
)

// tally is one look at a Job and its pods. job.Status is changed in place.
type tally struct {
	job  *batchv1.Job
	pods []*corev1.Pod
	now  time.Time
	// active are the pods that run or will; terminating how many are going.
	active      []*corev1.Pod
	terminating int
	// succeeded and failed are totals, those not stored yet included.
	succeeded, failed int32
	// completed and broken are the indexes of succeeded pods and, with a limit
	// per index, of indexes that are given up.
	completed, broken indexSet
	// before has the UIDs that the stored status already counts.
	before map[types.UID]bool
	// fatal is why a pod's failure ends the Job, "" for not.
	fatal   string
	recheck time.Duration
}

func newTally(job *batchv1.Job, pods []*corev1.Pod, now time.Time) *tally {
	t := &tally{job: job, pods: pods, now: now, before: map[types.UID]bool{}}
	for _, pod := range pods {
		switch {
		case podcontrol.Active(pod):
			t.active = append(t.active, pod)
		case podcontrol.Terminating(pod):
			t.terminating++
		}
	}
	t.completed = parseIndexes(job.Status.CompletedIndexes)
	t.broken = parseIndexes(ptr.Deref(job.Status.FailedIndexes, ""))
	return t
}

// count moves ended pods into the status: first by UID, while they have their
// finalizer, then as numbers when it is gone.
func (t *tally) count() {
	s := &t.job.Status
	if s.UncountedTerminatedPods == nil {
		s.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	u := s.UncountedTerminatedPods
	held := map[types.UID]*corev1.Pod{}
	for _, pod := range t.pods {
		if tracked(pod) {
			held[pod.UID] = pod
		}
	}
	settle := func(list []types.UID, total *int32) []types.UID {
		var rest []types.UID
		for _, uid := range list {
			t.before[uid] = true
			if held[uid] != nil {
				rest = append(rest, uid)
				continue
			}
			*total++
		}
		return rest
	}
	u.Succeeded, u.Failed = settle(u.Succeeded, &s.Succeeded), settle(u.Failed, &s.Failed)
	for _, pod := range t.pods {
		t.add(u, pod)
	}
	t.succeeded, t.failed = s.Succeeded+int32(len(u.Succeeded)), s.Failed+int32(len(u.Failed))
	s.Active = int32(len(t.active))
	s.Terminating = ptr.To(int32(t.terminating))
	ready := int32(0)
	for _, pod := range t.active {
		if podcontrol.Ready(pod) {
			ready++
		}
	}
	s.Ready = &ready
	if indexed(t.job) {
		s.CompletedIndexes = t.completed.String()
		t.succeeded = int32(len(t.completed))
		s.Succeeded = min(s.Succeeded, t.succeeded)
		if t.job.Spec.BackoffLimitPerIndex != nil {
			s.FailedIndexes = ptr.To(t.broken.String())
		}
	}
}

// add puts one ended pod on the list of those to count.
func (t *tally) add(u *batchv1.UncountedTerminatedPods, pod *corev1.Pod) {
	if !tracked(pod) || t.before[pod.UID] || len(u.Succeeded)+len(u.Failed) >= uncountedMax {
		return
	}
	index := indexOf(pod)
	switch {
	case pod.Status.Phase == corev1.PodSucceeded:
		if indexed(t.job) {
			if index < 0 || index >= completions(t.job) || t.completed[index] {
				t.before[pod.UID] = true // an index is counted once; the pod may go
				return
			}
			t.completed[index] = true
		}
		u.Succeeded = append(u.Succeeded, pod.UID)
	case pod.Status.Phase == corev1.PodFailed, pod.DeletionTimestamp != nil && pod.Spec.NodeName == "":
		action := failureAction(t.job, pod)
		switch action {
		case batchv1.PodFailurePolicyActionIgnore:
			t.before[pod.UID] = true
			return
		case batchv1.PodFailurePolicyActionFailJob:
			t.fatal = failureMessage(pod)
		case batchv1.PodFailurePolicyActionFailIndex:
			t.broken[index] = true
		}
		if limit := t.job.Spec.BackoffLimitPerIndex; limit != nil && indexed(t.job) && failures(pod) >= *limit {
			t.broken[index] = true
		}
		u.Failed = append(u.Failed, pod.UID)
	}
}

// stored reports whether the pod's end is in the status that was written, or
// needs no counting: then its finalizer may go.
func (t *tally) stored(pod *corev1.Pod) bool {
	u := t.job.Status.UncountedTerminatedPods
	return t.before[pod.UID] || slices.Contains(u.Succeeded, pod.UID) || slices.Contains(u.Failed, pod.UID)
}

// wanted is how many pods should be active.
func (t *tally) wanted() int {
	parallelism := int(ptr.Deref(t.job.Spec.Parallelism, 1))
	if t.job.Spec.Completions == nil {
		if t.succeeded > 0 {
			return min(len(t.active), parallelism) // one success: the others finish
		}
		return parallelism
	}
	left := completions(t.job) - int(t.succeeded)
	if indexed(t.job) {
		left -= len(t.broken)
	}
	return max(min(parallelism, left), 0)
}

// blocking is how many terminating pods hold the place of their replacement.
func (t *tally) blocking() int {
	if ptr.Deref(t.job.Spec.PodReplacementPolicy, batchv1.TerminatingOrFailed) == batchv1.Failed {
		return t.terminating
	}
	return 0
}

// backoff is the time until the next pod may be made, after failures since the
// last success.
func (t *tally) backoff() time.Duration {
	var success time.Time
	var failed []time.Time
	for _, pod := range t.pods {
		switch pod.Status.Phase {
		case corev1.PodSucceeded:
			if end := endOf(pod); end.After(success) {
				success = end
			}
		case corev1.PodFailed:
			failed = append(failed, endOf(pod))
		}
	}
	n, last := 0, time.Time{}
	for _, end := range failed {
		if end.After(success) {
			n++
			if end.After(last) {
				last = end
			}
		}
	}
	if n == 0 {
		return 0
	}
	pause := backoffMost
	if n < 8 {
		pause = min(backoffFirst<<(n-1), backoffMost)
	}
	return last.Add(pause).Sub(t.now)
}

// endOf is when the pod's last container ended.
func endOf(pod *corev1.Pod) time.Time {
	end := pod.CreationTimestamp.Time
	for _, c := range pod.Status.ContainerStatuses {
		if c.State.Terminated != nil && c.State.Terminated.FinishedAt.After(end) {
			end = c.State.Terminated.FinishedAt.Time
		}
	}
	if pod.DeletionTimestamp != nil && pod.DeletionTimestamp.After(end) {
		end = pod.DeletionTimestamp.Time
	}
	return end
}

func (t *tally) soon(wait time.Duration) {
	if t.recheck == 0 || wait < t.recheck {
		t.recheck = wait
	}
}

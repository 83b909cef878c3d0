package job

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// failureCount is the annotation with the failures of a pod's index so far.
const failureCount = "batch.kubernetes.io/job-index-failure-count"

func indexed(job *batchv1.Job) bool {
	return ptr.Deref(job.Spec.CompletionMode, batchv1.NonIndexedCompletion) == batchv1.IndexedCompletion
}

func completions(job *batchv1.Job) int { return int(ptr.Deref(job.Spec.Completions, 1)) }

// indexSet is a set of completion indexes, written like "1,3-5,7".
type indexSet map[int]bool

// parseIndexes reads that form; what is not a number is left out.
func parseIndexes(text string) indexSet {
	set := indexSet{}
	for part := range strings.SplitSeq(text, ",") {
		from, to, span := strings.Cut(part, "-")
		first, err := strconv.Atoi(from)
		if err != nil {
			continue
		}
		last := first
		if span {
			if last, err = strconv.Atoi(to); err != nil {
				continue
			}
		}
		for i := first; i <= last; i++ {
			set[i] = true
		}
	}
	return set
}

// String writes the set; runs of three or more and of two as spans alike.
func (s indexSet) String() string {
	all := slices.Sorted(maps.Keys(s))
	var parts []string
	for i := 0; i < len(all); {
		end := i
		for end+1 < len(all) && all[end+1] == all[end]+1 {
			end++
		}
		switch end - i {
		case 0:
			parts = append(parts, strconv.Itoa(all[i]))
		case 1:
			parts = append(parts, strconv.Itoa(all[i]), strconv.Itoa(all[end]))
		default:
			parts = append(parts, fmt.Sprintf("%d-%d", all[i], all[end]))
		}
		i = end + 1
	}
	return strings.Join(parts, ",")
}

// indexOf is the pod's completion index, -1 if it has none.
func indexOf(pod *corev1.Pod) int {
	n, err := strconv.Atoi(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil {
		return -1
	}
	return n
}

// failures is how often the pod's index had failed before this pod.
func failures(pod *corev1.Pod) int32 {
	n, err := strconv.ParseInt(pod.Annotations[failureCount], 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

// freeIndexes returns up to n indexes that are neither done, given up nor held
// by an active pod, lowest first. nil for a Job without indexes.
func (t *tally) freeIndexes(n int) []nextIndex {
	if !indexed(t.job) {
		return nil
	}
	held, tries := indexSet{}, map[int]int32{}
	for _, pod := range t.pods {
		i := indexOf(pod)
		if pod.Status.Phase == corev1.PodFailed {
			tries[i] = max(tries[i], failures(pod)+1)
		}
	}
	for _, pod := range t.active {
		held[indexOf(pod)] = true
	}
	var free []nextIndex
	for i := 0; i < completions(t.job) && len(free) < n; i++ {
		if !t.completed[i] && !t.broken[i] && !held[i] {
			free = append(free, nextIndex{i, tries[i]})
		}
	}
	return free
}

// nextIndex is an index to run and how often it has failed.
type nextIndex struct {
	index    int
	failures int32
}

// setIndex gives the pod its index: annotation, label, host name and variable.
func setIndex(job *batchv1.Job, pod *corev1.Pod, next nextIndex) {
	text := strconv.Itoa(next.index)
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Annotations[batchv1.JobCompletionIndexAnnotation] = text
	pod.Labels[batchv1.JobCompletionIndexAnnotation] = text
	if job.Spec.BackoffLimitPerIndex != nil {
		pod.Annotations[failureCount] = strconv.Itoa(int(next.failures))
	}
	pod.Spec.Hostname = job.Name + "-" + text
	pod.GenerateName = job.Name + "-" + text + "-"
	variable := corev1.EnvVar{Name: "JOB_COMPLETION_INDEX", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{
		FieldPath: fmt.Sprintf("metadata.labels['%s']", batchv1.JobCompletionIndexAnnotation),
	}}}
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if !slices.ContainsFunc(containers[i].Env, func(e corev1.EnvVar) bool { return e.Name == variable.Name }) {
				containers[i].Env = append(containers[i].Env, variable)
			}
		}
	}
}

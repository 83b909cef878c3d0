package job_test

import (
	"fmt"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/controller-manager/controllers/job"
	"github.com/skeg-dev/skeg/controller-manager/reconcile/reconciletest"
	"github.com/skeg-dev/skeg/internal/testkit"
)

// start runs the controller with a kubelet that ends every pod with phase.
func start(t *testing.T, end func(*corev1.Pod) corev1.PodPhase) *reconciletest.Cluster {
	t.Helper()
	c := reconciletest.New(t)
	r, err := job.New(c.Env)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Env.Informers.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(object any) {
		pod := object.(*corev1.Pod).DeepCopy()
		pod.Status.Phase = end(pod)
		go func() {
			if _, err := c.Client.CoreV1().Pods(pod.Namespace).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
				t.Errorf("end pod: %v", err)
			}
		}()
	}})
	if err != nil {
		t.Fatal(err)
	}
	c.Start(r)
	c.Watching(reconciletest.Pods, batchv1.SchemeGroupVersion.WithResource("jobs"))
	return c
}

func newJob(change func(*batchv1.JobSpec)) *batchv1.Job {
	labels := map[string]string{"job": "j"}
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "j"},
		Spec: batchv1.JobSpec{
			Parallelism: ptr.To[int32](2), Completions: ptr.To[int32](5), BackoffLimit: ptr.To[int32](0),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
			},
		},
	}
	change(&j.Spec)
	return j
}

func TestJobs(t *testing.T) {
	t.Parallel()
	always := func(phase corev1.PodPhase) func(*corev1.Pod) corev1.PodPhase {
		return func(*corev1.Pod) corev1.PodPhase { return phase }
	}
	cases := []struct {
		name   string
		change func(*batchv1.JobSpec)
		end    func(*corev1.Pod) corev1.PodPhase
		want   batchv1.JobConditionType
		reason string
		check  func(s batchv1.JobStatus) bool
	}{
		{"completes", func(*batchv1.JobSpec) {}, always(corev1.PodSucceeded), batchv1.JobComplete, "CompletionsReached",
			func(s batchv1.JobStatus) bool { return s.Succeeded == 5 && s.Failed == 0 && s.CompletionTime != nil }},
		{"fails at the limit", func(*batchv1.JobSpec) {}, always(corev1.PodFailed), batchv1.JobFailed, "BackoffLimitExceeded",
			func(s batchv1.JobStatus) bool { return s.Failed >= 1 && s.Succeeded == 0 }},
		{"work queue", func(s *batchv1.JobSpec) { s.Completions = nil }, always(corev1.PodSucceeded), batchv1.JobComplete, "CompletionsReached",
			func(s batchv1.JobStatus) bool { return s.Succeeded >= 1 }},
		{"indexed", func(s *batchv1.JobSpec) { s.CompletionMode = ptr.To(batchv1.IndexedCompletion) }, always(corev1.PodSucceeded), batchv1.JobComplete, "CompletionsReached",
			func(s batchv1.JobStatus) bool { return s.CompletedIndexes == "0-4" && s.Succeeded == 5 }},
		{"one index fails", func(s *batchv1.JobSpec) {
			s.CompletionMode, s.BackoffLimitPerIndex, s.BackoffLimit = ptr.To(batchv1.IndexedCompletion), ptr.To[int32](0), ptr.To[int32](100)
			s.Parallelism = ptr.To[int32](5) // all at once: no back-off between them
		}, func(p *corev1.Pod) corev1.PodPhase {
			if p.Annotations[batchv1.JobCompletionIndexAnnotation] == "3" {
				return corev1.PodFailed
			}
			return corev1.PodSucceeded
		}, batchv1.JobFailed, "FailedIndexes",
			func(s batchv1.JobStatus) bool {
				return s.CompletedIndexes == "0-2,4" && *s.FailedIndexes == "3" && s.Failed == 1
			}},
		{"success policy", func(s *batchv1.JobSpec) {
			s.CompletionMode, s.SuccessPolicy = ptr.To(batchv1.IndexedCompletion), &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: ptr.To("0-1")}}}
		}, always(corev1.PodSucceeded), batchv1.JobComplete, "SuccessPolicy", func(s batchv1.JobStatus) bool { return s.Succeeded >= 2 }},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := start(t, tc.end)
			if _, err := c.Client.BatchV1().Jobs("default").Create(t.Context(), newJob(tc.change), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, string(tc.want), func() error {
				j, err := c.Client.BatchV1().Jobs("default").Get(t.Context(), "j", metav1.GetOptions{})
				if err != nil {
					return err
				}
				for _, condition := range j.Status.Conditions {
					if condition.Type == tc.want && condition.Reason == tc.reason && tc.check(j.Status) {
						return nil
					}
				}
				return fmt.Errorf("status %+v", j.Status)
			})
			pods, err := c.Client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range pods.Items {
				if len(p.Finalizers) > 0 {
					t.Errorf("pod %s keeps finalizers %v", p.Name, p.Finalizers)
				}
			}
		})
	}
}

func TestOrphansLoseTheFinalizer(t *testing.T) {
	t.Parallel()
	c := start(t, func(*corev1.Pod) corev1.PodPhase { return corev1.PodFailed })
	for name, uid := range map[string]string{"of-none": "gone", "of-another": "older"} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, Finalizers: []string{batchv1.JobTrackingFinalizer},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "batch/v1", Kind: "Job", Name: map[string]string{"gone": "gone", "older": "j"}[uid], UID: types.UID(uid), Controller: ptr.To(true),
			}},
		}}
		if _, err := c.Client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Client.BatchV1().Jobs("default").Create(t.Context(), newJob(func(*batchv1.JobSpec) {}), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "finalizers gone", func() error {
		for _, name := range []string{"of-none", "of-another"} {
			pod, err := c.Client.CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if len(pod.Finalizers) > 0 {
				return fmt.Errorf("pod %s keeps %v", name, pod.Finalizers)
			}
		}
		return nil
	})
}

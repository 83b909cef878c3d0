package integration

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skeg-dev/skeg/internal/testkit"
)

// deployment is a Deployment "web" of two Pods.
func deployment(namespace string) *appsv1.Deployment {
	d := testkit.Deployment(namespace, "web", 2)
	d.UID = ""
	return d
}

// set makes a ReplicaSet "web".
func (s *scenario) set(t *testing.T, replicas int32) *appsv1.ReplicaSet {
	t.Helper()
	like := testkit.Deployment(s.namespace, "web", replicas)
	made, err := s.client.AppsV1().ReplicaSets(s.namespace).Create(t.Context(), &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.ReplicaSetSpec{Replicas: like.Spec.Replicas, Selector: like.Spec.Selector, Template: like.Spec.Template},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// awaitPods waits for n Pods that a ReplicaSet controls.
func (s *scenario) awaitPods(t *testing.T, n int) []corev1.Pod {
	t.Helper()
	var found []corev1.Pod
	testkit.Eventually(t, fmt.Sprintf("%d pods", n), func() error {
		list, err := s.client.CoreV1().Pods(s.namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		found = nil
		for _, pod := range list.Items {
			if owner := metav1.GetControllerOf(&pod); owner != nil && owner.Kind == "ReplicaSet" && owner.Name == "web" {
				found = append(found, pod)
			}
		}
		if len(found) != n {
			return fmt.Errorf("%d pods", len(found))
		}
		return nil
	})
	return found
}

// run marks Pods running and ready.
func (s *scenario) run(t *testing.T, pods []corev1.Pod) {
	t.Helper()
	for i := range pods {
		testkit.Running(fmt.Sprintf("10.3.0.%d", i+1))(&pods[i])
		s.podStatus(t, &pods[i])
	}
}

// awaitReplicas waits for a status of the set: "replicas/ready/observed".
func (s *scenario) awaitReplicas(t *testing.T, want string) {
	t.Helper()
	awaitText(t, "the ReplicaSet's status", want, func(t *testing.T) (string, error) {
		found, err := s.client.AppsV1().ReplicaSets(s.namespace).Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%d/%d/%t", found.Status.Replicas, found.Status.ReadyReplicas, found.Status.ObservedGeneration == found.Generation), nil
	})
}

// replicaSet: the number of Pods is kept, and follows the scale.
func replicaSet(t *testing.T, s *scenario) {
	s.set(t, 3)
	pods := s.awaitPods(t, 3)
	s.run(t, pods)
	s.awaitReplicas(t, "3/3/true")
	if err := s.client.CoreV1().Pods(s.namespace).Delete(t.Context(), pods[0].Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.awaitReplicas(t, "3/2/true")
	scale, err := s.client.AppsV1().ReplicaSets(s.namespace).GetScale(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	scale.Spec.Replicas = 2
	if _, err := s.client.AppsV1().ReplicaSets(s.namespace).UpdateScale(t.Context(), "web", scale, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.awaitReplicas(t, "2/2/true") // the one that is not ready goes first
	for _, pod := range s.awaitPods(t, 2) {
		if pod.Name != pods[1].Name && pod.Name != pods[2].Name {
			t.Errorf("pod %s was kept, a ready one was not", pod.Name)
		}
	}
}

// replicaSetAdopts: a matching Pod counts and gets an owner; one that stops
// matching is let go and replaced.
func replicaSetAdopts(t *testing.T, s *scenario) {
	s.pod(t, "stray", testkit.WithLabels("app", "web"))
	s.set(t, 1)
	if pods := s.awaitPods(t, 1); pods[0].Name != "stray" {
		t.Errorf("pod %s was made beside one to adopt", pods[0].Name)
	}
	_, err := s.client.CoreV1().Pods(s.namespace).Patch(t.Context(), "stray", types.MergePatchType, []byte(`{"metadata":{"labels":{"app":"other"}}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the release of the pod", func() error {
		pod, err := s.client.CoreV1().Pods(s.namespace).Get(t.Context(), "stray", metav1.GetOptions{})
		if err == nil && len(pod.OwnerReferences) > 0 {
			return fmt.Errorf("owners %+v", pod.OwnerReferences)
		}
		return err
	})
	s.awaitPods(t, 1)
}

// disruption: the budget's status counts Pods, and eviction keeps to it.
func disruption(t *testing.T, s *scenario) {
	one := intstr.FromInt32(1)
	budgets := s.client.PolicyV1().PodDisruptionBudgets(s.namespace)
	_, err := budgets.Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	status := func(t *testing.T) (string, error) {
		b, err := budgets.Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("expected %d, desired %d, healthy %d, allowed %d", b.Status.ExpectedPods, b.Status.DesiredHealthy, b.Status.CurrentHealthy, b.Status.DisruptionsAllowed), nil
	}
	s.set(t, 3)
	pods := s.awaitPods(t, 3)
	awaitText(t, "the status before pods are ready", "expected 3, desired 2, healthy 0, allowed 0", status)
	s.run(t, pods)
	awaitText(t, "the status with ready pods", "expected 3, desired 2, healthy 3, allowed 1", status)
	evict := func(name string) error {
		return s.client.CoreV1().Pods(s.namespace).EvictV1(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	if err := evict(pods[0].Name); err != nil {
		t.Fatalf("the first eviction: %v", err)
	}
	if err := evict(pods[1].Name); !apierrors.IsTooManyRequests(err) {
		t.Errorf("the second eviction: %v", err)
	}
	awaitText(t, "the status after the eviction", "expected 3, desired 2, healthy 2, allowed 0", status)
}

// sweep makes the pod garbage collector look again at once, as it does when a
// Node goes.
func (s *scenario) sweep(t *testing.T, node string) {
	t.Helper()
	s.node(t, testkit.Node(node, "1", "1Gi", 10))
	if err := s.client.CoreV1().Nodes().Delete(t.Context(), node, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// podGCEnded: of Pods that have ended, the newest few are kept.
func podGCEnded(t *testing.T, s *scenario) {
	for i := range endedPodsKept + 3 {
		s.pod(t, fmt.Sprintf("ended-%d", i), testkit.InPhase(corev1.PodFailed))
	}
	s.pod(t, "alive", testkit.Running("10.4.0.1"))
	s.sweep(t, "pod-gc-ended")
	awaitText(t, "the pods that are kept", "alive ended-3 ended-4", func(t *testing.T) (string, error) {
		list, err := s.client.CoreV1().Pods(s.namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return "", err
		}
		names := ""
		for _, pod := range list.Items {
			names += " " + pod.Name
		}
		return names[min(1, len(names)):], nil
	})
}

// podGCOutOfService: a Pod terminating on a Node that was declared out of
// service is deleted, though no kubelet confirms its end.
func podGCOutOfService(t *testing.T, s *scenario) {
	node := testkit.Node("broken", "1", "1Gi", 10)
	node.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Value: "nodeshutdown", Effect: corev1.TaintEffectNoSchedule}}
	node.Status.Conditions[0].Status = corev1.ConditionFalse
	s.node(t, node)
	s.pod(t, "stuck", testkit.OnNode("broken"), testkit.Running("10.4.0.2"))
	pods := s.client.CoreV1().Pods(s.namespace)
	if err := pods.Delete(t.Context(), "stuck", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(t.Context(), "stuck", metav1.GetOptions{}); err != nil {
		t.Errorf("the pod did not wait for its node: %v", err)
	}
	s.sweep(t, "pod-gc-trigger")
	testkit.Eventually(t, "the end of the pod", func() error {
		_, err := pods.Get(t.Context(), "stuck", metav1.GetOptions{})
		return gone(err)
	})
}

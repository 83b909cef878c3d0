package eviction

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/apiserver/store/memory"
)

// deleter remembers what was deleted with which options.
type deleter struct{ opts []*metav1.DeleteOptions }

func (d *deleter) Delete(_ context.Context, _ authn.User, _ schema.GroupVersionResource, _, _ string, opts *metav1.DeleteOptions) error {
	d.opts = append(d.opts, opts)
	return nil
}

func pod(phase corev1.PodPhase, ready corev1.ConditionStatus) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", Labels: map[string]string{"app": "a"}},
		Status:     corev1.PodStatus{Phase: phase, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
	}
}

func budget(name string, change func(*policyv1.PodDisruptionBudget)) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Generation: 1},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}},
		Status:     policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DisruptionsAllowed: 1, CurrentHealthy: 2, DesiredHealthy: 2},
	}
	if change != nil {
		change(b)
	}
	return b
}

func TestEvict(t *testing.T) {
	none := func(b *policyv1.PodDisruptionBudget) { b.Status.DisruptionsAllowed = 0 }
	running, notReady := pod(corev1.PodRunning, corev1.ConditionTrue), pod(corev1.PodRunning, corev1.ConditionFalse)
	always := policyv1.AlwaysAllow
	tests := []struct {
		name    string
		pod     *corev1.Pod
		budgets []*policyv1.PodDisruptionBudget
		dryRun  bool
		refused func(error) bool
		allowed int32 // left in the first budget
	}{
		{name: "no budget", pod: running},
		{name: "another's budget", pod: running, budgets: []*policyv1.PodDisruptionBudget{budget("b", func(b *policyv1.PodDisruptionBudget) {
			none(b)
			b.Spec.Selector.MatchLabels["app"] = "z"
		})}},
		{name: "allowed", pod: running, budgets: []*policyv1.PodDisruptionBudget{budget("b", nil)}},
		{name: "dry run", pod: running, budgets: []*policyv1.PodDisruptionBudget{budget("b", nil)}, dryRun: true, allowed: 1},
		{name: "used up", pod: running, budgets: []*policyv1.PodDisruptionBudget{budget("b", none)}, refused: apierrors.IsTooManyRequests},
		{name: "used up, dry run", pod: running, budgets: []*policyv1.PodDisruptionBudget{budget("b", none)}, dryRun: true, refused: apierrors.IsTooManyRequests},
		{name: "not processed", pod: running, budgets: []*policyv1.PodDisruptionBudget{budget("b", func(b *policyv1.PodDisruptionBudget) { b.Generation = 2 })}, refused: apierrors.IsTooManyRequests, allowed: 1},
		{name: "two budgets", pod: running, budgets: []*policyv1.PodDisruptionBudget{budget("b", nil), budget("c", nil)}, refused: apierrors.IsInternalError, allowed: 1},
		{name: "pending", pod: pod(corev1.PodPending, corev1.ConditionFalse), budgets: []*policyv1.PodDisruptionBudget{budget("b", none)}},
		{name: "finished", pod: pod(corev1.PodSucceeded, corev1.ConditionFalse), budgets: []*policyv1.PodDisruptionBudget{budget("b", none)}},
		{name: "not ready, enough others", pod: notReady, budgets: []*policyv1.PodDisruptionBudget{budget("b", none)}},
		{name: "not ready, too few others", pod: notReady, budgets: []*policyv1.PodDisruptionBudget{budget("b", func(b *policyv1.PodDisruptionBudget) {
			none(b)
			b.Status.CurrentHealthy = 1
		})}, refused: apierrors.IsTooManyRequests},
		{name: "not ready, always allowed", pod: notReady, budgets: []*policyv1.PodDisruptionBudget{budget("b", func(b *policyv1.PodDisruptionBudget) {
			none(b)
			b.Status.CurrentHealthy, b.Spec.UnhealthyPodEvictionPolicy = 1, &always
		})}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pods, budgets, deleted := memory.New(memory.Config{}), memory.New(memory.Config{}), &deleter{}
			stored, err := pods.Create(t.Context(), "ns/p", test.pod)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range test.budgets {
				if _, err := budgets.Create(t.Context(), "ns/"+b.Name, b); err != nil {
					t.Fatal(err)
				}
			}
			action := &Action{Pods: pods, Budgets: budgets, Deleter: deleted}
			_, err = action.Act(t.Context(), handler.ActionRequest{
				Namespace: "ns", Name: "p", Parent: stored.Object, DryRun: test.dryRun,
				Object: &policyv1.Eviction{DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](5)}},
			})
			if refused := test.refused != nil; refused != (err != nil) || refused && !test.refused(err) {
				t.Fatalf("error %v", err)
			}
			if want := err == nil; want != (len(deleted.opts) == 1) {
				t.Fatalf("deleted: %v", deleted.opts)
			}
			check(t, pods, err == nil && !test.dryRun)
			if len(test.budgets) > 0 {
				item, err := budgets.Get(t.Context(), "ns/b", store.Consistency{})
				if err != nil {
					t.Fatal(err)
				}
				if got := item.Object.(*policyv1.PodDisruptionBudget).Status.DisruptionsAllowed; got != test.allowed {
					t.Errorf("%d disruptions allowed, want %d", got, test.allowed)
				}
			}
		})
	}
}

// check looks for the mark of an eviction.
func check(t *testing.T, pods store.Store, want bool) {
	t.Helper()
	item, err := pods.Get(t.Context(), "ns/p", store.Consistency{})
	if err != nil {
		t.Fatal(err)
	}
	marked := false
	for _, c := range item.Object.(*corev1.Pod).Status.Conditions {
		marked = marked || c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue
	}
	if marked != want {
		t.Errorf("marked %v, want %v", marked, want)
	}
}

// TestEvictAnotherPod: the preconditions of the delete hold before the Pod is
// marked.
func TestEvictAnotherPod(t *testing.T) {
	pods, deleted := memory.New(memory.Config{}), &deleter{}
	stored, err := pods.Create(t.Context(), "ns/p", pod(corev1.PodRunning, corev1.ConditionTrue))
	if err != nil {
		t.Fatal(err)
	}
	action := &Action{Pods: pods, Budgets: memory.New(memory.Config{}), Deleter: deleted}
	_, err = action.Act(t.Context(), handler.ActionRequest{Namespace: "ns", Name: "p", Parent: stored.Object, Object: &policyv1.Eviction{
		DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions("other")},
	}})
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsConflict(err) || len(deleted.opts) != 0 {
		t.Errorf("%v, deleted %v", err, deleted.opts)
	}
	check(t, pods, false)
}

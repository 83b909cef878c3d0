package eviction

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/apiserver/store/memory"
)

// deleted records the options of deletes.
type deleted []*metav1.DeleteOptions

func (d *deleted) Delete(_ context.Context, _ authn.User, _ schema.GroupVersionResource, _, _ string, opts *metav1.DeleteOptions) error {
	*d = append(*d, opts)
	return nil
}

func TestEvictionMarksThePod(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options *metav1.DeleteOptions
		dryRun  bool
		refused func(error) bool
		marked  bool
	}{
		"plain":      {marked: true},
		"dry run":    {dryRun: true},
		"at once":    {options: metav1.NewDeleteOptions(0)},
		"other uid":  {options: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions("v")}, refused: apierrors.IsConflict},
		"same uid":   {options: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions("u")}, marked: true},
		"other time": {options: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: ptr.To("99999")}}, refused: apierrors.IsConflict},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pods := memory.New(memory.Config{})
			created, err := pods.Create(t.Context(), "shop/web", &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u"},
				Status:     corev1.PodStatus{Phase: corev1.PodRunning},
			})
			if err != nil {
				t.Fatal(err)
			}
			var deletes deleted
			action := &Action{Pods: pods, Budgets: memory.New(memory.Config{}), Deleter: &deletes}
			_, err = action.Act(t.Context(), handler.ActionRequest{
				Namespace: "shop", Name: "web", Parent: created.Object, DryRun: test.dryRun,
				Object: &policyv1.Eviction{DeleteOptions: test.options},
			})
			if test.refused != nil {
				if !test.refused(err) || len(deletes) != 0 {
					t.Fatalf("got %v and %d deletes", err, len(deletes))
				}
			} else if err != nil || len(deletes) != 1 {
				t.Fatalf("got %v and %d deletes", err, len(deletes))
			}
			if got := disrupted(stored(t, pods)); got != test.marked {
				t.Errorf("marked: %v, want %v", got, test.marked)
			}
		})
	}
}

func stored(t *testing.T, pods store.Store) resource.Object {
	t.Helper()
	item, err := pods.Get(t.Context(), "shop/web", store.Consistency{AtLeast: store.Latest})
	if err != nil {
		t.Fatal(err)
	}
	return item.Object
}

func disrupted(obj resource.Object) bool {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return false
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == "EvictionByEvictionAPI" {
			return true
		}
	}
	return false
}

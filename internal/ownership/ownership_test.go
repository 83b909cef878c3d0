package ownership_test

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/internal/ownership"
	"github.com/skeg-dev/skeg/internal/testkit"
)

func TestOwners(t *testing.T) {
	owner := testkit.Deployment("ns", "d", 1)
	pod := testkit.Pod("ns", "p")
	pod.OwnerReferences = []metav1.OwnerReference{
		*ownership.NewControllerRef(owner, appsv1.SchemeGroupVersion.WithKind("Deployment")),
		{UID: "other"},
	}
	if ref := ownership.ControllerOf(pod); ref == nil || ref.Name != "d" || ref.APIVersion != "apps/v1" || !*ref.BlockOwnerDeletion {
		t.Errorf("controller %v", ref)
	}
	if !ownership.IsControlledBy(pod, owner) || !ownership.HasOwner(pod, "other") || ownership.HasOwner(pod, "none") {
		t.Error("owners")
	}
	if !ownership.RemoveOwner(pod, owner.UID) || ownership.RemoveOwner(pod, owner.UID) || ownership.ControllerOf(pod) != nil || len(pod.OwnerReferences) != 1 {
		t.Errorf("after removal: %v", pod.OwnerReferences)
	}
}

func TestFinalizers(t *testing.T) {
	shared := []string{"a", "b"}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Finalizers: shared}}
	if ownership.AddFinalizer(pod, "a") || !ownership.AddFinalizer(pod, "c") || !ownership.HasFinalizer(pod, "c") {
		t.Error("add")
	}
	if !ownership.RemoveFinalizer(pod, "a") || ownership.RemoveFinalizer(pod, "a") || len(pod.Finalizers) != 2 {
		t.Errorf("remove: %v", pod.Finalizers)
	}
	if shared[0] != "a" || shared[1] != "b" {
		t.Errorf("the slice before was changed: %v", shared)
	}
}

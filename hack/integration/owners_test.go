package integration

import (
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/internal/testkit"
)

// configMap makes a ConfigMap with an owner, if one is named.
func (s *scenario) configMap(t *testing.T, name string, owner *metav1.OwnerReference, finalizers ...string) *corev1.ConfigMap {
	t.Helper()
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: finalizers}}
	if owner != nil {
		object.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	made, err := s.client.CoreV1().ConfigMaps(s.namespace).Create(t.Context(), object, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func ownedBy(name string, uid types.UID) *metav1.OwnerReference {
	return &metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: name, UID: uid, BlockOwnerDeletion: ptr.To(true)}
}

// family makes "owner" and "dependent", and waits until the collector knows
// them: it has deleted a ConfigMap made after them, whose owner never was.
func (s *scenario) family(t *testing.T, finalizers ...string) {
	t.Helper()
	owner := s.configMap(t, "owner", nil)
	s.configMap(t, "dependent", ownedBy("owner", owner.UID), finalizers...)
	s.configMap(t, "probe", ownedBy("nobody", "9c3c0a4e-0000-4000-8000-000000000000"))
	s.awaitGone(t, "probe")
}

func (s *scenario) awaitGone(t *testing.T, name string) {
	t.Helper()
	testkit.Eventually(t, "the end of ConfigMap "+name, func() error {
		_, err := s.client.CoreV1().ConfigMaps(s.namespace).Get(t.Context(), name, metav1.GetOptions{})
		return gone(err)
	})
}

func (s *scenario) deleteOwner(t *testing.T, how metav1.DeletionPropagation) {
	t.Helper()
	if err := s.client.CoreV1().ConfigMaps(s.namespace).Delete(t.Context(), "owner", metav1.DeleteOptions{PropagationPolicy: &how}); err != nil {
		t.Fatal(err)
	}
}

// background: the owner goes at once, the dependent after it.
func background(t *testing.T, s *scenario) {
	s.family(t)
	s.deleteOwner(t, metav1.DeletePropagationBackground)
	if _, err := s.client.CoreV1().ConfigMaps(s.namespace).Get(t.Context(), "owner", metav1.GetOptions{}); gone(err) != nil {
		t.Errorf("the owner after a background deletion: %v", gone(err))
	}
	s.awaitGone(t, "dependent")
}

// foreground: the owner waits for a dependent that blocks it.
func foreground(t *testing.T, s *scenario) {
	s.family(t, hold)
	s.deleteOwner(t, metav1.DeletePropagationForeground)
	maps := s.client.CoreV1().ConfigMaps(s.namespace)
	testkit.Eventually(t, "the dependent's deletion", func() error {
		found, err := maps.Get(t.Context(), "dependent", metav1.GetOptions{})
		if err == nil && found.DeletionTimestamp == nil {
			return errors.New("not deleted yet")
		}
		return err
	})
	owner, err := maps.Get(t.Context(), "owner", metav1.GetOptions{})
	if err != nil || owner.DeletionTimestamp == nil || len(owner.Finalizers) != 1 || owner.Finalizers[0] != metav1.FinalizerDeleteDependents {
		t.Errorf("the owner before its dependent: %+v, %v", owner, err)
	}
	s.release(t, "dependent")
	s.awaitGone(t, "dependent")
	s.awaitGone(t, "owner")
}

// orphan: the dependent stays, without the reference.
func orphan(t *testing.T, s *scenario) {
	s.family(t)
	s.deleteOwner(t, metav1.DeletePropagationOrphan)
	s.awaitGone(t, "owner")
	found, err := s.client.CoreV1().ConfigMaps(s.namespace).Get(t.Context(), "dependent", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(found.OwnerReferences) > 0 || found.DeletionTimestamp != nil {
		t.Error(fmt.Errorf("the orphan: %+v", found.ObjectMeta))
	}
}

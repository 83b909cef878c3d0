package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/internal/testkit"
)

// hold is a finalizer that only the scenarios take away.
const hold = "example.com/hold"

// release takes all finalizers from a ConfigMap.
func (s *scenario) release(t *testing.T, name string) {
	t.Helper()
	_, err := s.client.CoreV1().ConfigMaps(s.namespace).Patch(t.Context(), name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// gone is nil for the error of reading what does not exist.
func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		return errors.New("still there")
	}
	return err
}

// serviceAccount: a deleted default account comes back.
func serviceAccount(t *testing.T, s *scenario) {
	accounts := s.client.CoreV1().ServiceAccounts(s.namespace)
	first, err := accounts.Get(t.Context(), "default", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := accounts.Delete(t.Context(), "default", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "a new default account", func() error {
		now, err := accounts.Get(t.Context(), "default", metav1.GetOptions{})
		if err == nil && now.UID == first.UID {
			return errors.New("it is the old one")
		}
		return err
	})
}

// rootCA: the bundle is there, and put right when it is changed or deleted.
func rootCA(t *testing.T, s *scenario) {
	maps := s.client.CoreV1().ConfigMaps(s.namespace)
	authority, err := os.ReadFile(filepath.Join(s.server.PKIDir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	right := func() error {
		found, err := maps.Get(t.Context(), "kube-root-ca.crt", metav1.GetOptions{})
		if err == nil && found.Data["ca.crt"] != string(authority) {
			return fmt.Errorf("it holds %q", found.Data["ca.crt"])
		}
		return err
	}
	testkit.Eventually(t, "the CA bundle", right)
	if _, err := maps.Patch(t.Context(), "kube-root-ca.crt", types.MergePatchType, []byte(`{"data":{"ca.crt":"other"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the CA bundle after a change", right)
	if err := maps.Delete(t.Context(), "kube-root-ca.crt", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the CA bundle after deletion", right)
}

// namespaceDeletion: all content goes; what has a finalizer holds the Namespace
// up and is reported.
func namespaceDeletion(t *testing.T, s *scenario) {
	s.pod(t, "pod")
	held := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "held", Finalizers: []string{hold}}}
	if _, err := s.client.CoreV1().ConfigMaps(s.namespace).Create(t.Context(), held, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.AppsV1().Deployments(s.namespace).Create(t.Context(), deployment(s.namespace), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.client.CoreV1().Namespaces().Delete(t.Context(), s.namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the finalizer in the Namespace's conditions", func() error {
		ns, err := s.client.CoreV1().Namespaces().Get(t.Context(), s.namespace, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range ns.Status.Conditions {
			if c.Type == corev1.NamespaceFinalizersRemaining && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("phase %s, conditions %+v", ns.Status.Phase, ns.Status.Conditions)
	})
	late := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "late"}}
	if _, err := s.client.CoreV1().ConfigMaps(s.namespace).Create(t.Context(), late, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("create in a terminating Namespace: %v", err)
	}
	s.release(t, "held")
	testkit.Eventually(t, "the end of the Namespace", func() error {
		_, err := s.client.CoreV1().Namespaces().Get(t.Context(), s.namespace, metav1.GetOptions{})
		return gone(err)
	})
	left, err := s.client.CoreV1().Pods(s.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(left.Items) > 0 {
		t.Errorf("pods left: %v, %v", left, err)
	}
}

// clusterRole: an aggregated role has the rules of the roles it selects, and
// follows them.
func clusterRole(t *testing.T, s *scenario) {
	roles := s.client.RbacV1().ClusterRoles()
	labels := map[string]string{"example.com/aggregate": "yes"}
	rule := func(verbs ...string) []rbacv1.PolicyRule {
		return []rbacv1.PolicyRule{{APIGroups: []string{"example.com"}, Resources: []string{"things"}, Verbs: verbs}}
	}
	whole := &rbacv1.ClusterRole{
		ObjectMeta:      metav1.ObjectMeta{Name: "whole"},
		AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: labels}}},
	}
	part := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "part", Labels: labels}, Rules: rule("get")}
	for _, role := range []*rbacv1.ClusterRole{whole, part} {
		if _, err := roles.Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	verbs := func(want string) func() error {
		return func() error {
			role, err := roles.Get(t.Context(), "whole", metav1.GetOptions{})
			if err != nil {
				return err
			}
			got := ""
			for _, r := range role.Rules {
				got += fmt.Sprint(r.Verbs)
			}
			if got != want {
				return fmt.Errorf("verbs %q", got)
			}
			return nil
		}
	}
	testkit.Eventually(t, "the part's rules", verbs("[get]"))
	part.Rules = rule("get", "list")
	if _, err := roles.Update(t.Context(), part, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the part's new rules", verbs("[get list]"))
	if err := roles.Delete(t.Context(), "part", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "no rules without the part", verbs(""))
}

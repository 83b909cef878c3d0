package apitest_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/apiserver/apitest"
)

func TestServer(t *testing.T) {
	s := apitest.Start(t)
	ctx := t.Context()
	namespaces, err := s.Client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range namespaces.Items {
		names = append(names, n.Name)
	}
	if got := strings.Join(names, " "); got != "default kube-node-lease kube-public kube-system" {
		t.Errorf("namespaces %q", got)
	}
	if _, err := s.Client.CoreV1().ConfigMaps("nowhere").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("create in a missing namespace: %v", err)
	}
	version, err := s.Client.Discovery().ServerVersion()
	if err != nil || version.Major != "1" || version.Minor != "37" {
		t.Errorf("version %v, %v", version, err)
	}
}

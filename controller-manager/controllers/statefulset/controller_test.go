package statefulset_test

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/controller-manager/controllers/statefulset"
	"github.com/skeg-dev/skeg/controller-manager/reconcile/reconciletest"
	"github.com/skeg-dev/skeg/internal/testkit"
)

func TestOrderUpdateAndClaims(t *testing.T) {
	t.Parallel()
	c := reconciletest.New(t)
	r, err := statefulset.New(c.Env)
	if err != nil {
		t.Fatal(err)
	}
	c.RunPods("node-1", nil)
	c.Start(r)
	c.Watching(reconciletest.Pods, appsv1.SchemeGroupVersion.WithResource("statefulsets"), appsv1.SchemeGroupVersion.WithResource("controllerrevisions"))
	labels := map[string]string{"app": "db"}
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: ptr.To[int32](3), Selector: &metav1.LabelSelector{MatchLabels: labels}, ServiceName: "db", RevisionHistoryLimit: ptr.To[int32](10),
			PodManagementPolicy: appsv1.OrderedReadyPodManagement,
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{
				Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To[int32](0)},
			},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "image:1"}}},
			},
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}},
		},
	}
	if _, err := c.Client.AppsV1().StatefulSets("default").Create(t.Context(), set, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect(t, c, "db-0=image:1 db-1=image:1 db-2=image:1")
	edit(t, c, func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "image:2" })
	expect(t, c, "db-0=image:2 db-1=image:2 db-2=image:2")
	edit(t, c, func(s *appsv1.StatefulSet) {
		s.Spec.Template.Spec.Containers[0].Image = "image:3"
		s.Spec.UpdateStrategy.RollingUpdate.Partition = ptr.To[int32](2)
	})
	expect(t, c, "db-0=image:2 db-1=image:2 db-2=image:3")
	edit(t, c, func(s *appsv1.StatefulSet) { s.Spec.Replicas = ptr.To[int32](1) })
	expect(t, c, "db-0=image:2")
	claims, err := c.Client.CoreV1().PersistentVolumeClaims("default").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(claims.Items) != 3 || claims.Items[0].Name != "data-db-0" {
		t.Errorf("claims: %v %v", claims.Items, err)
	}
	pod, err := c.Client.CoreV1().Pods("default").Get(t.Context(), "db-0", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if pod.Spec.Hostname != "db-0" || pod.Spec.Subdomain != "db" || pod.Labels[appsv1.PodIndexLabel] != "0" || pod.Spec.Volumes[0].PersistentVolumeClaim.ClaimName != "data-db-0" {
		t.Errorf("identity of the pod: %+v %v", pod.Spec, pod.Labels)
	}
}

func edit(t *testing.T, c *reconciletest.Cluster, change func(*appsv1.StatefulSet)) {
	t.Helper()
	testkit.Eventually(t, "update the set", func() error {
		s, err := c.Client.AppsV1().StatefulSets("default").Get(t.Context(), "db", metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(s)
		_, err = c.Client.AppsV1().StatefulSets("default").Update(t.Context(), s, metav1.UpdateOptions{})
		return err
	})
}

func expect(t *testing.T, c *reconciletest.Cluster, want string) {
	t.Helper()
	testkit.Eventually(t, want, func() error {
		pods, err := c.Client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		var have []string
		for _, p := range pods.Items {
			have = append(have, p.Name+"="+p.Spec.Containers[0].Image)
		}
		s, err := c.Client.AppsV1().StatefulSets("default").Get(t.Context(), "db", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if got := strings.Join(have, " "); got != want || s.Status.AvailableReplicas != int32(len(have)) || s.Status.ObservedGeneration != s.Generation {
			return fmt.Errorf("have %s, status %+v", got, s.Status)
		}
		return nil
	})
}

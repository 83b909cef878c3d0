package daemonset_test

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/controller-manager/controllers/daemonset"
	"github.com/skeg-dev/skeg/controller-manager/reconcile/reconciletest"
	"github.com/skeg-dev/skeg/internal/testkit"
)

func TestOnePodOnEachFittingNode(t *testing.T) {
	t.Parallel()
	c := reconciletest.New(t)
	for _, name := range []string{"n1", "n2", "n3"} {
		c.Add(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"disk": "ssd"}}})
	}
	c.Add(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "other"}})
	r, err := daemonset.New(c.Env)
	if err != nil {
		t.Fatal(err)
	}
	c.RunPods("", nil) // the node a pod is pinned to
	c.Start(r)
	c.Watching(reconciletest.Pods, appsv1.SchemeGroupVersion.WithResource("daemonsets"), appsv1.SchemeGroupVersion.WithResource("controllerrevisions"))
	labels := map[string]string{"app": "agent"}
	ds := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "agent"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels}, RevisionHistoryLimit: ptr.To[int32](10),
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
				Type:          appsv1.RollingUpdateDaemonSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: ptr.To(intstr.FromInt32(1)), MaxSurge: ptr.To(intstr.FromInt32(0))},
			},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{NodeSelector: map[string]string{"disk": "ssd"}, Containers: []corev1.Container{{Name: "c", Image: "image:1"}}},
			},
		},
	}
	if _, err := c.Client.AppsV1().DaemonSets("default").Create(t.Context(), ds, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect(t, c, map[string]string{"n1": "image:1", "n2": "image:1", "n3": "image:1"})
	edit(t, c, func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.Containers[0].Image = "image:2" })
	expect(t, c, map[string]string{"n1": "image:2", "n2": "image:2", "n3": "image:2"})
	edit(t, c, func(d *appsv1.DaemonSet) {
		d.Spec.Template.Spec.Containers[0].Image = "image:3"
		d.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: ptr.To(intstr.FromInt32(0)), MaxSurge: ptr.To(intstr.FromInt32(2))}
	})
	expect(t, c, map[string]string{"n1": "image:3", "n2": "image:3", "n3": "image:3"})
	node, err := c.Client.CoreV1().Nodes().Get(t.Context(), "n2", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node.Labels = nil
	if _, err := c.Client.CoreV1().Nodes().Update(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect(t, c, map[string]string{"n1": "image:3", "n3": "image:3"})
}

func edit(t *testing.T, c *reconciletest.Cluster, change func(*appsv1.DaemonSet)) {
	t.Helper()
	testkit.Eventually(t, "update the set", func() error {
		d, err := c.Client.AppsV1().DaemonSets("default").Get(t.Context(), "agent", metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(d)
		_, err = c.Client.AppsV1().DaemonSets("default").Update(t.Context(), d, metav1.UpdateOptions{})
		return err
	})
}

func expect(t *testing.T, c *reconciletest.Cluster, want map[string]string) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprint(want), func() error {
		pods, err := c.Client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		have := map[string]string{}
		for _, p := range pods.Items {
			have[p.Spec.NodeName] += p.Spec.Containers[0].Image
		}
		d, err := c.Client.AppsV1().DaemonSets("default").Get(t.Context(), "agent", metav1.GetOptions{})
		if err != nil {
			return err
		}
		n := int32(len(want))
		if fmt.Sprint(have) != fmt.Sprint(want) || d.Status.NumberAvailable != n || d.Status.DesiredNumberScheduled != n || d.Status.UpdatedNumberScheduled != n {
			return fmt.Errorf("have %v, status %+v", have, d.Status)
		}
		return nil
	})
}

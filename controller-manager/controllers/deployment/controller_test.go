package deployment_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skeg-dev/skeg/controller-manager/controllers/deployment"
	"github.com/skeg-dev/skeg/controller-manager/controllers/replicaset"
	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
	"github.com/skeg-dev/skeg/controller-manager/reconcile/reconciletest"
	"github.com/skeg-dev/skeg/internal/testkit"
)

const namespace = "default"

func start(t *testing.T, ready func(*corev1.Pod) bool) *reconciletest.Cluster {
	t.Helper()
	c := reconciletest.New(t)
	d, err := deployment.New(c.Env)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := replicaset.New(c.Env)
	if err != nil {
		t.Fatal(err)
	}
	c.RunPods("node-1", ready)
	c.Start(d, rs)
	c.Watching(reconciletest.Pods, appsv1.SchemeGroupVersion.WithResource("deployments"), appsv1.SchemeGroupVersion.WithResource("replicasets"))
	return c
}

func web(replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			RevisionHistoryLimit: ptr.To[int32](2), ProgressDeadlineSeconds: ptr.To[int32](600),
			Strategy: appsv1.DeploymentStrategy{
				Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{
					MaxSurge: ptr.To(intstr.FromInt32(1)), MaxUnavailable: ptr.To(intstr.FromInt32(0)),
				},
			},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "image:1"}}},
			},
		},
	}
}

func create(t *testing.T, c *reconciletest.Cluster, d *appsv1.Deployment) {
	t.Helper()
	if _, err := c.Client.AppsV1().Deployments(namespace).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func change(t *testing.T, c *reconciletest.Cluster, edit func(*appsv1.Deployment)) {
	t.Helper()
	testkit.Eventually(t, "update the deployment", func() error {
		d, err := c.Client.AppsV1().Deployments(namespace).Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		edit(d)
		_, err = c.Client.AppsV1().Deployments(namespace).Update(t.Context(), d, metav1.UpdateOptions{})
		return err
	})
}

func image(d *appsv1.Deployment, to string) { d.Spec.Template.Spec.Containers[0].Image = to }

// images counts the active pods by image, and those that are ready.
// It reads the tracker, as a reactor must not call the client.
func images(c *reconciletest.Cluster) (counts map[string]int, ready int, err error) {
	found, err := c.Client.Tracker().List(reconciletest.Pods, corev1.SchemeGroupVersion.WithKind("Pod"), namespace)
	if err != nil {
		return nil, 0, err
	}
	pods := found.(*corev1.PodList)
	counts = map[string]int{}
	for i := range pods.Items {
		counts[pods.Items[i].Spec.Containers[0].Image]++
		if podcontrol.Ready(&pods.Items[i]) {
			ready++
		}
	}
	return counts, ready, nil
}

func settled(t *testing.T, c *reconciletest.Cluster, want map[string]int) *appsv1.Deployment {
	t.Helper()
	var d *appsv1.Deployment
	testkit.Eventually(t, fmt.Sprintf("pods %v", want), func() error {
		counts, _, err := images(c)
		if err != nil {
			return err
		}
		if !maps.Equal(counts, want) {
			return fmt.Errorf("pods are %v", counts)
		}
		d, err = c.Client.AppsV1().Deployments(namespace).Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if n := *d.Spec.Replicas; d.Status.ObservedGeneration != d.Generation || d.Status.AvailableReplicas != n || d.Status.UpdatedReplicas != n {
			return fmt.Errorf("status is %+v", d.Status)
		}
		if p := progressing(d); p == nil || (p.Reason != "NewReplicaSetAvailable") {
			return fmt.Errorf("progressing is %+v", p)
		}
		return nil
	})
	return d
}

func progressing(d *appsv1.Deployment) *appsv1.DeploymentCondition {
	for i := range d.Status.Conditions {
		if d.Status.Conditions[i].Type == appsv1.DeploymentProgressing {
			return &d.Status.Conditions[i]
		}
	}
	return nil
}

func TestRollingUpdateKeepsToItsLimits(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	create(t, c, web(5))
	if d := settled(t, c, map[string]int{"image:1": 5}); d.Annotations["deployment.kubernetes.io/revision"] != "1" {
		t.Errorf("revision of the first rollout: %v", d.Annotations)
	}
	c.Client.PrependReactor("delete", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		if _, ready, err := images(c); err == nil && ready <= 5-1 {
			t.Errorf("a pod is deleted while only %d are ready", ready)
		}
		return false, nil, nil
	})
	// The surge is counted by what the sets are asked for, as upstream counts it.
	c.Client.PrependReactor("update", "replicasets", func(action clienttesting.Action) (bool, runtime.Object, error) {
		set := action.(clienttesting.UpdateAction).GetObject().(*appsv1.ReplicaSet)
		found, err := c.Client.Tracker().List(appsv1.SchemeGroupVersion.WithResource("replicasets"), appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), namespace)
		if err != nil || action.GetSubresource() != "" {
			return false, nil, err
		}
		total := *set.Spec.Replicas
		for _, other := range found.(*appsv1.ReplicaSetList).Items {
			if other.UID != set.UID {
				total += *other.Spec.Replicas
			}
		}
		if total > 6 {
			t.Errorf("%d pods are asked for", total)
		}
		return false, nil, nil
	})
	change(t, c, func(d *appsv1.Deployment) { image(d, "image:2") })
	d := settled(t, c, map[string]int{"image:2": 5})
	if d.Annotations["deployment.kubernetes.io/revision"] != "2" {
		t.Errorf("revision of the second rollout: %v", d.Annotations)
	}
	change(t, c, func(d *appsv1.Deployment) { image(d, "image:1") })
	if d := settled(t, c, map[string]int{"image:1": 5}); d.Annotations["deployment.kubernetes.io/revision"] != "3" {
		t.Errorf("revision after going back: %v", d.Annotations)
	}
	sets, err := c.Client.AppsV1().ReplicaSets(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(sets.Items) != 2 {
		t.Errorf("going back to a former template makes no new set: %v, %v", len(sets.Items), err)
	}
}

func TestScaleRecreateAndHistory(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	d := web(3)
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	create(t, c, d)
	settled(t, c, map[string]int{"image:1": 3})
	for _, n := range []int32{10, 1, 4} {
		change(t, c, func(d *appsv1.Deployment) { d.Spec.Replicas = &n })
		settled(t, c, map[string]int{"image:1": int(n)})
	}
	for version := 2; version <= 6; version++ {
		name := fmt.Sprintf("image:%d", version)
		change(t, c, func(d *appsv1.Deployment) { image(d, name) })
		settled(t, c, map[string]int{name: 4})
	}
	testkit.Eventually(t, "old sets beyond the history are removed", func() error {
		sets, err := c.Client.AppsV1().ReplicaSets(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(sets.Items) != 3 {
			return fmt.Errorf("%d sets", len(sets.Items))
		}
		return nil
	})
}

func TestBrokenImageHaltsTheRollout(t *testing.T) {
	t.Parallel()
	c := start(t, func(p *corev1.Pod) bool { return p.Spec.Containers[0].Image != "broken" })
	create(t, c, web(4))
	settled(t, c, map[string]int{"image:1": 4})
	change(t, c, func(d *appsv1.Deployment) { image(d, "broken") })
	testkit.Eventually(t, "one surge pod and no more", func() error {
		counts, _, err := images(c)
		if err != nil {
			return err
		}
		if counts["broken"] != 1 || counts["image:1"] != 4 {
			return fmt.Errorf("pods are %v", counts)
		}
		return nil
	})
	change(t, c, func(d *appsv1.Deployment) { d.Spec.Paused = true })
	change(t, c, func(d *appsv1.Deployment) { image(d, "image:3") })
	testkit.Eventually(t, "paused", func() error {
		d, err := c.Client.AppsV1().Deployments(namespace).Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if p := progressing(d); p == nil || p.Reason != "DeploymentPaused" || d.Status.ObservedGeneration != d.Generation {
			return fmt.Errorf("progressing is %+v", p)
		}
		return nil
	})
	if counts, _, _ := images(c); counts["image:3"] != 0 {
		t.Errorf("a paused deployment rolled out: %v", counts)
	}
	change(t, c, func(d *appsv1.Deployment) { d.Spec.Paused = false })
	settled(t, c, map[string]int{"image:3": 4})
}

func TestRollbackAnnotation(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	create(t, c, web(2))
	settled(t, c, map[string]int{"image:1": 2})
	change(t, c, func(d *appsv1.Deployment) { image(d, "image:2") })
	settled(t, c, map[string]int{"image:2": 2})
	change(t, c, func(d *appsv1.Deployment) {
		metav1.SetMetaDataAnnotation(&d.ObjectMeta, appsv1.DeprecatedRollbackTo, "0")
	})
	d := settled(t, c, map[string]int{"image:1": 2})
	if _, there := d.Annotations[appsv1.DeprecatedRollbackTo]; there {
		t.Error("the rollback annotation is still there")
	}
	close(c.Events)
	var all []string
	for e := range c.Events {
		all = append(all, e)
	}
	if !slices.ContainsFunc(all, func(e string) bool { return strings.Contains(e, "DeploymentRollback Rolled back deployment") }) {
		t.Errorf("no event of the rollback in %q", all)
	}
}

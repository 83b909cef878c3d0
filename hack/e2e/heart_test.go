package e2e

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// webManifest is a Deployment of the demo with a Service, as a user writes it.
func webManifest(namespace string, replicas int) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: web
        image: %[3]s
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: %[1]s}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
`, namespace, replicas, image("demo"))
}

// readyPods returns the Pods that are ready and not on their way out.
func readyPods(ctx context.Context, namespace, selector string) ([]corev1.Pod, error) {
	list, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	var ready []corev1.Pod
	for _, p := range list.Items {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil {
				ready = append(ready, p)
			}
		}
	}
	return ready, nil
}

func waitReady(t *testing.T, namespace, selector string, n int) []corev1.Pod {
	t.Helper()
	var pods []corev1.Pod
	eventually(t, fmt.Sprintf("%d pods ready in %s", n, namespace), func(ctx context.Context) error {
		var err error
		if pods, err = readyPods(ctx, namespace, selector); err != nil {
			return err
		}
		if len(pods) != n {
			return fmt.Errorf("%d of %d are ready", len(pods), n)
		}
		return nil
	})
	return pods
}

// TestHeartDeletedPod is the first third of S1: a deleted Pod is replaced.
func TestHeartDeletedPod(t *testing.T) {
	const ns = "heart-delete"
	namespace(t, ns)
	pullSecret(t, ns)
	apply(t, webManifest(ns, 3))
	pods := waitReady(t, ns, "app=web", 3)
	svc, err := client.CoreV1().Services(ns).Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + svc.Spec.ClusterIP + "/"
	if _, err := fetch(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	must(t, "-n", ns, "delete", "pod", pods[0].Name, "--wait=false")
	eventually(t, "a replacement", func(ctx context.Context) error {
		now, err := readyPods(ctx, ns, "app=web")
		if err != nil {
			return err
		}
		for _, p := range now {
			if p.UID == pods[0].UID {
				return fmt.Errorf("%s is still there", p.Name)
			}
		}
		if len(now) != 3 {
			return fmt.Errorf("%d pods are ready", len(now))
		}
		return nil
	})
	if _, err := fetch(t.Context(), url); err != nil {
		t.Error(err)
	}
}

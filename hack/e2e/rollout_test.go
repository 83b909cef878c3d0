package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nginxManifest is a Deployment that loses no request while it is updated: new
// Pods take traffic once they answer, old ones wait until nobody asks them.
func nginxManifest(namespace string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: nginx, namespace: %[1]s}
spec:
  replicas: 3
  progressDeadlineSeconds: 15
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec:
      terminationGracePeriodSeconds: 15
      containers:
      - name: nginx
        image: %[2]s
        command: [nginx, -g, "daemon off;"]
        ports: [{name: http, containerPort: 80}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 4}}}
---
apiVersion: v1
kind: Service
metadata: {name: nginx, namespace: %[1]s}
spec:
  selector: {app: nginx}
  ports: [{port: 80, targetPort: http}]
`, namespace, image("nginx"))
}

// TestRollout is S2: nginx is updated, rolled back, scaled and broken under
// constant requests, none of which fails.
func TestRollout(t *testing.T) {
	const ns = "rollout"
	namespace(t, ns)
	pullSecret(t, ns)
	apply(t, nginxManifest(ns))
	must(t, "-n", ns, "rollout", "status", "deployment/nginx", "--timeout=180s")
	svc, err := client.CoreV1().Services(ns).Get(t.Context(), "nginx", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + svc.Spec.ClusterIP + "/"
	serves(t, url, "version 1")
	l := startLoad(t, url)
	l.progress(t, 20)
	for _, part := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"update", func(t *testing.T) {
			must(t, "-n", ns, "set", "image", "deployment/nginx", "nginx="+image("nginx2"))
			must(t, "-n", ns, "rollout", "status", "deployment/nginx", "--timeout=180s")
			serves(t, url, "version 2")
		}},
		{"rollback", func(t *testing.T) {
			must(t, "-n", ns, "rollout", "undo", "deployment/nginx")
			must(t, "-n", ns, "rollout", "status", "deployment/nginx", "--timeout=180s")
			serves(t, url, "version 1")
		}},
		{"scale", func(t *testing.T) {
			for _, n := range []int{10, 1, 3} {
				must(t, "-n", ns, "scale", "deployment/nginx", fmt.Sprintf("--replicas=%d", n))
				must(t, "-n", ns, "rollout", "status", "deployment/nginx", "--timeout=180s")
				waitReady(t, ns, "app=nginx", n)
				l.progress(t, 20)
			}
		}},
		{"a broken image", func(t *testing.T) { brokenImage(t, ns, url) }},
	} {
		if !t.Run(part.name, part.run) {
			break
		}
	}
	l.progress(t, 20)
	l.stop()
	t.Logf("%d requests succeeded", l.ok)
	for _, f := range l.failed {
		t.Errorf("at %s: %v", f.at.Format("15:04:05.000"), f.err)
	}
}

// serves waits until the page says text and nothing older is left.
func serves(t *testing.T, url, text string) {
	t.Helper()
	const row = 10 // in a row, over all endpoints
	eventually(t, "serves "+text, func(ctx context.Context) error {
		for range row {
			page, err := fetch(ctx, url)
			if err != nil {
				t.Error(err)
			}
			if !strings.Contains(page, text) {
				return fmt.Errorf("got %q", page)
			}
		}
		return nil
	})
}

// brokenImage wants a rollout that cannot succeed to halt with the old Pods in
// place, to say why where users look, and to be undone.
func brokenImage(t *testing.T, ns, url string) {
	old := waitReady(t, ns, "app=nginx", 3)
	must(t, "-n", ns, "set", "image", "deployment/nginx", "nginx="+slot.registry+"/skeg/nginx:none")
	_, err := ctl(t.Context(), "-n", ns, "rollout", "status", "deployment/nginx", "--timeout=180s")
	if err == nil || !strings.Contains(err.Error(), "exceeded its progress deadline") {
		t.Errorf("rollout status: %v", err)
	}
	eventually(t, "the pod says why", func(ctx context.Context) error { return saysWhy(ctx, ns) })
	still := map[string]bool{}
	for _, p := range waitReady(t, ns, "app=nginx", 3) {
		still[p.Name] = true
	}
	for _, p := range old {
		if !still[p.Name] {
			t.Errorf("%s was removed for a Pod that never ran", p.Name)
		}
	}
	must(t, "-n", ns, "rollout", "undo", "deployment/nginx")
	must(t, "-n", ns, "rollout", "status", "deployment/nginx", "--timeout=180s")
	serves(t, url, "version 1")
}

// saysWhy is nil when the Pod with the image that does not exist tells so in
// the table of Pods and in its description.
func saysWhy(ctx context.Context, ns string) error {
	out, err := ctl(ctx, "-n", ns, "get", "pods", "-l", "app=nginx", "--field-selector=status.phase=Pending", "--no-headers")
	if err != nil {
		return err
	}
	fields := strings.Fields(out)
	if !strings.Contains(out, "ImagePullBackOff") || len(fields) == 0 {
		return fmt.Errorf("get pods: %q", out)
	}
	described, err := ctl(ctx, "-n", ns, "describe", "pod", fields[0])
	if err != nil {
		return err
	}
	for _, text := range []string{"Failed to pull image", "skeg/nginx:none", "not found", "Back-off pulling image"} {
		if !strings.Contains(described, text) {
			return fmt.Errorf("describe does not say %q:\n%s", text, described)
		}
	}
	return nil
}

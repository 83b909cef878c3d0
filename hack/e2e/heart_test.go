package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
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
      tolerations:
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 3}
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 3}
      containers:
      - name: web
        image: %[3]s
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 2}}}
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

// heart is the workload of S1 while things happen to it.
type heart struct {
	namespace, clusterIP string
	host                 *load
}

// TestHeart is S1: three replicas behind a Service; a Pod is deleted, a
// container's process is killed, a node is cut off. Clients on a node and in a
// Pod ask all the time.
func TestHeart(t *testing.T) {
	const ns = "heart"
	namespace(t, ns)
	pullSecret(t, ns)
	apply(t, webManifest(ns, 3)+clientManifest(ns))
	waitReady(t, ns, "app=web", 3)
	svc, err := client.CoreV1().Services(ns).Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h := &heart{namespace: ns, clusterIP: svc.Spec.ClusterIP}
	h.host = startLoad(t, "http://"+h.clusterIP+"/")
	h.host.progress(t, 50)
	h.podProgress(t, 20)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *heart)
	}{
		{"a pod is deleted", deletePod}, {"a process is killed", killProcess}, {"a node is cut off", cutNode},
		{"components are killed", killComponents}, {"stop and up", stopAndUp},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, h) })
	}
	h.host.stop()
	t.Logf("%d requests succeeded, %d failed", h.host.ok, len(h.host.failed))
}

// clientManifest is a Pod on the first node that asks by the DNS name.
func clientManifest(namespace string) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: %[1]s}
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 1
  containers:
  - name: client
    image: %[2]s
    args: [load, "http://web.%[1]s.svc.cluster.local/"]
`, namespace, image("demo"))
}

// podLog returns how many requests of the Pod succeeded, and those that failed.
func (h *heart) podLog(ctx context.Context) (ok int, failed []failure, err error) {
	out, err := ctl(ctx, "-n", h.namespace, "logs", "client")
	if err != nil {
		return 0, nil, err
	}
	for line := range strings.Lines(out) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "ok":
			if ok, err = strconv.Atoi(rest); err != nil {
				return 0, nil, err
			}
		case "failed":
			at, why, _ := strings.Cut(rest, " ")
			started, err := time.Parse(time.RFC3339Nano, at)
			if err != nil {
				return 0, nil, err
			}
			failed = append(failed, failure{started, errors.New(why)})
		}
	}
	return ok, failed, nil
}

// podProgress waits until n more requests of the Pod have succeeded.
func (h *heart) podProgress(t *testing.T, n int) {
	t.Helper()
	goal := -1
	eventually(t, "requests from the pod succeed", func(ctx context.Context) error {
		ok, failed, err := h.podLog(ctx)
		if err != nil {
			return err
		}
		if goal < 0 {
			goal = ok + n
		}
		if ok < goal {
			return fmt.Errorf("%d of %d; failures: %v", ok, goal, failed)
		}
		return nil
	})
}

// settled waits until both clients get answers again, and returns the time
// from which none may fail.
func (h *heart) settled(t *testing.T) time.Time {
	t.Helper()
	h.host.progress(t, 30)
	h.podProgress(t, 20)
	return time.Now()
}

// noFailure fails the test if a request started since from failed, and if the
// Service has another address.
func (h *heart) noFailure(t *testing.T, from time.Time) {
	t.Helper()
	h.host.progress(t, 30)
	h.podProgress(t, 20)
	h.host.none(t, "client on the host", from, time.Now())
	_, failed, err := h.podLog(t.Context())
	if err != nil {
		t.Error(err)
	}
	for _, f := range failed {
		if f.at.After(from) {
			t.Errorf("client in a pod: at %s: %v", f.at.Format("15:04:05.000"), f.err)
		}
	}
	svc, err := client.CoreV1().Services(h.namespace).Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if svc.Spec.ClusterIP != h.clusterIP {
		t.Errorf("the Service has another address: %s, was %s", svc.Spec.ClusterIP, h.clusterIP)
	}
}

// out waits until no endpoint that takes traffic is a Pod of gone.
func (h *heart) out(t *testing.T, gone func(discoveryv1.Endpoint) bool) {
	t.Helper()
	eventually(t, "endpoints are out", func(ctx context.Context) error {
		list, err := client.DiscoveryV1().EndpointSlices(h.namespace).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=web"})
		if err != nil {
			return err
		}
		for _, s := range list.Items {
			for _, e := range s.Endpoints {
				if gone(e) && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
					return fmt.Errorf("%v is still in", e.Addresses)
				}
			}
		}
		return nil
	})
}

// deletePod deletes one, and wants its replacement and, thanks to the preStop
// pause, no failure at all.
func deletePod(t *testing.T, h *heart) {
	pods := waitReady(t, h.namespace, "app=web", 3)
	from := time.Now()
	must(t, "-n", h.namespace, "delete", "pod", pods[0].Name)
	for _, p := range waitReady(t, h.namespace, "app=web", 3) {
		if p.UID == pods[0].UID {
			t.Errorf("%s is still there", p.Name)
		}
	}
	h.noFailure(t, from)
}

// killProcess kills a container's process as the kernel's OOM killer would:
// the same Pod gets a new container.
func killProcess(t *testing.T, h *heart) {
	victim := waitReady(t, h.namespace, "app=web", 3)[0]
	killed := processesOf(t, string(victim.UID))
	if len(killed) != 1 {
		t.Fatalf("processes of %s: %v", victim.Name, killed)
	}
	if err := syscall.Kill(killed[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the container is started again", func(ctx context.Context) error {
		p, err := client.CoreV1().Pods(h.namespace).Get(ctx, victim.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		c := p.Status.ContainerStatuses[0]
		last := c.LastTerminationState.Terminated
		if c.RestartCount != 1 || !c.Ready || last == nil {
			return fmt.Errorf("restarts %d, ready %v, last %v", c.RestartCount, c.Ready, last)
		}
		if last.ExitCode != 137 {
			t.Errorf("exit code %d", last.ExitCode)
		}
		return nil
	})
	h.noFailure(t, h.settled(t))
}

// processesOf finds the processes in the Pod's cgroup, without the shim.
func processesOf(t *testing.T, uid string) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, f := range files {
		groups, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(groups), "/"+slot.name+"/") || !strings.Contains(string(groups), "pod"+uid) {
			continue
		}
		exe, err := os.Readlink(filepath.Join(filepath.Dir(f), "exe"))
		if err != nil || filepath.Base(exe) == "kubelet-shim" {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			found = append(found, pid)
		}
	}
	slices.Sort(found)
	return found
}

// cutNode unplugs the second node: its Pods are replaced on the first, and
// clients see no failure once its endpoints are out. Then it comes back.
func cutNode(t *testing.T, h *heart) {
	const node = "node-2"
	waitReady(t, h.namespace, "app=web", 3)
	plug(t, node, false)
	defer plug(t, node, true)
	h.out(t, func(e discoveryv1.Endpoint) bool { return e.NodeName != nil && *e.NodeName == node })
	from := h.settled(t)
	for _, p := range waitReady(t, h.namespace, "app=web", 3) {
		if p.Spec.NodeName == node {
			t.Errorf("%s counts as ready on the lost node", p.Name)
		}
	}
	h.noFailure(t, from)
	must(t, "get", "node", node, "-o", "wide")
	plug(t, node, true)
	must(t, "wait", "--for=condition=Ready", "node/"+node, "--timeout=120s")
	eventually(t, "the node is healed", func(ctx context.Context) error {
		n, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		pods, err := client.CoreV1().Pods(h.namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil {
			return err
		}
		if len(n.Spec.Taints) != 0 || len(pods.Items) != 3 {
			return fmt.Errorf("taints %v, %d pods", n.Spec.Taints, len(pods.Items))
		}
		return nil
	})
	h.noFailure(t, from)
}

// plug sets the switch's port of a node up or down, as a cable is plugged.
func plug(t *testing.T, node string, in bool) {
	t.Helper()
	ns, err := netns.GetFromName(slot.name + "-switch")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	port, err := handle.LinkByName(node)
	if err != nil {
		t.Fatal(err)
	}
	set := handle.LinkSetDown
	if in {
		set = handle.LinkSetUp
	}
	if err := set(port); err != nil {
		t.Fatal(err)
	}
}

// incarnation tells a running container from one started again.
func (h *heart) incarnation(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, p := range waitReady(t, h.namespace, "app=web", 3) {
		found[string(p.UID)] = fmt.Sprint(p.Status.ContainerStatuses[0].ContainerID, processesOf(t, string(p.UID)))
	}
	return found
}

// killComponents kills every component in turn: traffic flows on, containers
// are not touched, and `ctl up` starts what is missing.
func killComponents(t *testing.T, h *heart) {
	before := h.incarnation(t)
	from := time.Now()
	for _, name := range []string{"node-1-kubelet", "node-2-kubelet", "node-1-proxy", "node-2-proxy", "scheduler", "controller-manager", "apiserver"} {
		if err := syscall.Kill(component(t, name), syscall.SIGKILL); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		h.host.progress(t, 20)
	}
	must(t, "up", "--state-dir", stateDir, "--demo", "none", "--registry-config-dir", stateDir+"-mirrors")
	if after := h.incarnation(t); !maps.Equal(before, after) {
		t.Errorf("containers were touched:\nbefore %v\nafter  %v", before, after)
	}
	h.host.none(t, "client on the host", from, time.Now())
	// DNS is answered by the proxies: while they were down, names were not.
	h.noFailure(t, h.settled(t))
}

// component returns the process id of a component that `ctl up` started.
func component(t *testing.T, name string) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(stateDir, "run", name+".pid"))
	if err != nil {
		t.Fatal(err)
	}
	var record struct{ PID int }
	if err := json.Unmarshal(data, &record); err != nil || record.PID == 0 {
		t.Fatalf("%s: %v", data, err)
	}
	return record.PID
}

// stopAndUp stops the cluster and continues it with its data.
func stopAndUp(t *testing.T, h *heart) {
	h.host.stop()
	must(t, "stop", "--state-dir", stateDir)
	must(t, "up", "--state-dir", stateDir, "--demo", "none", "--registry-config-dir", stateDir+"-mirrors")
	h.host = startLoad(t, "http://"+h.clusterIP+"/")
	waitReady(t, h.namespace, "app=web", 3)
	h.noFailure(t, h.settled(t))
	h.host.stop()
}

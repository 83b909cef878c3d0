package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pickyManifest is a Pod that only one node suits, and one that none does.
func pickyManifest(namespace, node string) string {
	const pod = `---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec:
  %s
  terminationGracePeriodSeconds: 1
  containers: [{name: demo, image: %q, resources: {requests: {cpu: %q}}}]
`
	var out strings.Builder
	fmt.Fprintf(&out, pod, "third", namespace, "nodeSelector: {kubernetes.io/hostname: "+node+"}", image("demo"), "10m")
	fmt.Fprintf(&out, pod, "huge", namespace, "priority: 0", image("demo"), "1000")
	return out.String()
}

// TestPlacement is S3: a Pod that no node suits is Pending and says why, until
// a node that suits joins. Then the node joins again as on another machine.
func TestPlacement(t *testing.T) {
	const ns = "placement"
	namespace(t, ns)
	pullSecret(t, ns)
	must(t, "taint", "node", "node-2", "e2e=yes:NoSchedule")
	t.Cleanup(func() {
		if _, err := ctl(context.Background(), "taint", "node", "node-2", "e2e-"); err != nil {
			t.Error(err)
		}
	})
	nodes, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n := len(nodes.Items) // 2, unless a cluster is kept from an earlier run
	third := fmt.Sprintf("node-%d", n+1)
	apply(t, pickyManifest(ns, third))
	none := fmt.Sprintf("0/%d nodes are available: ", n)
	pending(t, ns, "huge", fmt.Sprintf("%s%d Insufficient cpu, 1 node(s) had untolerated taint", none, n-1))
	pending(t, ns, "third", none, "node(s) didn't match Pod's node affinity/selector")

	must(t, "up", "--state-dir", stateDir, "--nodes", strconv.Itoa(n+1), "--demo", "none", "--registry-config-dir", stateDir+"-mirrors")
	must(t, "-n", ns, "wait", "--for=condition=Ready", "pod/third", "--timeout=120s")
	pending(t, ns, "huge", fmt.Sprintf("0/%d nodes are available: ", n+1), fmt.Sprintf("%d Insufficient cpu", n))
	t.Run("join with a token", func(t *testing.T) { joinByHand(t, ns, third) })
}

// pending wants the texts in the Pod's condition and in an event about it.
func pending(t *testing.T, ns, name string, texts ...string) {
	t.Helper()
	eventually(t, name+" says why", func(ctx context.Context) error {
		p, err := client.CoreV1().Pods(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if p.Status.Phase != corev1.PodPending || p.Spec.NodeName != "" {
			t.Fatalf("%s is %s on %q", name, p.Status.Phase, p.Spec.NodeName)
		}
		said := ""
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
				said = c.Message
			}
		}
		described, err := ctl(ctx, "-n", ns, "describe", "pod", name)
		if err != nil {
			return err
		}
		_, events, _ := strings.Cut(described, "Events:")
		for _, text := range texts {
			if !strings.Contains(said, text) {
				return fmt.Errorf("condition: %q", said)
			}
			if !strings.Contains(events, "FailedScheduling") || !strings.Contains(events, text) {
				return fmt.Errorf("events: %s", events)
			}
		}
		return nil
	})
}

// joinByHand takes the third node away and joins it with a token and the hash
// of the cluster's authority, as on another machine: nothing but the command
// line is known to the kubelet.
func joinByHand(t *testing.T, ns, node string) {
	must(t, "-n", ns, "delete", "pod", "third")
	interrupt(t, component(t, node+"-kubelet"))
	must(t, "delete", "node", node)
	dir := filepath.Join(stateDir, "nodes", node)
	for _, state := range []string{"kubelet.conf", "bootstrap.conf", filepath.Join("kubelet", "pki")} {
		if err := os.RemoveAll(filepath.Join(dir, state)); err != nil {
			t.Fatal(err)
		}
	}
	token := strings.TrimSpace(must(t, "token", "create"))
	log, err := os.Create(filepath.Join(stateDir, "log", node+"-join.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	kubelet := exec.Command("nsenter", "--net=/run/netns/"+slot.name+"-"+node, filepath.Join(root, "bin", "kubelet"),
		"--server="+config.Host, "--token="+token, "--ca-cert-hash="+authorityHash(t),
		"--kubeconfig="+filepath.Join(dir, "kubelet.conf"), "--root-dir="+filepath.Join(dir, "kubelet"), "--pod-log-dir="+filepath.Join(dir, "pods"),
		"--hostname-override="+node, "--cgroup-root=/"+slot.name+"/"+node, "--registry-config-dir="+stateDir+"-mirrors")
	kubelet.Stdout, kubelet.Stderr = log, log
	if err := kubelet.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		interrupt(t, kubelet.Process.Pid)
		if err := kubelet.Wait(); err != nil {
			t.Log("kubelet:", err)
		}
		// The node stays in the cluster, under the care of ctl again.
		must(t, "up", "--state-dir", stateDir, "--demo", "none", "--registry-config-dir", stateDir+"-mirrors")
	}()
	eventually(t, "the node is Ready", func(ctx context.Context) error {
		_, err := ctl(ctx, "wait", "--for=condition=Ready", "node/"+node, "--timeout=10s")
		return err
	})
	apply(t, pickyManifest(ns, node))
	must(t, "-n", ns, "wait", "--for=condition=Ready", "pod/third", "--timeout=120s")
}

// authorityHash is the hash of the cluster authority's public key, as kubeadm
// writes it.
func authorityHash(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(stateDir, "pki", "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatal("ca.crt is not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(cert.RawSubjectPublicKeyInfo))
}

// interrupt ends a process as an administrator does, and waits for its end.
func interrupt(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process ends", func(context.Context) error {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(status), ") Z ") {
			return nil
		}
		return fmt.Errorf("process %d runs", pid)
	})
}

package apitest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skeg-dev/skeg/apiserver/apitest"
)

const manifest = `
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data: {k: v}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec:
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec:
      containers:
      - {name: c, image: nginx}
`

// TestKubectl lets the kubectl of the machine, whatever its version, do what
// people do first.
func TestKubectl(t *testing.T) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("kubectl is not installed: the unmodified client cannot be tried")
	}
	s := apitest.Start(t)
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("m.yaml", manifest)
	write("bad.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\nfoo: 1\n")
	steps := []struct {
		args string
		fail bool
		want string
	}{
		{args: "get --raw /readyz", want: "ok"},
		{args: "api-resources", want: "deployments"},
		{args: "get ns", want: "kube-system"},
		{args: "apply -f m.yaml", want: "deployment.apps/d created"},
		{args: "apply -f m.yaml", want: "deployment.apps/d unchanged"},
		{args: "diff -f m.yaml"},
		{args: "apply -f bad.yaml", fail: true, want: `strict decoding error: unknown field "foo"`},
		{args: "apply --server-side --force-conflicts -f m.yaml", want: "deployment.apps/d serverside-applied"},
		{args: "get deploy", want: "0/1"},
		{args: "get deploy d -o jsonpath={.spec.strategy.type}", want: "RollingUpdate"},
		{args: "scale deploy d --replicas=3", want: "scaled"},
		{args: "get deploy d -o wide", want: "0/3"},
		{args: "set image deploy/d c=nginx:2", want: "image updated"},
		{args: "create sa default", want: "created"},
		{args: "run p --image=nginx", want: "pod/p created"},
		{args: "describe pod p", want: "kube-api-access-"},
		{args: "label pod p x=y", want: "labeled"},
		{args: "get pods -l x=y", want: "Pending"},
		{args: "logs p", fail: true, want: "pod p does not have a host assigned"},
		{args: "create token default", want: "ey"},
		{args: "explain pods.spec.containers", want: "<[]Container>"},
		{args: "auth whoami", want: "system:masters"},
		{args: "get pods --as=alice", fail: true, want: `User "alice" cannot list resource "pods" in API group "" in the namespace "default"`},
		{args: "create role r --verb=list --resource=pods", want: "created"},
		{args: "create rolebinding rb --role=r --user=alice", want: "created"},
		{args: "wait --for=jsonpath={.status.phase}=Pending pod/p --timeout=30s", want: "condition met"},
		{args: "auth can-i list pods --as=alice", want: "yes"},
		{args: "delete pod p --timeout=30s", want: `pod "p" deleted`},
		{args: "delete -f m.yaml", want: `deployment.apps "d" deleted`},
		{args: "get cm a", fail: true, want: `configmaps "a" not found`},
		{args: "create ns gone", want: "created"},
		{args: "delete ns gone --wait=false", want: "deleted"},
		{args: "get ns gone", want: "Terminating"},
	}
	for _, step := range steps {
		cmd := exec.CommandContext(t.Context(), kubectl, append([]string{
			"--kubeconfig", s.Kubeconfig, "--cache-dir", filepath.Join(dir, "cache"),
		}, strings.Fields(step.args)...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if (err != nil) != step.fail || !strings.Contains(string(out), step.want) {
			t.Errorf("kubectl %s: %v, want %q in\n%s", step.args, err, step.want, out)
		}
	}
}

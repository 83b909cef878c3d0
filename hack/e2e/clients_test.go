package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilversion "k8s.io/apimachinery/pkg/util/version"
)

// kubectl is one client program, used in one namespace with a home of its own.
type kubectl struct {
	program string
	version *utilversion.Version
	args    []string
	env     []string
}

// answer is what a command said.
type answer struct {
	out, err string
	code     int
}

// installed finds the kubectls of this machine: those on PATH, and those of a
// Google Cloud SDK beside them (kubectl.1.27 ...). Programs that only pick
// another one by the server's version are left out.
func installed(t *testing.T) []kubectl {
	t.Helper()
	dirs := filepath.SplitList(os.Getenv("PATH"))
	if first, err := exec.LookPath("kubectl"); err == nil {
		if real, err := filepath.EvalSymlinks(first); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	seen := map[string]bool{}
	var found []kubectl
	for _, dir := range dirs {
		programs, err := filepath.Glob(filepath.Join(dir, "kubectl*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range programs {
			real, err := filepath.EvalSymlinks(p)
			if err != nil || seen[real] || !regexp.MustCompile(`^kubectl(\.\d+\.\d+)?$`).MatchString(filepath.Base(p)) {
				continue
			}
			seen[real] = true
			out, err := exec.CommandContext(t.Context(), real, "version", "--client", "-o", "json").Output()
			var says struct{ ClientVersion struct{ GitVersion string } }
			if err != nil || json.Unmarshal(out, &says) != nil || strings.Contains(says.ClientVersion.GitVersion, "dispatcher") {
				continue
			}
			if v, err := utilversion.ParseSemantic(says.ClientVersion.GitVersion); err == nil {
				found = append(found, kubectl{program: real, version: v})
			}
		}
	}
	return found
}

// clients are the oldest and the newest kubectl installed, and ctl, by name.
func clients(t *testing.T) map[string]kubectl {
	t.Helper()
	tried := map[string]kubectl{"ctl": {program: filepath.Join(root, "bin", "ctl")}}
	all := installed(t)
	if len(all) == 0 {
		t.Log("no kubectl is installed: only the one inside bin/ctl is tried")
		return tried
	}
	oldest, newest := all[0], all[0]
	for _, k := range all {
		if k.version.LessThan(oldest.version) {
			oldest = k
		}
		if newest.version.LessThan(k.version) {
			newest = k
		}
	}
	for _, k := range []kubectl{oldest, newest} {
		t.Logf("kubectl %s is %s", k.version, k.program)
		tried[fmt.Sprintf("kubectl-%d-%d", k.version.Major(), k.version.Minor())] = k
	}
	return tried
}

// in returns the client as somebody uses it in a namespace.
func (k kubectl) in(t *testing.T, namespace string) kubectl {
	t.Helper()
	k.args = []string{"-n", namespace}
	k.env = append(os.Environ(), "KUBECONFIG="+filepath.Join(stateDir, "admin.conf"), "HOME="+t.TempDir(), "NO_COLOR=1")
	return k
}

func (k kubectl) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, k.program, append(append([]string(nil), k.args...), args...)...)
	cmd.Env = k.env
	return cmd
}

// run runs it to its end.
func (k kubectl) run(t *testing.T, stdin string, args ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := k.command(ctx, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return answer{out: out.String(), err: errOut.String(), code: cmd.ProcessState.ExitCode()}
}

// ok runs it, wants success, and the texts on stdout; it returns stdout.
func (k kubectl) ok(t *testing.T, args []string, want ...string) string {
	t.Helper()
	return k.okWith(t, "", args, want...)
}

func (k kubectl) okWith(t *testing.T, stdin string, args []string, want ...string) string {
	t.Helper()
	a := k.run(t, stdin, args...)
	if a.code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", strings.Join(args, " "), a.code, a.out, a.err)
	}
	for _, w := range want {
		if !strings.Contains(a.out, w) {
			t.Errorf("%s: no %q in\n%s%s", strings.Join(args, " "), w, a.out, a.err)
		}
	}
	return a.out
}

// fails runs it and wants the exit code, and the texts on stdout or stderr.
func (k kubectl) fails(t *testing.T, code int, args []string, want ...string) {
	t.Helper()
	a := k.run(t, "", args...)
	if a.code != code {
		t.Errorf("%s: exit code %d, not %d\n%s%s", strings.Join(args, " "), a.code, code, a.out, a.err)
	}
	for _, w := range want {
		if !strings.Contains(a.out+a.err, w) {
			t.Errorf("%s: no %q in\n%s%s", strings.Join(args, " "), w, a.out, a.err)
		}
	}
}

// words makes arguments of a line.
func words(line string) []string { return strings.Fields(line) }

// stream is a command that goes on by itself, like get -w.
type stream struct {
	lines chan string
	stop  context.CancelFunc
}

// start runs it beside the test, until the test or stop ends it.
func (k kubectl) start(t *testing.T, args ...string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := k.command(ctx, args...)
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &stream{lines: make(chan string, 10000), stop: cancel}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(s.lines)
		for scanner := bufio.NewScanner(reader); scanner.Scan(); {
			s.lines <- scanner.Text()
		}
	}()
	go func() {
		// Its exit code is that of being ended.
		writer.CloseWithError(errors.Join(cmd.Wait(), io.EOF)) //nolint:errcheck // a pipe's never fails
	}()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// until reads lines up to one with the text, and returns that.
func (s *stream) until(t *testing.T, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var seen []string
	for {
		select {
		case line, more := <-s.lines:
			if strings.Contains(line, text) {
				return line
			}
			if !more {
				t.Fatalf("it ended without %q:\n%s", text, strings.Join(seen, "\n"))
			}
			seen = append(seen, line)
		case <-ctx.Done():
			t.Fatalf("no %q in:\n%s", text, strings.Join(seen, "\n"))
		}
	}
}

// TestClients is S4: upstream's client, old, new and our own, does to the demo
// what people do to applications.
func TestClients(t *testing.T) {
	for name, client := range clients(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace(t, name)
			pullSecret(t, name)
			k := client.in(t, name)
			manifest := filepath.Join(t.TempDir(), "web.yaml")
			write(t, manifest, plainManifest(name, 2))
			for _, step := range []struct {
				name string
				do   func(t *testing.T, k kubectl, manifest string)
			}{
				{"apply", applies}, {"read", reads}, {"print", prints}, {"watch", watches}, {"describe", describes}, {"discover", discovers},
				{"diff", diffs}, {"inside", inside}, {"logs", logs}, {"copy", copies}, {"forward", forwards}, {"change", changes},
				{"server-side apply", serverSide}, {"roll out", rollsOut}, {"access", access}, {"delete", deletes},
			} {
				if !t.Run(step.name, func(t *testing.T) { step.do(t, k, manifest) }) {
					break
				}
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// plainManifest is the demo without its preStop pause: an old kubectl does not
// know that action, and "rollout undo" writes back only what its types hold.
func plainManifest(namespace string, replicas int) string {
	return regexp.MustCompile(`(?m)^.*preStop.*\n`).ReplaceAllString(webManifest(namespace, replicas), "")
}

// greets wants the greeting from the Deployment's Pods; those on their way out
// may still answer at first.
func greets(t *testing.T, k kubectl, greeting string) {
	t.Helper()
	eventually(t, greeting, func(context.Context) error {
		a := k.run(t, "", words("exec deploy/web -- /demo fetch http://localhost:8080/")...)
		if !strings.HasPrefix(a.out, greeting+": pod") {
			return fmt.Errorf("%d %s%s", a.code, a.out, a.err)
		}
		return nil
	})
}

func applies(t *testing.T, k kubectl, manifest string) {
	k.ok(t, []string{"apply", "--dry-run=server", "-f", manifest}, "deployment.apps/web created (server dry run)")
	k.fails(t, 1, words("get deployment web"), `deployments.apps "web" not found`)
	k.ok(t, []string{"apply", "-f", manifest}, "deployment.apps/web created", "service/web created")
	k.ok(t, []string{"apply", "-f", manifest}, "deployment.apps/web unchanged", "service/web unchanged")
	k.ok(t, words("rollout status deploy/web"), `deployment "web" successfully rolled out`)
	k.ok(t, words("wait --for=condition=Available deploy/web"), "deployment.apps/web condition met")
	k.ok(t, words("wait --for=condition=Ready pod -l app=web"), "condition met")
	k.fails(t, 1, words("wait --for=condition=Nonsense --timeout=1s deploy/web"), "timed out waiting for the condition on deployments/web")
	k.okWith(t, box(k), words("apply -f -"), "pod/box created")
	k.ok(t, words("wait --for=jsonpath={.status.phase}=Running pod/box --timeout=120s"), "pod/box condition met")
}

// box is a Pod with a shell; its container "twice" starts once in vain.
func box(k kubectl) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: box, namespace: %s, labels: {app: box}}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: kept, emptyDir: {}}]
  containers:
  - {name: shell, image: %[2]q, command: [sh, -c, "i=0; while true; do i=$((i+1)); echo line $i; sleep 1; done"]}
  - name: twice
    image: %[2]q
    command: [sh, -c, "if [ -e /kept/x ]; then echo second; sleep 100000; fi; touch /kept/x; echo first; exit 3"]
    volumeMounts: [{name: kept, mountPath: /kept}]
`, k.args[1], image("busybox"))
}

func reads(t *testing.T, k kubectl, _ string) {
	k.ok(t, words("get deploy,rs,pods,svc,cm,endpoints,endpointslices,sa,secrets -o wide"),
		"SELECTOR", image("demo"), "NOMINATED NODE", "CLUSTER-IP", "IMAGES", "kube-root-ca.crt", "ENDPOINTS")
	k.ok(t, words("get all --show-labels"), "pod-template-hash=", "deployment.apps/web   2/2")
	k.ok(t, words("get pods -A -l app=web"), "NAMESPACE", "Running")
	k.ok(t, []string{"get", "pods", "-l", "app in (web,x),pod-template-hash"}, "Running")
	k.ok(t, words("get pods --field-selector status.phase=Running,metadata.name=box"), "box")
	k.ok(t, words("get pods --field-selector spec.nodeName=nowhere -o name --ignore-not-found"))
	if out := k.ok(t, words("get pods -l app!=web -o name")); out != "pod/box\n" {
		t.Errorf("pods not of web: %q", out)
	}
	if out := k.ok(t, words("get pods -l app=web -o name --chunk-size=1")); strings.Count(out, "\n") != 2 {
		t.Errorf("pods in chunks: %q", out)
	}
	k.ok(t, words("get nodes"), "Ready", "node-1", "node-2")
	k.ok(t, words("get namespace kube-system"), "Active")
	k.ok(t, words("get events --field-selector involvedObject.name=box,reason=Scheduled"), "Successfully assigned")
	k.ok(t, words("events --for pod/box"), "Started")
	k.fails(t, 1, words("get pod none"), `pods "none" not found`)
	k.fails(t, 1, words("top pods"), "Metrics API not available")
	k.fails(t, 1, words("top nodes"), "Metrics API not available")
}

func prints(t *testing.T, k kubectl, _ string) {
	var list struct {
		Kind  string
		Items []struct{ Kind, APIVersion string }
	}
	if err := json.Unmarshal([]byte(k.ok(t, words("get pods -l app=web -o json"))), &list); err != nil {
		t.Fatal(err)
	}
	if list.Kind != "List" || len(list.Items) != 2 || list.Items[0].Kind != "Pod" || list.Items[0].APIVersion != "v1" {
		t.Errorf("list %+v", list)
	}
	k.ok(t, words("get deploy web -o yaml"), "apiVersion: apps/v1\n", "replicas: 2\n", "resourceVersion:")
	k.ok(t, words("get deploy web -o yaml --show-managed-fields"), "managedFields:", "manager: ")
	for want, format := range map[string]string{
		"Running Running":    "jsonpath={.items[*].status.phase}",
		"POD   PHASE\n":      "custom-columns=POD:.metadata.labels.app,PHASE:.status.phase",
		"Running-Running-":   "go-template={{range .items}}{{.status.phase}}-{{end}}",
		"pod/web-":           "name",
		`"kind": "List"`:     "json",
		"app: web":           "yaml",
		"READINESS GATES":    "wide",
		"web   Running\nweb": "custom-columns=POD:.metadata.labels.app,PHASE:.status.phase",
	} {
		k.ok(t, []string{"get", "pods", "-l", "app=web", "--sort-by=.metadata.name", "-o", format}, want)
	}
	k.ok(t, []string{"get", "--raw", "/api/v1/namespaces/" + k.args[1] + "/pods?limit=1"}, `"continue":`, `"remainingItemCount":2`)
	k.ok(t, words("create deployment dry --image=x --dry-run=client -o yaml"), "kind: Deployment")
	k.ok(t, words("create deployment dry --image=x --dry-run=server -o yaml"), "progressDeadlineSeconds: 600")
	k.fails(t, 1, words("get deployment dry"), "not found")
}

func watches(t *testing.T, k kubectl, _ string) {
	w := k.start(t, "get", "cm", "-w", "--output-watch-events", "-o", "custom-columns=E:.type,N:.object.metadata.name,V:.object.data.v")
	w.until(t, "kube-root-ca.crt")
	k.ok(t, words("create cm watched --from-literal=v=one"), "configmap/watched created")
	w.until(t, "one")
	k.ok(t, []string{"patch", "cm", "watched", "-p", `{"data":{"v":"two"}}`}, "configmap/watched patched")
	w.until(t, "two")
	k.ok(t, words("delete cm watched"), `configmap "watched" deleted`)
	if line := w.until(t, "watched"); !strings.HasPrefix(line, "DELETED") {
		t.Errorf("after the deletion: %q", line)
	}
	w.stop()
	name := strings.TrimPrefix(strings.TrimSpace(k.ok(t, words("get rs -l app=web -o name"))), "replicaset.apps/")
	table := k.start(t, "get", "rs", name, "--watch")
	table.until(t, name)
	k.ok(t, words("label rs "+name+" seen=yes"), "labeled")
	table.until(t, name)
}

func describes(t *testing.T, k kubectl, _ string) {
	k.ok(t, words("describe deploy web"), "2 desired | 2 updated | 2 total | 2 available | 0 unavailable", "NewReplicaSetAvailable", "ScalingReplicaSet")
	k.ok(t, words("describe pod -l app=web"), "Controlled By:  ReplicaSet/web-", "QoS Class:", "BestEffort", "Started", "Readiness:", "http-get http://:http/readyz")
	k.ok(t, words("describe pod box"), "Last State:", "Exit Code:    3", "Restart Count:  1")
	k.ok(t, words("describe svc web"), "Endpoints:", "TargetPort:", ":8080")
	k.ok(t, words("describe node node-1"), "Allocatable:", "KubeletReady", "Non-terminated Pods:", "PodCIDR:")
	k.ok(t, words("describe secret registry"), "kubernetes.io/dockerconfigjson")
	k.ok(t, words("describe namespace "+k.args[1]), "Active")
}

func discovers(t *testing.T, k kubectl, _ string) {
	k.ok(t, words("explain deployment.spec.strategy --recursive"), "rollingUpdate", "maxSurge")
	k.ok(t, words("explain pods --recursive"), "terminationGracePeriodSeconds\t<integer>", "containerPort")
	k.ok(t, words("explain service.spec.clusterIP"), "FIELD: clusterIP")
	k.fails(t, 1, words("explain pods.spec.nonsense"), `field "nonsense" does not exist`)
	k.ok(t, words("api-resources -o name"), "deployments.apps", "pods\n", "endpointslices.discovery.k8s.io", "leases.coordination.k8s.io")
	k.ok(t, words("api-resources --verbs=list --namespaced -o wide"), "deploy", "apps/v1")
	k.ok(t, words("api-versions"), "apps/v1", "v1", "rbac.authorization.k8s.io/v1")
	k.ok(t, words("version -o json"), `"v1.37`)
	k.ok(t, words("cluster-info"), "Kubernetes control plane", "is running at")
	k.ok(t, words("get --raw /readyz?verbose"), "[+]etcd ok", "readyz check passed")
	k.ok(t, words("get --raw /openapi/v3"), "apis/apps/v1")
}

func diffs(t *testing.T, k kubectl, manifest string) {
	k.ok(t, []string{"diff", "-f", manifest})
	changed := filepath.Join(t.TempDir(), "changed.yaml")
	write(t, changed, plainManifest(k.args[1], 3))
	k.fails(t, 1, []string{"diff", "-f", changed}, "-  replicas: 2", "+  replicas: 3")
	k.ok(t, words("get deploy web -o jsonpath={.spec.replicas}"), "2")
}

func inside(t *testing.T, k kubectl, _ string) {
	k.ok(t, words("exec box -c shell -- hostname"), "box\n")
	k.okWith(t, "from stdin\n", words("exec -i box -c shell -- cat"), "from stdin\n")
	k.fails(t, 7, []string{"exec", "box", "-c", "shell", "--", "sh", "-c", "echo to stderr >&2; exit 7"}, "to stderr", "command terminated with exit code 7")
	k.fails(t, 1, words("exec deploy/web -- /no/such"), "no such file or directory")
	k.fails(t, 1, words("exec box -c none -- true"), "container none is not valid for pod box")
	k.fails(t, 1, words("exec nobody -- true"), `pods "nobody" not found`)
	if out := k.okWith(t, strings.Repeat("0123456789abcde\n", 1<<16), words("exec -i box -c shell -- md5sum")); !strings.Contains(out, "  -") {
		t.Errorf("md5sum of a MiB: %q", out)
	}
	k.ok(t, words("exec deploy/web -- /demo fetch http://web/"), "Hello: pod web-")
}

func logs(t *testing.T, k kubectl, _ string) {
	follow := k.start(t, "logs", "-f", "--tail=1", "box", "-c", "shell")
	first := follow.until(t, "line ")
	if next := follow.until(t, "line "); next == first {
		t.Errorf("twice the same line %q", next)
	}
	follow.stop()
	if out := k.ok(t, words("logs box -c shell --tail=2")); strings.Count(out, "\n") != 2 {
		t.Errorf("two lines: %q", out)
	}
	k.ok(t, words("logs box -c shell --since=1h"), "line 1\n")
	if out := k.ok(t, words("logs box -c shell --since-time=2099-01-01T00:00:00Z")); out != "" {
		t.Errorf("of the future: %q", out)
	}
	k.ok(t, words("logs box -c shell --timestamps --limit-bytes=40"), "T", "Z line")
	eventually(t, "the second run", func(context.Context) error {
		if a := k.run(t, "", words("logs box -c twice")...); a.out != "second\n" {
			return fmt.Errorf("%d %q %s", a.code, a.out, a.err)
		}
		return nil
	})
	if out := k.ok(t, words("logs box -c twice -p")); out != "first\n" {
		t.Errorf("the first run: %q", out)
	}
	k.fails(t, 1, words("logs box -c shell -p"), `previous terminated container "shell" in pod "box" not found`)
	k.fails(t, 1, words("logs box -c none"), "container none is not valid for pod box")
	k.ok(t, words("logs -l app=box --all-containers --prefix --tail=5"), "[pod/box/twice] second", "[pod/box/shell] line")
}

func copies(t *testing.T, k kubectl, _ string) {
	from, to := filepath.Join(t.TempDir(), "there"), filepath.Join(t.TempDir(), "back")
	text := strings.Repeat("some text\n", 20000)
	write(t, from, text)
	k.ok(t, []string{"cp", from, "box:/tmp/copied", "-c", "shell"})
	k.ok(t, words("exec box -c shell -- wc -c /tmp/copied"), fmt.Sprint(len(text)))
	k.ok(t, []string{"cp", "box:/tmp/copied", to, "-c", "shell"})
	if got, err := os.ReadFile(to); err != nil || string(got) != text {
		t.Errorf("copied back: %d bytes, %v", len(got), err)
	}
}

func forwards(t *testing.T, k kubectl, _ string) {
	for _, target := range []string{"deploy/web", "svc/web"} {
		port := "8080"
		if strings.HasPrefix(target, "svc") {
			port = "80"
		}
		f := k.start(t, "port-forward", "--address=127.0.0.1", target, ":"+port)
		line := f.until(t, "Forwarding from 127.0.0.1:")
		address := words(strings.TrimPrefix(line, "Forwarding from "))[0]
		for range 3 {
			page, err := fetch(t.Context(), "http://"+address+"/")
			if err != nil || !strings.Contains(page, "Hello: pod web-") {
				t.Fatalf("through %s: %q, %v", target, page, err)
			}
		}
		body := strings.NewReader(strings.Repeat("x", 1<<20))
		if resp, err := http.Post("http://"+address+"/", "text/plain", body); err != nil { //nolint:noctx // a few bytes on loopback
			t.Errorf("a MiB through %s: %v", target, err)
		} else {
			resp.Body.Close()
		}
		f.stop()
	}
}

func changes(t *testing.T, k kubectl, _ string) {
	k.ok(t, words("scale deploy/web --replicas=3"), "deployment.apps/web scaled")
	k.ok(t, words("wait --for=jsonpath={.status.readyReplicas}=3 deploy/web --timeout=120s"), "condition met")
	k.fails(t, 1, words("scale deploy/web --replicas=1 --current-replicas=9"), "Expected replicas to be 9, was 3")
	k.ok(t, words("label deploy/web tier=front"), "labeled")
	k.ok(t, words("get deploy -l tier=front -o name"), "deployment.apps/web")
	k.fails(t, 1, words("label deploy/web tier=back"), "already has a value (front)")
	k.ok(t, words("label --overwrite deploy/web tier=back"), "labeled")
	k.ok(t, words("label deploy/web tier-"), "unlabeled")
	k.ok(t, words("annotate deploy/web note=yes"), "annotate")
	k.ok(t, []string{"patch", "deploy", "web", "--type=json", "-p", `[{"op":"add","path":"/metadata/labels","value":{"a":"json"}}]`}, "patched")
	k.ok(t, []string{"patch", "deploy", "web", "--type=merge", "-p", `{"metadata":{"labels":{"b":"merge","a":null}}}`}, "patched")
	k.ok(t, []string{"patch", "svc", "web", "-p", `{"spec":{"ports":[{"port":81,"name":"second","targetPort":8080},{"port":80,"name":"first"}]}}`}, "patched")
	k.ok(t, words("get deploy web -o jsonpath={.metadata.labels}{.metadata.annotations.note}"), `{"b":"merge"}yes`)
	k.ok(t, words("get svc web -o jsonpath={.spec.ports[*].port}"), "81 80")
	k.ok(t, words("patch deploy web --subresource=status --type=merge -p {\"status\":{\"collisionCount\":1}}"), "patched")
	k.ok(t, words("expose deploy/web --name=exposed --port=80"), "service/exposed exposed")
	k.ok(t, words("create cm edited --from-literal=v=old"), "created")
	k.env = append(append([]string(nil), k.env...), "KUBE_EDITOR=sed -i s/old/new/")
	k.ok(t, words("edit cm edited"), "configmap/edited edited")
	k.ok(t, words("get cm edited -o jsonpath={.data.v}"), "new")
}

func serverSide(t *testing.T, k kubectl, _ string) {
	manifest := filepath.Join(t.TempDir(), "cm.yaml")
	text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared, namespace: " + k.args[1] + "}\ndata: {v: %s, other: x}\n"
	write(t, manifest, fmt.Sprintf(text, "one"))
	k.ok(t, []string{"apply", "--server-side", "--field-manager=first", "-f", manifest}, "configmap/shared serverside-applied")
	write(t, manifest, fmt.Sprintf(text, "two"))
	k.fails(t, 1, []string{"apply", "--server-side", "--field-manager=second", "-f", manifest},
		`Apply failed with 1 conflict: conflict with "first": .data.v`, "--force-conflicts")
	k.ok(t, words("get cm shared -o jsonpath={.data.v}"), "one")
	k.fails(t, 1, []string{"diff", "--server-side", "--field-manager=first", "-f", manifest}, "-  v: one", "+  v: two")
	k.ok(t, []string{"apply", "--server-side", "--field-manager=second", "--force-conflicts", "-f", manifest}, "serverside-applied")
	write(t, manifest, strings.Replace(fmt.Sprintf(text, "two"), ", other: x", "", 1))
	k.ok(t, []string{"apply", "--server-side", "--field-manager=second", "-f", manifest}, "serverside-applied")
	k.ok(t, []string{"get", "cm", "shared", "-o", "jsonpath={.data}"}, `{"other":"x","v":"two"}`) // first still owns it
}

func rollsOut(t *testing.T, k kubectl, _ string) {
	k.ok(t, words("annotate deploy/web kubernetes.io/change-cause=begin"), "annotate")
	k.ok(t, words("set env deploy/web GREETING=Second"), "env updated")
	k.ok(t, words("annotate --overwrite deploy/web kubernetes.io/change-cause=greeting"), "annotate")
	k.ok(t, words("rollout status deploy/web --timeout=170s"), "successfully rolled out")
	greets(t, k, "Second")
	k.ok(t, words("rollout history deploy/web"), "REVISION", "1 ", "2 ", "greeting")
	k.ok(t, words("rollout history deploy/web --revision=2"), "GREETING:\tSecond")
	k.ok(t, words("rollout undo deploy/web"), "rolled back")
	k.ok(t, words("rollout status deploy/web --timeout=170s"), "successfully rolled out")
	k.ok(t, words("rollout history deploy/web"), "2 ", "3 ")
	greets(t, k, "Hello")
	k.ok(t, words("rollout undo deploy/web --to-revision=2 --dry-run=server"), "(server dry run)")
	k.ok(t, words("rollout pause deploy/web"), "paused")
	k.fails(t, 1, words("rollout restart deploy/web"), "can't restart paused deployment")
	k.ok(t, words("set env deploy/web GREETING=Third"), "env updated")
	k.ok(t, words("wait --for=condition=Progressing=Unknown deploy/web"), "condition met")
	k.ok(t, words("rollout resume deploy/web"), "resumed")
	k.ok(t, words("rollout status deploy/web --timeout=170s"), "successfully rolled out")
	k.ok(t, words("rollout restart deploy/web"), "restarted")
	k.ok(t, words("rollout status deploy/web --timeout=170s"), "successfully rolled out")
}

func access(t *testing.T, k kubectl, _ string) {
	k.ok(t, words("auth can-i create pods"), "yes")
	k.fails(t, 1, words("auth can-i create pods --as=somebody"), "no")
	k.ok(t, words("create serviceaccount robot"), "created")
	k.ok(t, words("create role looker --verb=get,list --resource=pods"), "created")
	k.ok(t, words("create rolebinding robot --role=looker --serviceaccount="+k.args[1]+":robot"), "created")
	k.ok(t, words("auth can-i list pods --as=system:serviceaccount:"+k.args[1]+":robot"), "yes")
	k.ok(t, words("auth can-i --list --as=system:serviceaccount:"+k.args[1]+":robot"), "pods", "[get list]")
	token := strings.TrimSpace(k.ok(t, words("create token robot --duration=1h")))
	conf := filepath.Join(t.TempDir(), "robot.conf")
	write(t, conf, robotConfig(token))
	robot := k
	robot.env = append(append([]string(nil), k.env...), "KUBECONFIG="+conf)
	robot.ok(t, words("get pods box"), "Running")
	if k.version == nil || k.version.AtLeast(utilversion.MustParseSemantic("v1.28.0")) { // asked a beta API before
		robot.ok(t, words("auth whoami"), "system:serviceaccount:"+k.args[1]+":robot")
	}
	robot.fails(t, 1, words("delete pod box"), fmt.Sprintf(
		`pods "box" is forbidden: User "system:serviceaccount:%[1]s:robot" cannot delete resource "pods" in API group "" in the namespace %[1]q`, k.args[1]))
}

// robotConfig is a kubeconfig with a token.
func robotConfig(token string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],
"clusters":[{"name":"c","cluster":{"server":%q,"insecure-skip-tls-verify":true}}],"users":[{"name":"u","user":{"token":%q}}]}`, config.Host, token)
}

func deletes(t *testing.T, k kubectl, manifest string) {
	k.ok(t, words("delete deploy web --cascade=orphan"), `deployment.apps "web" deleted`)
	k.ok(t, words("get pods -l app=web"), "Running")
	k.ok(t, []string{"apply", "-f", manifest}, "deployment.apps/web created", "service/web ")
	k.ok(t, words("rollout status deploy/web --timeout=170s"), "successfully rolled out")
	if out := k.ok(t, words("get rs -l app=web -o name")); strings.Count(out, "\n") < 3 {
		t.Errorf("the orphans were not adopted: %q", out)
	}
	k.ok(t, words("delete deploy web --cascade=foreground"), `deployment.apps "web" deleted`)
	if left, err := client.AppsV1().ReplicaSets(k.args[1]).List(t.Context(), metav1.ListOptions{}); err != nil || len(left.Items) > 0 {
		t.Errorf("after a foreground deletion: %v, %v", left, err)
	}
	k.ok(t, words("delete pod box --wait=false"), `pod "box" deleted`)
	k.ok(t, words("wait --for=delete pod/box --timeout=120s"))
	k.ok(t, []string{"apply", "-f", manifest}, "deployment.apps/web created")
	k.ok(t, []string{"delete", "-f", manifest, "--cascade=background"}, `deployment.apps "web" deleted`, `service "web" deleted`)
	k.ok(t, words("wait --for=delete pod -l app=web --timeout=120s"))
	k.ok(t, []string{"delete", "-f", manifest, "--ignore-not-found"})
	k.fails(t, 1, words("delete svc web"), `services "web" not found`)
	k.ok(t, words("delete cm --all"), `configmap "edited" deleted`, `configmap "shared" deleted`)
}

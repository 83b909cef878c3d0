package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// badFile is what somebody could write by mistake.
type badFile struct {
	name, text string
	args       []string // before -f; "create" if none
	want       []string // parts of what kubectl says
}

func badFiles() []badFile {
	pod := func(spec string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: " + spec + "\n"
	}
	cm := func(metadata, rest string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: " + metadata + "\n" + rest + "\n"
	}
	service := func(name, spec string) string {
		return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name + "}\nspec: " + spec + "\n"
	}
	subdomain := "a lowercase RFC 1123 subdomain must consist of"
	return []badFile{
		{name: "malformed yaml", text: cm("{name: bad", ""), want: []string{"error converting YAML to JSON"}},
		{name: "malformed json", text: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"bad"}`, want: []string{"unexpected EOF"}},
		{name: "unknown field", text: cm("{name: bad}", "sata: {}"), want: []string{`unknown field "sata"`}},
		{name: "unknown field deep", text: pod("{containers: [{name: a, image: b, imagePulPolicy: Always}]}"), want: []string{`unknown field "spec.containers[0].imagePulPolicy"`}},
		{name: "unknown field applied", text: cm("{name: bad}", "sata: {}"), args: words("apply --server-side"), want: []string{"sata"}},
		{name: "wrong type", text: pod("{containers: {a: b}}"), want: []string{"cannot unmarshal object into Go struct field PodSpec.spec.containers"}},
		{name: "text for a number", text: pod("{terminationGracePeriodSeconds: lots, containers: [{name: a, image: b}]}"), want: []string{"terminationGracePeriodSeconds of type int64"}},
		{name: "huge number", text: pod("{terminationGracePeriodSeconds: 99999999999999999999999, containers: [{name: a, image: b}]}"), want: []string{"cannot unmarshal number"}},
		{name: "bad quantity", text: pod("{containers: [{name: a, image: b, resources: {limits: {cpu: abc}}}]}"), want: []string{"quantities must match the regular expression"}},
		{name: "negative quantity", text: pod("{containers: [{name: a, image: b, resources: {limits: {cpu: -1}}}]}"), want: []string{"spec.containers[0].resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0"}},
		{name: "limits below requests", text: pod("{containers: [{name: a, image: b, resources: {limits: {cpu: 1}, requests: {cpu: 2}}}]}"), want: []string{"spec.containers[0].resources.requests", "must be less than or equal to cpu limit of 1"}},
		{name: "capitals", text: cm("{name: Bad}", ""), want: []string{"metadata.name", subdomain}},
		{name: "underscore", text: cm("{name: b_d}", ""), want: []string{"metadata.name", subdomain}},
		{name: "slash", text: cm("{name: b/d}", ""), want: []string{"metadata.name"}},
		{name: "dots", text: cm("{name: ..}", ""), want: []string{"metadata.name"}},
		{name: "long name", text: cm("{name: "+strings.Repeat("a", 254)+"}", ""), want: []string{"metadata.name", "253"}},
		{name: "no name", text: cm("{}", ""), want: []string{"name or generateName is required"}},
		{name: "bad label", text: cm("{name: bad, labels: {a: b c}}", ""), want: []string{"metadata.labels", "b c"}},
		{name: "no containers", text: pod("{}"), want: []string{"spec.containers: Required value"}},
		{name: "same name twice", text: pod("{containers: [{name: a, image: b}, {name: a, image: c}]}"), want: []string{`spec.containers[1].name: Duplicate value: "a"`}},
		{name: "no such volume", text: pod("{containers: [{name: a, image: b, volumeMounts: [{name: v, mountPath: /v}]}]}"), want: []string{`spec.containers[0].volumeMounts[0].name: Not found: "v"`}},
		{name: "several at once", text: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad}\nspec: {replicas: -5, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: A_B}]}}}\n",
			want: []string{"spec.replicas: Invalid value: -5", "`selector` does not match template `labels`", `containers[0].name: Invalid value: "A_B"`, "containers[0].image: Required value"}},
		{name: "too many replicas", text: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad}\nspec: {replicas: 3000000000}\n", want: []string{"DeploymentSpec.spec.replicas of type int32"}},
		{name: "missing namespace", text: cm("{name: bad, namespace: nowhere}", ""), want: []string{`namespaces "nowhere" not found`}},
		{name: "unknown group", text: "apiVersion: gizmo/v1\nkind: Gizmo\nmetadata: {name: bad}\n", want: []string{`no matches for kind "Gizmo" in version "gizmo/v1"`}},
		{name: "service port", text: service("bad", "{ports: [{port: 70000}]}"), want: []string{"spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive"}},
		{name: "taken node port", text: service("bad", "{type: NodePort, ports: [{port: 80, nodePort: 31999}]}"), want: []string{"spec.ports[0].nodePort: Invalid value: 31999: provided port is already allocated"}},
		{name: "node port outside", text: service("bad", "{type: NodePort, ports: [{port: 80, nodePort: 80}]}"), want: []string{"The range of valid ports is 30000-32767"}},
		{name: "cluster ip outside", text: service("bad", "{clusterIP: 8.8.8.8, ports: [{port: 80}]}"), want: []string{"the provided IP (8.8.8.8) is not in the valid range"}},
		{name: "no such service account", text: pod("{serviceAccountName: nobody, containers: [{name: a, image: b}]}"), want: []string{"error looking up service account badinput/nobody", `serviceaccounts "nobody" not found`}},
		{name: "no such priority class", text: pod("{priorityClassName: none, containers: [{name: a, image: b}]}"), want: []string{"no PriorityClass with name none was found"}},
		{name: "existing", text: cm("{name: there}", ""), want: []string{`configmaps "there" already exists`}},
	}
}

// TestBadInput is S5: what is wrong is refused where its author looks, and
// nothing is left half done, and nothing ends.
func TestBadInput(t *testing.T) {
	const ns = "badinput"
	before := componentPIDs(t)
	t.Cleanup(func() { stillRunning(t, before) })
	namespace(t, ns)
	pullSecret(t, ns)
	k := kubectl{program: filepath.Join(root, "bin", "ctl")}
	for _, c := range clients(t) {
		if c.version != nil && (k.version == nil || k.version.LessThan(c.version)) {
			k = c
		}
	}
	k = k.in(t, ns)
	k.ok(t, words("create cm there --from-literal=a=b"))
	k.okWith(t, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"holder"},"spec":{"type":"NodePort","ports":[{"port":80,"nodePort":31999}]}}`, words("create -f -"))
	t.Run("files", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "bad.yaml")
		for _, f := range badFiles() {
			write(t, path, f.text)
			args := f.args
			if args == nil {
				args = []string{"create"}
			}
			if strings.Contains(f.text, "namespace:") {
				args = append(args, "--namespace=nowhere")
			}
			t.Run(f.name, func(t *testing.T) { k.fails(t, 1, append(args, "-f", path), f.want...) })
		}
	})
	t.Run("warnings", func(t *testing.T) { warns(t, k) })
	t.Run("changes", func(t *testing.T) { badChanges(t, k) })
	t.Run("questions", func(t *testing.T) { badQuestions(t, k) })
	t.Run("requests", func(t *testing.T) { badRequests(t, ns) })
	t.Run("identity", func(t *testing.T) { badIdentity(t, k) })
	t.Run("pods", func(t *testing.T) { badPods(t, k) })
	t.Run("images", func(t *testing.T) { badImages(t, k) })
	// Nothing of all that was made.
	k.fails(t, 1, words("get cm,svc,pod,deploy bad"), `configmaps "bad" not found`, `services "bad" not found`, `pods "bad" not found`, `"bad" not found`)
	if out := k.ok(t, words("get svc -o name")); out != "service/holder\n" {
		t.Errorf("services: %s", out)
	}
}

func warns(t *testing.T, k kubectl) {
	a := k.run(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"warned"},"sata":{}}`, words("create --validate=warn -f -")...)
	for _, want := range []string{`Warning: unknown field "sata"`, "configmap/warned created"} {
		if !strings.Contains(a.out+a.err, want) {
			t.Errorf("no %q in %s%s", want, a.out, a.err)
		}
	}
	b := k.run(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"ignored"},"sata":{}}`, words("create --validate=ignore -f -")...)
	if b.code != 0 || strings.Contains(b.err, "Warning") {
		t.Errorf("ignored: %d %s%s", b.code, b.out, b.err)
	}
}

func badChanges(t *testing.T, k kubectl) {
	k.ok(t, words("create deployment d --image=none --replicas=0"))
	patch := func(kind, text string, want ...string) {
		t.Helper()
		k.fails(t, 1, []string{"patch", "deployment", "d", "--type=" + kind, "-p", text}, want...)
	}
	patch("merge", `{"spec":{"selector":{"matchLabels":{"x":"y"}}}}`, "spec.selector: Invalid value", "field is immutable")
	patch("merge", `{"metadata":{"name":"other"}}`, "the name of the object (other) does not match the name on the URL (d)")
	patch("json", `[{"op":"replace","path":"/spec/none/x","value":2}]`, "/spec/none/x")
	patch("json", `[{"op":"test","path":"/spec/replicas","value":2}]`, "testing value /spec/replicas failed")
	patch("strategic", `{"spec":{"replicas":"x"}}`, "DeploymentSpec.spec.replicas of type int32")
	patch("strategic", `{"spec":{"replicas":-1}}`, "spec.replicas: Invalid value: -1")
	patch("strategic", `{"metadata":{"resourceVersion":"1"}}`, "the object has been modified; please apply your changes to the latest version and try again")
	if out := k.ok(t, words("get deploy d -o jsonpath={.metadata.generation}")); out != "1" {
		t.Errorf("generation %s: something changed it", out)
	}
	k.ok(t, []string{"patch", "cm", "there", "-p", `{"immutable":true}`})
	k.fails(t, 1, []string{"patch", "cm", "there", "-p", `{"data":{"a":"c"}}`}, "data: Forbidden: field is immutable when `immutable` is set")
	k.fails(t, 1, words("label cm there A+B=c"), "A+B")
	k.fails(t, 1, []string{"patch", "svc", "holder", "-p", `{"spec":{"clusterIP":"10.1.2.3"}}`}, "spec.clusterIPs[0]: Invalid value", "may not change once set")
	k.fails(t, 1, words("scale deploy d --replicas=-1"), "COUNT must be greater than or equal to 0")
}

func badQuestions(t *testing.T, k kubectl) {
	k.fails(t, 1, []string{"get", "pods", "-l", "a in (b"}, "unable to parse requirement")
	k.fails(t, 1, []string{"get", "pods", "-l", "a=b=c"}, "found '=', expected: ',' or 'end of string'")
	k.fails(t, 1, words("get pods --field-selector foo=bar"), "field label not supported: foo")
	k.fails(t, 1, words("get gizmos"), `the server doesn't have a resource type "gizmos"`)
	k.fails(t, 1, words("get pod none"), `pods "none" not found`)
	k.fails(t, 1, words("logs none"), `pods "none" not found`)
	k.fails(t, 1, words("exec none -- true"), `pods "none" not found`)
	k.fails(t, 1, words("create token none"), `serviceaccounts "none" not found`)
	k.fails(t, 1, words("delete namespace none"), `namespaces "none" not found`)
	k.fails(t, 1, words("-n nowhere create cm a"), `namespaces "nowhere" not found`)
}

func badIdentity(t *testing.T, k kubectl) {
	who := "--as=system:serviceaccount:badinput:default"
	forbidden := `is forbidden: User "system:serviceaccount:badinput:default" cannot `
	k.fails(t, 1, words("get pods "+who), "Error from server (Forbidden): pods "+forbidden+`list resource "pods" in API group "" in the namespace "badinput"`)
	k.fails(t, 1, words("get nodes "+who), "nodes "+forbidden+`list resource "nodes" in API group "" at the cluster scope`)
	k.fails(t, 1, words("delete deploy d "+who), `deployments.apps "d" `+forbidden+`delete resource "deployments" in API group "apps" in the namespace "badinput"`)
	k.ok(t, words("get deploy d"))
	conf := filepath.Join(t.TempDir(), "wrong.conf")
	write(t, conf, robotConfig("wrong"))
	k.env = append(append([]string(nil), k.env...), "KUBECONFIG="+conf)
	k.fails(t, 1, words("get pods"), "You must be logged in to the server")
}

// badRequest is what clients of other makes could send.
type badRequest struct {
	name, method, path, contentType, body string
	code                                  int
	want                                  string
}

func badRequests(t *testing.T, ns string) {
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	admin := &http.Client{Transport: transport}
	maps, j := "/api/v1/namespaces/"+ns+"/configmaps", "application/json"
	bad := `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"bad"}}`
	twice := `{"metadata":{"name":"bad"},"data":{"a":"1","a":"2"}}`
	big := func(n int) string {
		return `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"bad"},"data":{"a":"` + strings.Repeat("a", n) + `"}}`
	}
	deep := `{"kind":"ConfigMap","metadata":{"name":"bad","x":` + strings.Repeat("[", 200000) + strings.Repeat("]", 200000) + `}}`
	for _, r := range []badRequest{
		{"yaml", "POST", maps, "application/yaml", "a: ][", 400, "yaml: did not find expected node content"},
		{"json", "POST", maps, j, `{"a":`, 400, "json parse error"},
		{"nothing", "POST", maps, j, "", 400, "json parse error"},
		{"no name", "POST", maps, j, "{}", 422, "name or generateName is required"},
		{"other kind", "POST", maps, j, `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"bad"}}`, 400, "Pod in version \\\"v1\\\" cannot be handled as a ConfigMap"},
		{"content type", "POST", maps, "text/plain", bad, 415, "accepted media types include: application/json"},
		{"form", "POST", maps, "application/x-www-form-urlencoded", "a=b", 415, "UnsupportedMediaType"},
		{"patch type", "PATCH", maps + "/there", j, "{}", 415, "application/merge-patch+json"},
		{"protobuf", "POST", maps, "application/vnd.kubernetes.protobuf", "k8s\x00junk", 400, "BadRequest"},
		{"protobuf without magic", "POST", maps, "application/vnd.kubernetes.protobuf", "junk", 400, "does not appear to be a protobuf message"},
		{"ten megabytes", "POST", maps, j, big(10 << 20), 413, "Request entity too large: limit is 3145728"},
		{"too much data", "POST", maps, j, big(1<<20 + 1), 422, "may not be more than 1048576 bytes"},
		{"deep", "POST", maps, j, deep, 400, "exceeded max depth"},
		{"aliases", "POST", maps, "application/yaml", aliases(), 400, "excessive aliasing"},
		// kubectl's own reader keeps duplicates to itself, so they are sent from here.
		{"duplicate field", "POST", maps + "?fieldValidation=Strict", j, twice, 400, `strict decoding error: duplicate field \"data.a\"`},
		{"duplicate field in yaml", "POST", maps + "?fieldValidation=Strict", "application/yaml", "metadata: {name: bad}\ndata: {a: b}\ndata: {a: c}\n", 400, `key \"data\" already set in map`},
		{"validation mode", "POST", maps + "?fieldValidation=Maybe", j, bad, 422, "fieldValidation: Unsupported value"},
		{"dry run mode", "POST", maps + "?dryRun=Some", j, bad, 422, "dryRun: Unsupported value"},
		{"put without name", "PUT", maps, j, bad, 405, "MethodNotAllowed"},
		{"post to a name", "POST", maps + "/bad", j, bad, 405, "MethodNotAllowed"},
		{"put to another name", "PUT", maps + "/there", j, bad, 400, "does not match the name on the URL"},
		{"put of nothing", "PUT", maps + "/bad", j, bad, 404, `configmaps \"bad\" not found`},
		{"stale", "PUT", maps + "/there", j, `{"metadata":{"name":"there","resourceVersion":"1"}}`, 409, "the object has been modified"},
		{"other uid", "PUT", maps + "/there", j, `{"metadata":{"name":"there","uid":"x"}}`, 409, "UID in precondition: x"},
		{"apply without manager", "PATCH", maps + "/there", "application/apply-patch+yaml", bad, 422, "is required for apply patch"},
		{"limit", "GET", maps + "?limit=few", "", "", 400, "invalid syntax"},
		{"resource version", "GET", maps + "?resourceVersion=new", "", "", 422, "resourceVersion: Invalid value"},
		{"continue", "GET", maps + "?continue=x", "", "", 400, "continue key is not valid"},
		{"resource", "GET", "/api/v1/namespaces/" + ns + "/gizmos", "", "", 404, "404 page not found"},
		{"group", "GET", "/apis/gizmo/v1/gizmos", "", "", 404, "404 page not found"},
		{"method", "TRACE", maps, "", "", 405, ""},
	} {
		t.Run(r.name, func(t *testing.T) { r.send(t, admin) })
	}
	t.Run("duplicate field warned of", func(t *testing.T) {
		resp, err := admin.Post(config.Host+maps+"?fieldValidation=Warn&dryRun=All", j, strings.NewReader(twice)) //nolint:noctx // answered at once
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("Warning"); resp.StatusCode != http.StatusCreated || got != `299 - "duplicate field \"data.a\""` {
			t.Errorf("%s, warning %q", resp.Status, got)
		}
	})
	nobody := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // who asks is the question here
	badRequest{"no identity", "GET", maps, "", "", 401, `"message":"Unauthorized"`}.send(t, nobody)
	if left, err := client.CoreV1().ConfigMaps(ns).Get(t.Context(), "there", metav1.GetOptions{}); err != nil || left.Data["a"] != "b" {
		t.Errorf("what was there: %v, %v", left.Data, err)
	}
}

func (r badRequest) send(t *testing.T, c *http.Client) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), r.method, config.Host+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != r.code || !strings.Contains(string(body), r.want) {
		t.Errorf("%s %s: %d, not %d, with %q: %.500s (%v)", r.method, r.path, resp.StatusCode, r.code, r.want, body, err)
	}
	var status metav1.Status
	if r.code != http.StatusNotFound && json.Unmarshal(body, &status) == nil && status.Code != int32(r.code) {
		t.Errorf("%s %s: the Status has code %d: %s", r.method, r.path, status.Code, body)
	}
}

// aliases is a small YAML document that is huge when its aliases are followed.
func aliases() string {
	text := "kind: ConfigMap\ndata:\n a: &a [" + strings.Repeat("x,", 9) + "x]\n"
	for c := 'a'; c < 'i'; c++ {
		text += fmt.Sprintf(" %c: &%c [%s]\n", c+1, c+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c), 9), ","))
	}
	return text
}

// componentPIDs are the processes of the cluster's components, by name.
func componentPIDs(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(stateDir, "run", "*.pid"))
	if err != nil || len(files) < 5 {
		t.Fatalf("%d pid files: %v", len(files), err)
	}
	pids := map[string]string{}
	for _, f := range files {
		pid, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		pids[filepath.Base(f)] = regexp.MustCompile(`\d+`).FindString(string(pid))
	}
	return pids
}

// stillRunning wants the same processes as before, and no log with a crash.
func stillRunning(t *testing.T, before map[string]string) {
	t.Helper()
	for name, pid := range componentPIDs(t) {
		if before[name] != pid {
			t.Errorf("%s: process %s, was %s", name, pid, before[name])
		}
		exe, err := os.Readlink("/proc/" + pid + "/exe")
		if err != nil || !strings.Contains(exe, filepath.Join(root, "bin")) {
			t.Errorf("%s: process %s runs %q: %v", name, pid, exe, err)
		}
	}
	logs, err := filepath.Glob(filepath.Join(stateDir, "log", "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("%d logs: %v", len(logs), err)
	}
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "panic") || strings.Contains(line, "fatal error") {
				t.Errorf("%s: %s", filepath.Base(path), line)
			}
		}
	}
}

// says wants the text somewhere in what describe shows of a Pod.
func says(t *testing.T, k kubectl, pod string, want ...string) {
	t.Helper()
	eventually(t, pod, func(context.Context) error {
		a := k.run(t, "", "describe", "pod", pod)
		for _, w := range want {
			if !strings.Contains(a.out, w) {
				return fmt.Errorf("no %q in\n%s%s", w, a.out, a.err)
			}
		}
		return nil
	})
}

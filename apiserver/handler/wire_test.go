package handler_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
)

const mapsPath = "/api/v1/namespaces/default/configmaps"

// send makes one raw request.
func (f *fixture) send(t *testing.T, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, f.server.URL+path, strings.NewReader(body))
	must(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := f.server.Client().Do(r)
	must(t, err)
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp, string(out)
}

func TestWire(t *testing.T) {
	f := start(t, "application/json")
	const yes = `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"k":"v"}}`
	table := "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
	tests := []struct {
		name, method, path, body string
		header                   []string
		code                     int
		contentType, want        string
	}{
		{name: "create", method: "POST", path: mapsPath, body: yes, code: 201, contentType: "application/json", want: `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","namespace":"default","uid":`},
		{name: "yaml in", method: "POST", path: mapsPath, body: "kind: ConfigMap\napiVersion: v1\nmetadata: {name: b}\n", header: []string{"Content-Type", "application/yaml"}, code: 201, contentType: "application/json", want: `"name":"b"`},
		{name: "yaml out", method: "GET", path: mapsPath + "/a", header: []string{"Accept", "application/yaml"}, code: 200, contentType: "application/yaml", want: "apiVersion: v1\ndata:\n  k: v\nkind: ConfigMap\n"},
		{name: "pretty", method: "GET", path: mapsPath + "/a?pretty=true", code: 200, contentType: "application/json", want: "{\n  \"kind\": \"ConfigMap\",\n"},
		{name: "list", method: "GET", path: mapsPath, code: 200, contentType: "application/json", want: `{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"2"},"items":[{"metadata":{"name":"a"`},
		{name: "table", method: "GET", path: mapsPath, header: []string{"Accept", table}, code: 200, contentType: "application/json", want: `{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"2"},"columnDefinitions":[{"name":"Name"`},
		{name: "table of one", method: "GET", path: mapsPath + "/a?includeObject=None", header: []string{"Accept", table}, code: 200, want: `"object":null}]`},
		{name: "table with objects", method: "GET", path: mapsPath + "/a?includeObject=Object", header: []string{"Accept", table}, code: 200, want: `"object":{"kind":"ConfigMap","apiVersion":"v1"`},
		{name: "bad includeObject", method: "GET", path: mapsPath + "/a?includeObject=All", header: []string{"Accept", table}, code: 422, want: `must be 'Metadata', 'Object', 'None', or empty`},
		{name: "partial", method: "GET", path: mapsPath + "/a", header: []string{"Accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}, code: 200, want: `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"a"`},
		{name: "not acceptable", method: "GET", path: mapsPath, header: []string{"Accept", "text/plain"}, code: 406, want: `"reason":"NotAcceptable"`},
		{name: "unsupported media", method: "POST", path: mapsPath, body: yes, header: []string{"Content-Type", "text/plain"}, code: 415, want: `"reason":"UnsupportedMediaType"`},
		{name: "unsupported patch", method: "PATCH", path: mapsPath + "/a", body: yes, header: []string{"Content-Type", "application/json"}, code: 415, want: "application/strategic-merge-patch+json"},
		{name: "too large", method: "POST", path: mapsPath, body: strings.Repeat(" ", 4<<20), code: 413, want: `"reason":"RequestEntityTooLarge"`},
		{name: "malformed", method: "POST", path: mapsPath, body: "{", code: 400, want: `"reason":"BadRequest"`},
		{name: "empty", method: "POST", path: mapsPath, code: 400, want: `"reason":"BadRequest"`},
		{name: "wrong version", method: "POST", path: mapsPath, body: `{"kind":"ConfigMap","apiVersion":"v2"}`, code: 400, want: "the API version in the data (v2) does not match the expected API version (v1)"},
		{name: "wrong kind", method: "POST", path: mapsPath, body: `{"kind":"Pod","apiVersion":"v1"}`, code: 400, want: `Pod in version \"v1\" cannot be handled as a ConfigMap`},
		{name: "wrong type", method: "POST", path: mapsPath, body: `{"kind":"ConfigMap","apiVersion":"v1","data":3}`, code: 400, want: `ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal`},
		{name: "other name", method: "PUT", path: mapsPath + "/z", body: yes, code: 400, want: "the name of the object (a) does not match the name on the URL (z)"},
		{name: "missing", method: "PUT", path: mapsPath + "/a", body: `{"metadata":{"name":"a","resourceVersion":"999"}}`, code: 409, want: `"reason":"Conflict"`},
		{name: "no such verb", method: "POST", path: "/api/v1/configmaps", body: yes, code: 405, want: `"reason":"MethodNotAllowed"`},
		{name: "put without name", method: "PUT", path: mapsPath, body: yes, code: 405, want: `"reason":"MethodNotAllowed"`},
		{name: "patch without name", method: "PATCH", path: mapsPath, body: yes, header: []string{"Content-Type", "application/merge-patch+json"}, code: 405, want: `"reason":"MethodNotAllowed"`},
		{name: "post to a name", method: "POST", path: mapsPath + "/a", body: yes, code: 405, want: `"reason":"MethodNotAllowed"`},
		{name: "no such subresource", method: "GET", path: mapsPath + "/a/scale", code: 404, want: `"reason":"NotFound"`},
		{name: "no such resource", method: "GET", path: "/api/v1/namespaces/default/foos", code: 404, want: "404 page not found"},
		{name: "no such group", method: "GET", path: "/apis/foo", code: 404, want: "404 page not found"},
		{name: "bad continue", method: "GET", path: mapsPath + "?limit=1&continue=x", code: 400, want: "continue key is not valid"},
		{name: "bad selector", method: "GET", path: mapsPath + "?labelSelector=a+b+c", code: 400, want: `"reason":"BadRequest"`},
		{name: "bad match", method: "GET", path: mapsPath + "?resourceVersionMatch=Exact", code: 422, want: "resourceVersionMatch is forbidden unless resourceVersion is provided"},
		{name: "json patch", method: "PATCH", path: mapsPath + "/a", body: `[{"op":"test","path":"/data/k","value":"x"}]`, header: []string{"Content-Type", "application/json-patch+json"}, code: 422, want: "the server rejected our request due to an error in our request: testing value /data/k failed"},
		{name: "strict patch", method: "PATCH", path: mapsPath + "/a?fieldValidation=Strict", body: `{"foo":1}`, header: []string{"Content-Type", "application/merge-patch+json"}, code: 422, want: `strict decoding error: unknown field \"foo\"`},
		{name: "delete answers status", method: "DELETE", path: mapsPath + "/b", code: 200, want: `"status":"Success","details":{"name":"b","kind":"configmaps","uid":`},
		{name: "resources", method: "GET", path: "/api/v1", code: 200, want: `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"v1","resources":[{"name":"configmaps","singularName":"configmap","namespaced":true,"kind":"ConfigMap","verbs":["create","delete","deletecollection","get","list","patch","update","watch"],"shortNames":["cm"]}`},
		{name: "status subresource listed", method: "GET", path: "/api/v1", code: 200, want: `{"name":"pods/status","singularName":"","namespaced":true,"kind":"Pod","verbs":["get","patch","update"]}`},
		{name: "versions", method: "GET", path: "/api", code: 200, want: `{"kind":"APIVersions","apiVersion":"v1","versions":["v1"]`},
		{name: "version", method: "GET", path: "/version", code: 200, contentType: "application/json", want: `"gitVersion": "v1.37.2+skeg"`},
		{name: "index", method: "GET", path: "/", code: 200, want: `"/version"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			resp, body := f.send(t, test.method, test.path, test.body, test.header...)
			if resp.StatusCode != test.code || !strings.Contains(body, test.want) {
				t.Errorf("%d %.400s\nwant %d %s", resp.StatusCode, body, test.code, test.want)
			}
			if got := resp.Header.Get("Content-Type"); test.contentType != "" && got != test.contentType {
				t.Errorf("content type %q", got)
			}
		})
	}
}

func TestFieldValidationWarnings(t *testing.T) {
	f := start(t, "application/json")
	body := `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"foo":1,"data":{"k":"1","k":"2"}}`
	resp, text := f.send(t, "POST", mapsPath, body)
	warnings := resp.Header.Values("Warning")
	if resp.StatusCode != 201 || len(warnings) != 2 || warnings[0] != `299 - "unknown field \"foo\""` || warnings[1] != `299 - "duplicate field \"data.k\""` {
		t.Errorf("%d %v %s", resp.StatusCode, warnings, text)
	}
	resp, _ = f.send(t, "POST", mapsPath+"?fieldValidation=Ignore", strings.Replace(body, `"a"`, `"b"`, 1))
	if resp.StatusCode != 201 || len(resp.Header.Values("Warning")) != 0 {
		t.Errorf("ignore: %d %v", resp.StatusCode, resp.Header)
	}
}

func TestGzip(t *testing.T) {
	f := start(t, "application/json")
	body := fmt.Sprintf(`{"metadata":{"name":"a"},"data":{"k":%q}}`, strings.Repeat("x", 200_000))
	f.send(t, "POST", mapsPath, body)
	resp, text := f.send(t, "GET", mapsPath, "", "Accept-Encoding", "gzip")
	if resp.Header.Get("Content-Encoding") != "gzip" || len(text) > 20_000 {
		t.Fatalf("%v, %d bytes", resp.Header, len(text))
	}
	z, err := gzip.NewReader(strings.NewReader(text))
	must(t, err)
	var list metav1.PartialObjectMetadataList
	must(t, json.NewDecoder(z).Decode(&list))
	if len(list.Items) != 1 {
		t.Errorf("%d items", len(list.Items))
	}
}

func TestAggregatedDiscovery(t *testing.T) {
	f := start(t, "application/json")
	accept := "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
	resp, text := f.send(t, "GET", "/api", "", "Accept", accept)
	var list apidiscoveryv2.APIGroupDiscoveryList
	must(t, json.Unmarshal([]byte(text), &list))
	if resp.Header.Get("Content-Type") != "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList" ||
		len(list.Items) != 1 || len(list.Items[0].Versions[0].Resources) != 2 {
		t.Fatalf("%v %s", resp.Header, text)
	}
	resp, _ = f.send(t, "GET", "/api", "", "Accept", accept, "If-None-Match", resp.Header.Get("ETag"))
	if resp.StatusCode != http.StatusNotModified {
		t.Errorf("with the tag: %d", resp.StatusCode)
	}
	client, err := discovery.NewDiscoveryClientForConfig(f.config)
	must(t, err)
	groups, resources, err := client.ServerGroupsAndResources()
	must(t, err)
	if len(groups) != 1 || len(resources) != 1 || len(resources[0].APIResources) != 3 {
		t.Errorf("client-go sees %v %v", groups, resources)
	}
}

func TestMetadataClient(t *testing.T) {
	for _, format := range formats[:2] {
		f := start(t, format)
		_, err := f.client.CoreV1().ConfigMaps("default").Create(t.Context(), cm("a", nil), metav1.CreateOptions{})
		must(t, err)
		client, err := metadata.NewForConfig(f.config)
		must(t, err)
		maps := client.Resource(configMaps().GroupVersionResource()).Namespace("default")
		list, err := maps.List(t.Context(), metav1.ListOptions{})
		must(t, err)
		if len(list.Items) != 1 || list.Items[0].Name != "a" {
			t.Errorf("%s: %+v", format, list)
		}
		w, err := maps.Watch(t.Context(), metav1.ListOptions{})
		must(t, err)
		next(t, w, "ADDED", "a")
		w.Stop()
	}
}

package openapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	"github.com/skeg-dev/skeg/apiserver/api"
)

func get(t *testing.T, h http.Handler, path, accept string) (int, []byte) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.Bytes()
}

func TestEveryReferenceHasASchema(t *testing.T) {
	h := New(Config{Definitions: api.Registry(), Version: "v1"})
	code, body := get(t, h, "/openapi/v2", "")
	if code != http.StatusOK {
		t.Fatalf("status %d", code)
	}
	var doc struct {
		Definitions map[string]json.RawMessage
		Paths       map[string]json.RawMessage
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Definitions) < 300 || len(doc.Paths) < 100 {
		t.Fatalf("%d definitions, %d paths", len(doc.Definitions), len(doc.Paths))
	}
	for _, m := range regexp.MustCompile(`"#/definitions/([^"]+)"`).FindAllSubmatch(body, -1) {
		if _, ok := doc.Definitions[string(m[1])]; !ok {
			t.Errorf("no schema %s", m[1])
		}
	}
}

func TestProtobufIsServed(t *testing.T) {
	h := New(Config{Definitions: api.Registry(), Version: "v1"})
	for _, path := range []string{"/openapi/v2", "/openapi/v3/apis/apps/v1"} {
		code, body := get(t, h, path, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf, application/com.github.proto-openapi.spec.v3@v1.0+protobuf")
		if code != http.StatusOK || len(body) < 10000 {
			t.Errorf("%s: status %d, %d bytes", path, code, len(body))
		}
	}
}

func TestV3SaysHowFieldsMergeAndWhatMayBeTwoTypes(t *testing.T) {
	h := New(Config{Definitions: api.Registry(), Version: "v1"})
	code, body := get(t, h, "/openapi/v3/api/v1", "")
	if code != http.StatusOK {
		t.Fatalf("status %d: %s", code, body)
	}
	var doc struct {
		Paths      map[string]map[string]any
		Components struct {
			Schemas map[string]struct {
				OneOf      []any
				Properties map[string]map[string]any
				Kinds      []map[string]string `json:"x-kubernetes-group-version-kind"`
			}
		}
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatal(err)
	}
	schemas := doc.Components.Schemas
	containers := schemas["io.k8s.api.core.v1.PodSpec"].Properties["containers"]
	if containers[extensionListType] != "map" || containers[extensionMergeKey] != "name" {
		t.Errorf("containers: %v", containers)
	}
	for _, name := range []string{"io.k8s.apimachinery.pkg.api.resource.Quantity", "io.k8s.apimachinery.pkg.util.intstr.IntOrString"} {
		if len(schemas[name].OneOf) != 2 {
			t.Errorf("%s may be of %v", name, schemas[name].OneOf)
		}
	}
	if kinds := schemas["io.k8s.api.core.v1.Pod"].Kinds; len(kinds) != 1 || kinds[0]["kind"] != "Pod" {
		t.Errorf("Pod is %v", kinds)
	}
	if _, ok := doc.Paths["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"]; !ok {
		t.Error("pods cannot be patched")
	}
	if code, _ := get(t, h, "/openapi/v3/apis/none/v1", ""); code != http.StatusNotFound {
		t.Errorf("unknown group: status %d", code)
	}
}

func TestDocumentsAreKeptByTag(t *testing.T) {
	h := New(Config{Definitions: api.Registry(), Version: "v1", Tag: "v1+a"})
	ask := func(path string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	var index struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	if err := json.Unmarshal(ask("/openapi/v3").Body.Bytes(), &index); err != nil {
		t.Fatal(err)
	}
	url := index.Paths["apis/apps/v1"].ServerRelativeURL
	if url != "/openapi/v3/apis/apps/v1?hash=v1%2Ba" {
		t.Fatalf("url %q", url)
	}
	for _, c := range []struct {
		name, path string
		header     []string
		code       int
	}{
		{"current", url, nil, http.StatusOK},
		{"unchanged", url, []string{"If-None-Match", `"v1+a"`}, http.StatusNotModified},
		{"outdated", "/openapi/v3/apis/apps/v1?hash=old", nil, http.StatusMovedPermanently},
		{"unknown type", url, []string{"Accept", "text/html"}, http.StatusNotAcceptable},
		{"anything", url, []string{"Accept", "text/html, */*"}, http.StatusOK},
	} {
		if got := ask(c.path, c.header...); got.Code != c.code {
			t.Errorf("%s: status %d, want %d", c.name, got.Code, c.code)
		}
	}
	plain, zipped := ask(url), ask(url, "Accept-Encoding", "gzip")
	if zipped.Header().Get("Content-Encoding") != "gzip" || plain.Header().Get("Content-Encoding") != "" {
		t.Fatal("wrong encodings")
	}
	if got, err := unzip(zipped.Body.Bytes()); err != nil || string(got) != plain.Body.String() {
		t.Errorf("compressed document differs: %v", err)
	}
}

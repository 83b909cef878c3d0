package request_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/skeg-dev/skeg/apiserver/request"
)

func TestParse(t *testing.T) {
	tests := []struct {
		method, url string
		want        request.Info
	}{
		{"GET", "/version", request.Info{Verb: "get"}},
		{"GET", "/api/v1", request.Info{Verb: "get"}},
		{"GET", "/apis/apps/v1", request.Info{Verb: "get"}},
		{"GET", "/api/v1/pods", request.Info{IsResource: true, Verb: "list", Version: "v1", Resource: "pods"}},
		{"GET", "/api/v1/pods?watch=true", request.Info{IsResource: true, Verb: "watch", Version: "v1", Resource: "pods"}},
		{"GET", "/api/v1/watch/pods", request.Info{IsResource: true, Verb: "watch", Version: "v1", Resource: "pods"}},
		{"GET", "/api/v1/namespaces", request.Info{IsResource: true, Verb: "list", Version: "v1", Resource: "namespaces"}},
		{"GET", "/api/v1/namespaces/a", request.Info{IsResource: true, Verb: "get", Version: "v1", Resource: "namespaces", Namespace: "a", Name: "a", InPath: true}},
		{"PUT", "/api/v1/namespaces/a/finalize", request.Info{IsResource: true, Verb: "update", Version: "v1", Resource: "namespaces", Namespace: "a", Name: "a", Subresource: "finalize", InPath: true}},
		{"POST", "/api/v1/namespaces/a/pods", request.Info{IsResource: true, Verb: "create", Version: "v1", Resource: "pods", Namespace: "a"}},
		{"GET", "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dx", request.Info{IsResource: true, Verb: "list", Version: "v1", Resource: "pods", Namespace: "a", Name: "x"}},
		{"DELETE", "/apis/apps/v1/namespaces/a/deployments", request.Info{IsResource: true, Verb: "deletecollection", Group: "apps", Version: "v1", Resource: "deployments", Namespace: "a"}},
		{"PATCH", "/apis/apps/v1/namespaces/a/deployments/d/scale", request.Info{IsResource: true, Verb: "patch", Group: "apps", Version: "v1", Resource: "deployments", Namespace: "a", Name: "d", Subresource: "scale", InPath: true}},
		{"GET", "/api/v1/namespaces/a/services/http:s:80/proxy/x/y/", request.Info{IsResource: true, Verb: "get", Version: "v1", Resource: "services", Namespace: "a", Name: "http:s:80", Subresource: "proxy", Tail: "x/y/", InPath: true}},
	}
	for _, test := range tests {
		t.Run(test.method+" "+test.url, func(t *testing.T) {
			r := httptest.NewRequest(test.method, test.url, nil)
			test.want.Path = r.URL.Path
			if got := request.Parse(r); got != test.want {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	header := http.Header{}
	w := request.NewWarnings(header)
	w.Add("a")
	w.Add("a")
	w.Add("")
	for i := range 100 {
		w.Add(strings.Repeat("x", 300) + string(rune('a'+i%26)) + "é")
	}
	got := header.Values("Warning")
	if len(got) < 2 || got[0] != `299 - "a"` {
		t.Fatalf("warnings %v", got)
	}
	total := 0
	for _, v := range got {
		total += len(v)
	}
	if total > 4096 {
		t.Errorf("%d bytes of warnings", total)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("GET", "/api/v1/namespaces/a/pods/b/log")
	f.Fuzz(func(t *testing.T, method, path string) {
		r := &http.Request{Method: method, URL: httptest.NewRequest("GET", "/", nil).URL}
		r.URL.Path = path
		request.Parse(r) // must not panic
	})
}

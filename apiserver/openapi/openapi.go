// Package openapi describes the API in OpenAPI v2 and v3, from the Go types of
// the registered kinds: clients validate with it, explain fields and compute
// patches. Documents are built when somebody asks for the first time, so a
// server that nobody asks pays nothing. Mounted by route below /openapi. It
// starts no goroutines; handlers are safe for concurrent use.
package openapi

import (
	"fmt"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/cached"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/openapiconv"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Config of the documents.
type Config struct {
	// Definitions are the kinds; required.
	Definitions []*resource.Definition
	// Version is info.version, the server's gitVersion.
	Version string
}

// New returns the handler of /openapi/v2, /openapi/v3 and below.
func New(c Config) http.Handler {
	mux := http.NewServeMux()
	// The document's version never changes while the process runs, and a new
	// process may serve other types: its text is the only tag needed.
	v2 := handler.NewOpenAPIServiceLazy(cached.Once(cached.Func(func() (*spec.Swagger, string, error) {
		doc, err := document(c, c.Definitions)
		return doc, c.Version, err
	})))
	v2.RegisterOpenAPIVersionedService("/openapi/v2", mux)

	v3 := handler3.NewOpenAPIService()
	groups := byGroupVersion(c.Definitions)
	known := map[string]bool{}
	for gv, definitions := range groups {
		path := groupPath(gv)
		known[path] = true
		v3.UpdateGroupVersionLazy(path, cached.Once(cached.Func(func() (*spec3.OpenAPI, string, error) {
			doc, err := document(c, definitions)
			if err != nil {
				return nil, "", err
			}
			return convert(doc), c.Version, nil
		})))
	}
	mux.HandleFunc("/openapi/v3", v3.HandleDiscovery)
	mux.HandleFunc("/openapi/v3/", func(w http.ResponseWriter, r *http.Request) {
		if !known[strings.TrimPrefix(r.URL.Path, "/openapi/v3/")] {
			http.NotFound(w, r)
			return
		}
		v3.HandleGroupVersion(w, r)
	})
	return mux
}

// convert makes the v3 form. Values that may be of two types say so there.
func convert(doc *spec.Swagger) *spec3.OpenAPI {
	out := openapiconv.ConvertV2ToV3(doc)
	for _, s := range out.Components.Schemas {
		if types, ok := oneOf[s.Format]; ok && len(s.Properties) == 0 {
			s.Type, s.OneOf = nil, nil
			for _, t := range types {
				s.OneOf = append(s.OneOf, *new(spec.Schema).Typed(t, ""))
			}
			if s.Format == formatQuantity {
				s.Format = ""
			}
		}
	}
	return out
}

func byGroupVersion(definitions []*resource.Definition) map[schema.GroupVersion][]*resource.Definition {
	groups := map[schema.GroupVersion][]*resource.Definition{}
	for _, d := range definitions {
		gv := d.Kind.GroupVersion()
		groups[gv] = append(groups[gv], d)
	}
	return groups
}

// groupPath is "api/v1" or "apis/<group>/<version>".
func groupPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "api/" + gv.Version
	}
	return "apis/" + gv.String()
}

// document builds the v2 document of some kinds.
func document(c Config, definitions []*resource.Definition) (*spec.Swagger, error) {
	b, err := newBuilder()
	if err != nil {
		return nil, err
	}
	paths := map[string]spec.PathItem{}
	for _, d := range definitions {
		if err := b.resource(d, paths); err != nil {
			return nil, fmt.Errorf("describe %s: %w", d.Kind, err)
		}
	}
	return &spec.Swagger{SwaggerProps: spec.SwaggerProps{
		Swagger: "2.0",
		Info:    &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes", Version: c.Version}},
		Paths:   &spec.Paths{Paths: paths}, Definitions: b.definitions,
		SecurityDefinitions: spec.SecurityDefinitions{"BearerToken": {SecuritySchemeProps: spec.SecuritySchemeProps{
			Type: "apiKey", Name: "authorization", In: "header", Description: "Bearer Token authentication",
		}}},
		Security: []map[string][]string{{"BearerToken": {}}},
	}}, nil
}

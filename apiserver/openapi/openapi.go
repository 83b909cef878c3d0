// Package openapi describes the API in OpenAPI v2 and v3, from the Go types of
// the registered kinds: clients validate with it, explain fields and compute
// patches. Documents are built when somebody asks for the first time, so a
// server that nobody asks pays nothing. Mounted by route below /openapi. It
// starts no goroutines; handlers are safe for concurrent use.
package openapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"k8s.io/apimachinery/pkg/runtime/schema"
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
	// Tag differs between servers that may serve other types; clients keep
	// what they fetched by it. "" means Version.
	Tag string
}

// New returns the handler of /openapi/v2, /openapi/v3 and below.
func New(c Config) http.Handler {
	tag := c.Tag
	if tag == "" {
		tag = c.Version
	}
	mux := http.NewServeMux()
	mux.Handle("/openapi/v2", newText(tag, func() ([]byte, error) {
		doc, err := document(c, c.Definitions)
		if err != nil {
			return nil, err
		}
		return encode(doc)
	}, format{asked: []string{"json"}}, format{
		asked:  []string{"com.github.proto-openapi.spec.v2.v1.0+protobuf", "com.github.proto-openapi.spec.v2@v1.0+protobuf"},
		encode: handler.ToProtoBinary,
	}))
	index := handler3.OpenAPIV3Discovery{Paths: map[string]handler3.OpenAPIV3DiscoveryGroupVersion{}}
	for gv, definitions := range byGroupVersion(c.Definitions) {
		path := "/openapi/v3/" + groupPath(gv)
		index.Paths[groupPath(gv)] = handler3.OpenAPIV3DiscoveryGroupVersion{ServerRelativeURL: path + "?hash=" + url.QueryEscape(tag)}
		mux.Handle(path, newText(tag, func() ([]byte, error) {
			doc, err := document(c, definitions)
			if err != nil {
				return nil, err
			}
			return encode(convert(doc))
		}, format{asked: []string{"json"}}, format{
			asked:  []string{"com.github.proto-openapi.spec.v3.v1.0+protobuf", "com.github.proto-openapi.spec.v3@v1.0+protobuf"},
			encode: handler3.ToV3ProtoBinary,
		}))
	}
	mux.Handle("/openapi/v3", newText(tag, func() ([]byte, error) { return encode(index) }, format{asked: []string{"json"}}))
	return mux
}

func encode(doc any) ([]byte, error) {
	out, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode document: %w", err)
	}
	return out, nil
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

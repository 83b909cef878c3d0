package route

import (
	"crypto/sha512"
	"fmt"
	"net/http"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// aggregated holds the documents of aggregated discovery (KEP-3352): all of
// /api, and all of /apis, in one answer each.
type aggregated struct{ core, groups *document }

// document is one aggregated list with its entity tag.
type document struct {
	list *apidiscoveryv2.APIGroupDiscoveryList
	etag string
}

func aggregate(all []*resource.Definition, order []group) (aggregated, error) {
	core, groups := &apidiscoveryv2.APIGroupDiscoveryList{}, &apidiscoveryv2.APIGroupDiscoveryList{}
	for _, g := range order {
		entry := apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: g.name}}
		for _, v := range g.versions {
			entry.Versions = append(entry.Versions, apidiscoveryv2.APIVersionDiscovery{
				Version: v, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent,
				Resources: aggregatedResources(all, schema.GroupVersion{Group: g.name, Version: v}),
			})
		}
		if g.name == "" {
			core.Items = append(core.Items, entry)
		} else {
			groups.Items = append(groups.Items, entry)
		}
	}
	var out aggregated
	var err error
	if out.core, err = newDocument(core); err != nil {
		return out, err
	}
	out.groups, err = newDocument(groups)
	return out, err
}

func newDocument(list *apidiscoveryv2.APIGroupDiscoveryList) (*document, error) {
	raw, err := codec.Encode(codec.JSON, list, aggregatedKind("v2"))
	if err != nil {
		return nil, fmt.Errorf("encode discovery: %w", err)
	}
	return &document{list: list, etag: fmt.Sprintf(`"%X"`, sha512.Sum512(raw))}, nil
}

func aggregatedResources(all []*resource.Definition, gv schema.GroupVersion) []apidiscoveryv2.APIResourceDiscovery {
	var out []apidiscoveryv2.APIResourceDiscovery
	for _, d := range all {
		if d.Kind.GroupVersion() != gv {
			continue
		}
		scope := apidiscoveryv2.ScopeCluster
		if d.Namespaced {
			scope = apidiscoveryv2.ScopeNamespace
		}
		r := apidiscoveryv2.APIResourceDiscovery{
			Resource: d.Resource, ResponseKind: wireKind(d.Kind), Scope: scope, SingularResource: singular(d),
			Verbs: handler.Verbs(d), ShortNames: d.ShortNames, Categories: d.Categories,
		}
		for _, s := range subresourcesOf(d) {
			r.Subresources = append(r.Subresources, apidiscoveryv2.APISubresourceDiscovery{
				Subresource: s.name, ResponseKind: wireKind(s.kind), Verbs: s.verbs,
			})
		}
		out = append(out, r)
	}
	return out
}

func wireKind(k schema.GroupVersionKind) *metav1.GroupVersionKind {
	return &metav1.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Kind}
}

func aggregatedKind(version string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "apidiscovery.k8s.io", Version: version, Kind: "APIGroupDiscoveryList"}
}

// serveAggregated answers with doc when the client asks for it, else it does
// nothing and returns false.
func (d *discovery) serveAggregated(w http.ResponseWriter, r *http.Request, doc *document) bool {
	accepted, err := codec.NegotiateDiscovery(r)
	w.Header().Add("Vary", "Accept")
	if err != nil || accepted.Version == "" {
		return false // write reports the error
	}
	w.Header().Set("ETag", doc.etag)
	if r.Header.Get("If-None-Match") == doc.etag {
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	w.Header().Set("Content-Type", fmt.Sprintf("%s;g=%s;v=%s;as=%s", accepted.Format.MediaType(), accepted.Group, accepted.Version, accepted.As))
	codec.WriteObject(w, r, http.StatusOK, accepted, doc.list, aggregatedKind(accepted.Version))
	return true
}

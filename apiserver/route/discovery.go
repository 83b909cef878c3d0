package route

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gorilla/mux"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// discovery holds the discovery documents of all definitions.
type discovery struct {
	address    string
	core       *metav1.APIVersions
	groups     *metav1.APIGroupList
	byGroup    map[string]*metav1.APIGroup
	byVersion  map[schema.GroupVersion]*metav1.APIResourceList
	aggregated aggregated
}

func newDiscovery(all []*resource.Definition, address string) (*discovery, error) {
	d := &discovery{
		address: address,
		core:    &metav1.APIVersions{}, groups: &metav1.APIGroupList{Groups: []metav1.APIGroup{}},
		byGroup: map[string]*metav1.APIGroup{}, byVersion: map[schema.GroupVersion]*metav1.APIResourceList{},
	}
	order := groupOrder(all)
	for _, g := range order {
		for _, v := range g.versions {
			gv := schema.GroupVersion{Group: g.name, Version: v}
			d.byVersion[gv] = &metav1.APIResourceList{GroupVersion: gv.String(), APIResources: resourcesOf(all, gv)}
		}
		if g.name == "" {
			d.core.Versions = g.versions
			d.core.ServerAddressByClientCIDRs = []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: address}}
			continue
		}
		group := metav1.APIGroup{Name: g.name}
		for _, v := range g.versions {
			group.Versions = append(group.Versions, metav1.GroupVersionForDiscovery{GroupVersion: g.name + "/" + v, Version: v})
		}
		group.PreferredVersion = group.Versions[0]
		d.groups.Groups = append(d.groups.Groups, group)
		d.byGroup[g.name] = &group
	}
	var err error
	if d.aggregated, err = aggregate(all, order); err != nil {
		return nil, fmt.Errorf("build aggregated discovery: %w", err)
	}
	return d, nil
}

type group struct {
	name     string
	versions []string // preferred first
}

// groupOrder lists groups as first defined, versions by stability and age.
func groupOrder(all []*resource.Definition) []group {
	var out []group
	for _, d := range all {
		gv := d.Kind.GroupVersion()
		i := slices.IndexFunc(out, func(g group) bool { return g.name == gv.Group })
		if i < 0 {
			i = len(out)
			out = append(out, group{name: gv.Group})
		}
		if !slices.Contains(out[i].versions, gv.Version) {
			out[i].versions = append(out[i].versions, gv.Version)
		}
	}
	for _, g := range out {
		slices.SortFunc(g.versions, func(a, b string) int { return version.CompareKubeAwareVersionStrings(b, a) })
	}
	return out
}

func resourcesOf(all []*resource.Definition, gv schema.GroupVersion) []metav1.APIResource {
	out := []metav1.APIResource{}
	for _, d := range all {
		if d.Kind.GroupVersion() != gv {
			continue
		}
		out = append(out, metav1.APIResource{
			Name: d.Resource, SingularName: singular(d), Namespaced: d.Namespaced, Kind: d.Kind.Kind,
			Verbs: handler.Verbs(d), ShortNames: d.ShortNames, Categories: d.Categories,
		})
		for _, s := range subresourcesOf(d) {
			r := metav1.APIResource{Name: d.Resource + "/" + s.name, Namespaced: d.Namespaced, Kind: s.kind.Kind, Verbs: s.verbs}
			if s.kind.GroupVersion() != gv {
				r.Group, r.Version = s.kind.Group, s.kind.Version
			}
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b metav1.APIResource) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func singular(d *resource.Definition) string {
	if d.Singular != "" {
		return d.Singular
	}
	return strings.ToLower(d.Kind.Kind)
}

// sub is a subresource as discovery shows it.
type sub struct {
	name  string
	kind  schema.GroupVersionKind
	verbs []string
}

func subresourcesOf(d *resource.Definition) []sub {
	var out []sub
	if d.Status != nil {
		out = append(out, sub{name: "status", kind: d.Kind, verbs: []string{"get", "patch", "update"}})
	}
	for _, s := range d.Subresources {
		kind := s.Kind
		if kind.Kind == "" {
			kind = d.Kind
		}
		verbs := slices.Clone(s.Verbs)
		slices.Sort(verbs)
		out = append(out, sub{name: s.Name, kind: kind, verbs: verbs})
	}
	slices.SortFunc(out, func(a, b sub) int { return strings.Compare(a.name, b.name) })
	return out
}

func (d *discovery) serveCore(w http.ResponseWriter, r *http.Request) {
	if !d.serveAggregated(w, r, d.aggregated.core) {
		d.write(w, r, d.core, "APIVersions")
	}
}

func (d *discovery) serveGroups(w http.ResponseWriter, r *http.Request) {
	if !d.serveAggregated(w, r, d.aggregated.groups) {
		d.write(w, r, d.groups, "APIGroupList")
	}
}

func (d *discovery) serveGroup(w http.ResponseWriter, r *http.Request) {
	group, ok := d.byGroup[mux.Vars(r)["group"]]
	if !ok {
		handler.NotFound(w, r)
		return
	}
	d.write(w, r, group, "APIGroup")
}

func (d *discovery) serveVersion(w http.ResponseWriter, r *http.Request) {
	vars := mux.Vars(r)
	list, ok := d.byVersion[schema.GroupVersion{Group: vars["group"], Version: vars["version"]}]
	if !ok {
		handler.NotFound(w, r)
		return
	}
	d.write(w, r, list, "APIResourceList")
}

func (d *discovery) write(w http.ResponseWriter, r *http.Request, obj runtime.Object, kind string) {
	accepted, err := codec.NegotiateDiscovery(r)
	if err != nil {
		codec.WriteError(w, r, err)
		return
	}
	codec.WriteObject(w, r, http.StatusOK, accepted, obj, schema.GroupVersionKind{Version: "v1", Kind: kind})
}

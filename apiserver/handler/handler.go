// Package handler serves the API's verbs for every kind, a file per verb,
// driven by resource.Definition alone. It is called by route after the
// filters, and calls codec (bodies), apply (patches), lifecycle (metadata
// rules), admission and the stores. A watch runs on its request's goroutine;
// the package starts none of its own but for deletecollection's workers.
package handler

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"github.com/skeg-dev/skeg/apiserver/admission"
	"github.com/skeg-dev/skeg/apiserver/apply"
	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/request"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// HookRequest tells a Hook about one write.
type HookRequest struct {
	Operation   admission.Operation
	Subresource string
	// New is the object about to be stored, which the hook may change; nil on
	// delete. Old is the stored one, read-only; nil on create.
	New, Old resource.Object
	DryRun   bool
	User     authn.User
}

// Hook does I/O around a kind's writes (allocate an address, check rights).
// Begin runs after validation; what it returns (may be nil) runs once when
// the outcome is known. Begin may run again for a retried write, after its
// earlier finish(false). Errors are answered as they are.
type Hook interface {
	Begin(ctx context.Context, req HookRequest) (finish func(success bool), err error)
}

// ConnectRequest is one request to a Connector.
type ConnectRequest struct {
	Info *request.Info
	User authn.User
	// Parent is the stored object, read-only.
	Parent resource.Object
}

// Connector serves a subresource with its own protocol (log, exec, proxy).
// An error returned before anything is written is answered as a Status.
type Connector interface {
	Connect(w http.ResponseWriter, r *http.Request, req ConnectRequest) error
}

// ActionRequest is one request to an Action.
type ActionRequest struct {
	User authn.User
	// Namespace and Name are those of the URL; Name is "" for a main resource.
	Namespace, Name string
	// Parent is the stored object of a subresource, read-only; else nil.
	Parent resource.Object
	// Object is the decoded, defaulted and admitted body.
	Object runtime.Object
	DryRun bool
}

// Action answers a posted object that is not stored: access reviews, token
// requests, evictions. The answer is of the posted kind or a Status.
type Action interface {
	Act(ctx context.Context, req ActionRequest) (runtime.Object, error)
}

// ActionFunc makes a function an Action.
type ActionFunc func(ctx context.Context, req ActionRequest) (runtime.Object, error)

// Act calls f.
func (f ActionFunc) Act(ctx context.Context, req ActionRequest) (runtime.Object, error) {
	return f(ctx, req)
}

// Config is what a Set is made of.
type Config struct {
	// Definitions are the kinds to serve; required.
	Definitions []*resource.Definition
	// Stores by the definition's (or, with Stored, the stored kind's) resource;
	// required for every kind that has a NewList.
	Stores map[schema.GroupResource]store.Store
	// Plugins admit writes, in order; optional.
	Plugins []admission.Plugin
	// Hooks by "<resource>[.<group>]"; optional.
	Hooks map[string]Hook
	// Actions by "<resource>[.<group>]" or "<resource>[.<group>]/<subresource>".
	Actions map[string]Action
	// Connectors by "<resource>[.<group>]/<subresource>".
	Connectors map[string]Connector
	// TypeConverter knows the schemas for managed fields; required.
	TypeConverter managedfields.TypeConverter
	// Stop, when closed, ends watches so that the server can shut down;
	// optional.
	Stop <-chan struct{}
	// Logger is required.
	Logger *slog.Logger
}

// Set serves all kinds. It is immutable and safe for concurrent use.
type Set struct {
	kinds map[schema.GroupVersionResource]*Kind
}

// Kind serves one Definition.
type Kind struct {
	def    *resource.Definition
	gr     schema.GroupResource
	source *codec.Source
	store  store.Store
	fields map[string]*apply.Fields // by subresource; main is ""
	subs   map[string]*resource.Subresource
	verbs  map[string]bool
	admit  *chain
	config *Config
}

// New builds the Set.
func New(c Config) (*Set, error) {
	admit := newChain(c.Plugins)
	s := &Set{kinds: make(map[schema.GroupVersionResource]*Kind, len(c.Definitions))}
	for _, d := range c.Definitions {
		k, err := newKind(d, &c, admit)
		if err != nil {
			return nil, err
		}
		s.kinds[d.GroupVersionResource()] = k
	}
	return s, nil
}

func newKind(d *resource.Definition, c *Config, admit *chain) (*Kind, error) {
	gvr := d.GroupVersionResource()
	k := &Kind{
		def: d, gr: gvr.GroupResource(), source: codec.NewSource(d), admit: admit, config: c,
		fields: map[string]*apply.Fields{}, subs: map[string]*resource.Subresource{}, verbs: map[string]bool{},
	}
	for _, v := range Verbs(d) {
		k.verbs[v] = true
	}
	for i := range d.Subresources {
		k.subs[d.Subresources[i].Name] = &d.Subresources[i]
	}
	if d.NewList == nil {
		return k, nil
	}
	k.store = c.Stores[StoredResource(d, c.Definitions)]
	if k.store == nil {
		return nil, fmt.Errorf("serve %s: no store", gvr)
	}
	endpoints := []string{""}
	if d.Status != nil {
		endpoints = append(endpoints, "status")
	}
	for _, s := range d.Subresources {
		endpoints = append(endpoints, s.Name)
	}
	for _, name := range endpoints {
		f, err := apply.NewFields(d, codec.Scheme, c.TypeConverter, name)
		if err != nil {
			return nil, fmt.Errorf("serve %s: %w", gvr, err)
		}
		k.fields[name] = f
	}
	return k, nil
}

// StoredResource names the resource whose store keeps d's objects.
func StoredResource(d *resource.Definition, all []*resource.Definition) schema.GroupResource {
	if d.Stored != nil {
		for _, other := range all {
			if other.Kind == d.Stored.Kind {
				return other.GroupVersionResource().GroupResource()
			}
		}
	}
	return d.GroupVersionResource().GroupResource()
}

// AllVerbs are those of a stored kind, as discovery lists them.
var allVerbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// Verbs returns the verbs of a definition's main resource.
func Verbs(d *resource.Definition) []string {
	if d.Verbs != nil {
		return d.Verbs
	}
	if d.NewList == nil {
		return []string{"create"}
	}
	return allVerbs
}

// ServeResource answers the request described by info.
func (s *Set) ServeResource(w http.ResponseWriter, r *http.Request) {
	info := request.InfoFrom(r.Context())
	k, ok := s.kinds[schema.GroupVersionResource{Group: info.Group, Version: info.Version, Resource: info.Resource}]
	if !ok {
		NotFound(w, r)
		return
	}
	k.serve(w, r, info)
}

// NotFound answers a path that nothing is served at, in upstream's words.
func NotFound(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.Error(w, "404 page not found", http.StatusNotFound)
}

// Package route finds the handler of a request by the shape of its URL, with
// gorilla/mux: about a dozen shapes, behind which the resource is looked up in
// a map. It also answers discovery, derived from the same definitions. It is
// called by the filters and calls handler; it starts no goroutines.
package route

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/gorilla/mux"
	"k8s.io/apimachinery/pkg/version"

	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Config is what a router is made of. Handlers that are nil are not mounted.
type Config struct {
	// Definitions and Kinds are the resources served; required.
	Definitions []*resource.Definition
	Kinds       *handler.Set
	// Version is served at /version.
	Version version.Info
	// ServerAddress is told to clients in /api ("host:port").
	ServerAddress string
	// Health serves /livez, /readyz and /healthz and their checks.
	Health http.Handler
	// Metrics serves /metrics, OpenAPI serves /openapi, Debug /debug/pprof.
	Metrics, OpenAPI, Debug http.Handler
	// Keys serves the service account issuer's documents
	// (/.well-known/openid-configuration and /openid/v1/jwks).
	Keys http.Handler
	// Extra are further paths; a pattern that ends in "/" is a prefix.
	Extra map[string]http.Handler
}

// New returns the router.
func New(c Config) (http.Handler, error) {
	d, err := newDiscovery(c.Definitions, c.ServerAddress)
	if err != nil {
		return nil, err
	}
	r := mux.NewRouter().SkipClean(true)
	r.NotFoundHandler = http.HandlerFunc(handler.NotFound)
	r.MethodNotAllowedHandler = http.HandlerFunc(handler.NotFound)

	r.HandleFunc("/api", d.serveCore)
	r.HandleFunc("/api/", d.serveCore)
	r.HandleFunc("/apis", d.serveGroups)
	r.HandleFunc("/apis/", d.serveGroups)
	r.HandleFunc("/api/{version}", d.serveVersion)
	r.HandleFunc("/api/{version}/", d.serveVersion)
	r.HandleFunc("/apis/{group}", d.serveGroup)
	r.HandleFunc("/apis/{group}/", d.serveGroup)
	r.HandleFunc("/apis/{group}/{version}", d.serveVersion)
	r.HandleFunc("/apis/{group}/{version}/", d.serveVersion)
	r.PathPrefix("/api/{version}/").HandlerFunc(c.Kinds.ServeResource)
	r.PathPrefix("/apis/{group}/{version}/").HandlerFunc(c.Kinds.ServeResource)
	mount(r, c)
	r.HandleFunc("/", index(paths(r))).Methods(http.MethodGet)
	return r, nil
}

// mount adds what is no API resource.
func mount(r *mux.Router, c Config) {
	info := c.Version
	r.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, info) })
	prefix := func(path string, h http.Handler) {
		if h != nil {
			r.Handle(path, h)
			r.PathPrefix(path + "/").Handler(h)
		}
	}
	prefix("/livez", c.Health)
	prefix("/readyz", c.Health)
	prefix("/healthz", c.Health)
	prefix("/openapi", c.OpenAPI)
	prefix("/debug/pprof", c.Debug)
	if c.Metrics != nil {
		r.Handle("/metrics", c.Metrics)
	}
	if c.Keys != nil {
		r.Handle("/.well-known/openid-configuration", c.Keys)
		r.Handle("/openid/v1/jwks", c.Keys)
	}
	for path, h := range c.Extra {
		if path[len(path)-1] == '/' {
			r.PathPrefix(path).Handler(h)
		} else {
			r.Handle(path, h)
		}
	}
}

// paths lists the fixed paths, for the index at "/".
func paths(r *mux.Router) []string {
	var out []string
	walk := func(route *mux.Route, _ *mux.Router, _ []*mux.Route) error {
		path, err := route.GetPathTemplate()
		if err == nil && path[len(path)-1] != '/' && !slices.Contains([]byte(path), '{') {
			out = append(out, path)
		}
		return nil
	}
	if err := r.Walk(walk); err != nil {
		return nil // walk never fails
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func index(paths []string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string][]string{"paths": paths})
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(body) //nolint:errcheck // the client left
}

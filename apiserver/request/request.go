// Package request holds what is known about one HTTP request before anything
// is done with it: which verb on which resource (Info), its audit id and the
// warnings collected for its answer. The filters put these into the context,
// handlers and authorization read them. It calls nothing and starts no
// goroutines.
package request

import (
	"context"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/fields"
)

// Info is the meaning of a request's method and path. The zero value is a
// non-resource request for nothing.
type Info struct {
	// IsResource says that the path names a resource below /api or /apis.
	IsResource bool
	// Path is the URL path as sent.
	Path string
	// Verb is the API verb (get, list, watch, create, update, patch, delete,
	// deletecollection), or the lower-case method of a non-resource request.
	Verb string

	Group       string
	Version     string
	Namespace   string
	Resource    string
	Subresource string
	// Name is the object's name. For list, watch and deletecollection it is
	// taken from a field selector on metadata.name, so that rules with
	// resourceNames can allow them; InPath tells the two apart.
	Name   string
	InPath bool
	// Tail is what follows the subresource ("proxy/<tail>"), without the
	// leading slash.
	Tail string
}

// NamespaceSubresources are the second path segments after a namespace's name
// that address the Namespace itself (API reference, Namespace v1).
var namespaceSubresources = map[string]bool{"status": true, "finalize": true}

// Parse reads the Info off a request. It never fails: what does not look like
// a resource is a non-resource request.
func Parse(r *http.Request) Info {
	path := r.URL.Path
	info := Info{Path: path, Verb: strings.ToLower(r.Method)}
	parts := split(path)
	rest, ok := info.groupVersion(parts)
	if !ok || len(rest) == 0 {
		return info
	}
	info.IsResource = true
	info.Verb = verbOf(r.Method)
	watchPath := false
	if rest[0] == "watch" && len(rest) > 1 && info.Verb == "get" {
		watchPath, rest = true, rest[1:]
	}
	info.resource(rest)
	info.InPath = info.Name != ""
	info.collection(r, watchPath)
	return info
}

// groupVersion takes /api/<version> or /apis/<group>/<version> off parts.
func (i *Info) groupVersion(parts []string) (rest []string, ok bool) {
	switch {
	case len(parts) >= 2 && parts[0] == "api":
		i.Version = parts[1]
		rest = parts[2:]
	case len(parts) >= 3 && parts[0] == "apis":
		i.Group, i.Version = parts[1], parts[2]
		rest = parts[3:]
	default:
		return nil, false
	}
	if len(rest) == 0 {
		i.Group, i.Version = "", ""
		return nil, false
	}
	return rest, true
}

// resource reads [namespaces/<ns>/]<resource>[/<name>[/<subresource>[/<tail>]]].
func (i *Info) resource(parts []string) {
	if parts[0] == "namespaces" && len(parts) > 1 {
		i.Namespace = parts[1]
		if len(parts) > 2 && !namespaceSubresources[parts[2]] {
			parts = parts[2:]
		}
	}
	i.Resource = parts[0]
	if len(parts) > 1 {
		i.Name = parts[1]
	}
	if len(parts) > 2 {
		i.Subresource = parts[2]
	}
	if len(parts) > 3 {
		i.Tail = strings.Join(parts[3:], "/")
		if strings.HasSuffix(i.Path, "/") {
			i.Tail += "/"
		}
	}
}

// collection turns get and delete without a name into their collection verbs.
func (i *Info) collection(r *http.Request, watchPath bool) {
	if watchPath {
		i.Verb = "watch"
		return
	}
	if i.Name != "" {
		return
	}
	switch i.Verb {
	case "get":
		i.Verb = "list"
		if watch := r.URL.Query().Get("watch"); watch == "true" || watch == "1" {
			i.Verb = "watch"
		}
	case "delete":
		i.Verb = "deletecollection"
	default:
		return
	}
	selector, err := fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	if err != nil {
		return // the handler reports it
	}
	if name, ok := selector.RequiresExactMatch("metadata.name"); ok {
		i.Name = name
	}
}

// LongRunning says that the request may last as long as the client likes.
func (i Info) LongRunning() bool {
	if i.Verb == "watch" {
		return true
	}
	switch i.Subresource {
	case "proxy", "exec", "attach", "portforward", "log":
		return i.IsResource
	}
	return strings.HasPrefix(i.Path, "/debug/pprof/")
}

// Mutating says that the request may change something.
func (i Info) Mutating() bool {
	switch i.Verb {
	case "get", "list", "watch", "head", "options":
		return false
	}
	return true
}

func verbOf(method string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodGet, http.MethodHead:
		return "get"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return strings.ToLower(method)
}

func split(path string) []string {
	path = strings.Trim(path, "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

type infoKey struct{}

// WithInfo returns a context that carries info.
func WithInfo(ctx context.Context, info *Info) context.Context {
	return context.WithValue(ctx, infoKey{}, info)
}

// InfoFrom returns the Info put in by WithInfo, or one parsed from nothing.
func InfoFrom(ctx context.Context) *Info {
	if info, ok := ctx.Value(infoKey{}).(*Info); ok {
		return info
	}
	return &Info{}
}

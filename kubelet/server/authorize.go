package server

import (
	"net/http"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
)

// Resources names what a request asks for, any one of which is enough:
// subresources of the Node, as documented in "Kubelet authorization". What has
// a subresource of its own since KEP-2862 is also covered by nodes/proxy.
func (s *Server) Resources(r *http.Request) []authorizationv1.ResourceAttributes {
	verb := verbs[r.Method]
	if verb == "" {
		verb = strings.ToLower(r.Method)
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch first {
	case "exec", "attach", "portForward", "run":
		// Sessions are made, however the connection is upgraded: reading
		// rights must not be enough where WebSocket asks with GET.
		verb = "create"
	}
	subresources, ok := subresourcesOf[first]
	if !ok {
		subresources = []string{"proxy"}
	}
	out := make([]authorizationv1.ResourceAttributes, len(subresources))
	for i, sub := range subresources {
		out[i] = authorizationv1.ResourceAttributes{
			Verb: verb, Version: "v1", Resource: "nodes", Subresource: sub, Name: s.config.NodeName,
		}
	}
	return out
}

var verbs = map[string]string{
	http.MethodGet:    "get",
	http.MethodHead:   "get",
	http.MethodPost:   "create",
	http.MethodPut:    "update",
	http.MethodPatch:  "patch",
	http.MethodDelete: "delete",
}

var subresourcesOf = map[string][]string{
	"stats":       {"stats"},
	"metrics":     {"metrics"},
	"logs":        {"log"},
	"checkpoint":  {"checkpoint"},
	"statusz":     {"statusz"},
	"pods":        {"pods", "proxy"},
	"runningpods": {"pods", "proxy"},
	"healthz":     {"healthz", "proxy"},
	"configz":     {"configz", "proxy"},
}

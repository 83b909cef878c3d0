package filter

import (
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/authz"
	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/request"
)

// Authorize answers 403 unless the authorizer allows the request.
func Authorize(c Config, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		attributes := Attributes(r)
		decision, reason, err := c.Authorizer.Authorize(r.Context(), attributes)
		if decision == authz.Allow && opensStream(attributes) {
			// A GET may open a WebSocket; it needs the right to start a stream
			// like the POST does (upstream since 1.35).
			attributes.Verb = "create"
			decision, reason, err = c.Authorizer.Authorize(r.Context(), attributes)
		}
		if decision == authz.Allow {
			next.ServeHTTP(w, r)
			return
		}
		if err != nil && decision != authz.Deny && reason == "" {
			c.Logger.Error("authorization failed", "path", r.URL.Path, "user", attributes.User.Name, "err", err)
		}
		codec.WriteError(w, r, Forbidden(attributes, reason))
	})
}

// Attributes is the question a request asks.
func Attributes(r *http.Request) authz.Attributes {
	info := request.InfoFrom(r.Context())
	user, _ := authn.UserFrom(r.Context())
	if !info.IsResource {
		return authz.Attributes{User: user, Verb: info.Verb, Path: info.Path}
	}
	a := authz.Attributes{
		User: user, Verb: info.Verb, Group: info.Group, Version: info.Version, Resource: info.Resource,
		Subresource: info.Subresource, Namespace: info.Namespace, Name: info.Name,
	}
	switch info.Verb {
	case "list", "watch", "deletecollection":
		a.FieldSelector, a.LabelSelector = selectors(r)
	}
	return a
}

// selectors are those of the request; what does not parse is left out, since
// authorization may then only be stricter.
func selectors(r *http.Request) (fields.Requirements, labels.Requirements) {
	query := r.URL.Query()
	var f fields.Requirements
	var l labels.Requirements
	if text := query.Get("fieldSelector"); text != "" {
		if s, err := fields.ParseSelector(text); err == nil {
			f = s.Requirements()
		}
	}
	if text := query.Get("labelSelector"); text != "" {
		if s, err := labels.Parse(text); err == nil {
			l, _ = s.Requirements()
		}
	}
	return f, l
}

// Forbidden is the 403 for a refused question, in upstream's words.
func Forbidden(a authz.Attributes, reason string) error {
	text := forbiddenText(a)
	if reason != "" {
		text += ": " + reason
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: a.Group, Resource: a.Resource}, a.Name, errors.New(text))
}

func forbiddenText(a authz.Attributes) string {
	if a.Resource == "" {
		return fmt.Sprintf("User %q cannot %s path %q", a.User.Name, a.Verb, a.Path)
	}
	what := a.Resource
	if a.Subresource != "" {
		what += "/" + a.Subresource
	}
	where := "at the cluster scope"
	if a.Namespace != "" {
		where = fmt.Sprintf("in the namespace %q", a.Namespace)
	}
	return fmt.Sprintf("User %q cannot %s resource %q in API group %q %s", a.User.Name, a.Verb, what, a.Group, where)
}

func opensStream(a authz.Attributes) bool {
	if a.Resource != "pods" || a.Group != "" || a.Verb != "get" {
		return false
	}
	return a.Subresource == "exec" || a.Subresource == "attach" || a.Subresource == "portforward"
}

// Package authz decides whether a user may do what a request asks: a file per
// method (rbac, node). Called by the filter pipeline, by subresources that
// check further rights, and by the access reviews. It reads Roles, bindings,
// Pods and so on from listers handed in by app/; it starts no goroutines.
package authz

import (
	"context"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/skeg-dev/skeg/apiserver/authn"
)

// Attributes is one question. For a resource request Path is "".
type Attributes struct {
	User authn.User
	// Verb is the API verb (get, list, deletecollection, ...) or, for a
	// non-resource request, the lower-case HTTP method.
	Verb        string
	Group       string
	Version     string
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	// Path is that of a non-resource request.
	Path string
	// Selectors as the request gave them (KEP-4601); nil when none or unparsable.
	FieldSelector fields.Requirements
	LabelSelector labels.Requirements
}

// Decision is an authorizer's answer.
type Decision uint8

// The decisions. The zero value has no opinion: the next authorizer is asked,
// and when nobody allows, the request is refused.
const (
	NoOpinion Decision = iota
	Allow
	Deny
)

// Authorizer decides. Implementations are safe for concurrent use and do not
// block on the network. reason is for people, and may be "".
type Authorizer interface {
	Authorize(ctx context.Context, a Attributes) (d Decision, reason string, err error)
}

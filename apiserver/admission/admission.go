// Package admission changes or refuses writes after authorization and before
// they are stored: the Plugin contract, a file per plugin, registry.go in
// order. Called by the handlers; plugins read other objects through Reader.
// It starts no goroutines.
package admission

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Operation is the kind of write.
type Operation string

// The operations, as admission reviews spell them.
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// Attributes describes one write.
type Attributes struct {
	Operation   Operation
	Kind        schema.GroupVersionKind
	Resource    schema.GroupVersionResource
	Subresource string
	Namespace   string
	Name        string
	// Object is the new state: nil on delete, the options on connect. Mutators
	// change it in place.
	Object runtime.Object
	// Old is the stored state, read-only: nil on create.
	Old runtime.Object
	// Options are the request's Create/Update/Patch/DeleteOptions.
	Options runtime.Object
	DryRun  bool
	User    authn.User
	// Warn adds an HTTP Warning header; never nil.
	Warn func(text string)
}

// Plugin is the part every plugin has. It also implements Mutator, Validator
// or both. Plugins may run twice for one request (an update that is retried),
// are safe for concurrent use, and return API status errors
// (k8s.io/apimachinery/pkg/api/errors), usually Forbidden.
type Plugin interface {
	Name() string
}

// Mutator changes a.Object. All mutators run before all validators.
type Mutator interface {
	Plugin
	Mutate(ctx context.Context, a *Attributes) error
}

// Validator refuses, and changes nothing.
type Validator interface {
	Plugin
	Validate(ctx context.Context, a *Attributes) error
}

// Reader reads stored objects from the watch cache (read-only, possibly a
// moment old). Missing objects are an API NotFound error.
type Reader interface {
	Get(ctx context.Context, res schema.GroupResource, namespace, name string) (resource.Object, error)
	List(ctx context.Context, res schema.GroupResource, namespace string) ([]resource.Object, error)
	// GetLatest is Get, linearized: no older than the call.
	GetLatest(ctx context.Context, res schema.GroupResource, namespace, name string) (resource.Object, error)
}

// Package resource holds the contract between the generic half of the API
// server (routes, handlers, discovery, OpenAPI, tables) and the kinds it serves.
//
// A kind is one Definition: a struct of values and pure functions, written in
// apiserver/api/<group>/<kind>.go and listed in apiserver/api/registry.go.
// Nothing here or in a Definition does I/O; the same input gives the same
// output. Work that needs the outside world (signing a token, reaching a
// kubelet, allocating an address) is a handler.Connector or handler.Hook that
// app/ wires under the resource's name.
//
// The package starts no goroutines.
package resource

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Object is what is stored and served: a typed API object with metadata.
type Object interface {
	runtime.Object
	metav1.Object
}

// Definition describes one kind in one group and version. The zero value is
// not usable: Kind, Resource and New are required; everything else has the
// default named at the field.
type Definition struct {
	// Kind is the group, version and kind on the wire.
	Kind schema.GroupVersionKind
	// Resource is the plural, lower-case path segment ("deployments").
	Resource string
	// Singular is the lower-case singular; "" means the kind in lower case.
	Singular string
	// ShortNames and Categories are shown by discovery ("deploy"; "all").
	ShortNames []string
	Categories []string
	// Namespaced says whether objects live in a namespace.
	Namespaced bool

	// New returns an empty object, NewList an empty list. NewList is nil for
	// kinds that are only posted and never stored (SubjectAccessReview).
	New     func() runtime.Object
	NewList func() runtime.Object

	// Verbs limits the verbs of the main resource. nil means all of: get list
	// watch create update patch delete deletecollection. Kinds that are only
	// posted list just "create".
	Verbs []string

	// StorePrefix is the etcd directory below /registry, as upstream writes it
	// ("pods", "services/specs", "minions"). "" means Resource.
	StorePrefix string
	// Stored converts to and from the kind kept in the store, when that is
	// another one (events.k8s.io/v1 Event is kept as core/v1 Event). nil means
	// the kind is stored as it is.
	Stored *Conversion
	// TTLSeconds is how long an object lives after its last write; 0 means for ever.
	TTLSeconds int64

	// Default fills unset fields in place, as the API reference documents.
	// Called after decoding (create, update, patch, apply) and for objects
	// read from the store, so it must be idempotent and must accept anything
	// that decodes.
	Default func(obj runtime.Object)
	// PrepareCreate strips what a client may not set (status) and sets what
	// the server owns (generation); called after admission mutation, before
	// Validate. metadata (uid, creationTimestamp, ...) is done generically.
	PrepareCreate func(obj runtime.Object)
	// PrepareUpdate carries over what this endpoint may not change (status)
	// and bumps metadata.generation when the spec changed.
	PrepareUpdate func(obj, old runtime.Object)
	// Validate checks an object to be created. metadata is validated
	// generically with ValidateName.
	Validate func(obj runtime.Object) field.ErrorList
	// ValidateUpdate checks an update; it calls Validate itself where that
	// still applies.
	ValidateUpdate func(obj, old runtime.Object) field.ErrorList
	// ValidateName checks metadata.name; nil means DNS-1123 subdomain. The
	// signature is that of apimachinery's validation.ValidateNameFunc.
	ValidateName func(name string, prefix bool) []string
	// Warnings returns texts for HTTP Warning headers; old is nil on create.
	Warnings func(obj, old runtime.Object) []string
	// AllowUnconditionalUpdate permits PUT without resourceVersion.
	AllowUnconditionalUpdate bool
	// AllowCreateOnUpdate makes PUT (and apply always does) create what is missing.
	AllowCreateOnUpdate bool
	// DeleteGrace returns the grace period in seconds for a delete and whether
	// deletion is graceful at all. requested is nil when the client named none.
	// nil means never graceful.
	DeleteGrace func(obj runtime.Object, requested *int64) (seconds int64, graceful bool)
	// DefaultDeletePropagation is used when neither options nor finalizers say
	// otherwise; "" means background.
	DefaultDeletePropagation metav1.DeletionPropagation
	// BeginDelete changes an object whose metadata.deletionTimestamp is being
	// set for the first time, before it is stored (Namespace's phase becomes
	// Terminating); nil means nothing. metadata is changed generically.
	BeginDelete func(obj runtime.Object)
	// ReadyToDelete reports whether nothing kind-specific holds the object;
	// (Namespace's spec.finalizers); nil means always.
	ReadyToDelete func(obj runtime.Object) bool

	// Fields returns the field-selector values; metadata.name (and
	// metadata.namespace) are added generically. nil means only those.
	Fields func(obj runtime.Object) map[string]string

	// Index is the field whose watchers (a kubelet's, of its node's Pods) are
	// given only events of objects that have or had their value; nil means
	// every watcher gets all events of its namespace and filters.
	Index *Index

	// Columns and Row make the Table output; nil means Name and Age. Row
	// returns one cell per column. Column 0 must be the name.
	Columns []metav1.TableColumnDefinition
	Row     func(obj runtime.Object, now metav1.Time) []any

	// Status, when not nil, is the /status subresource: get, update, patch.
	Status *StatusUpdate
	// Subresources beside status.
	Subresources []Subresource
}

// Conversion converts between a served kind and the stored one.
type Conversion struct {
	// Kind is the stored kind, itself served by another Definition.
	Kind schema.GroupVersionKind
	// To and From return fresh objects.
	To   func(served runtime.Object) runtime.Object
	From func(stored runtime.Object) runtime.Object
}

// StatusUpdate is how /status changes an object.
type StatusUpdate struct {
	// Prepare carries everything but status over from old (spec, labels and
	// so on as upstream does for the kind).
	Prepare func(obj, old runtime.Object)
	// Validate checks the new status; nil means anything goes.
	Validate func(obj, old runtime.Object) field.ErrorList
}

// Subresource is a named view of, or action on, a stored parent.
type Subresource struct {
	// Name is the path segment ("scale").
	Name string
	// Kind is the body's kind; it may be of another group (autoscaling/v1 Scale).
	Kind schema.GroupVersionKind
	// New returns an empty body.
	New func() runtime.Object
	// Verbs it serves: get, update, patch, create.
	Verbs []string

	// Get returns the body for a parent; nil means the parent itself.
	Get func(parent runtime.Object) (runtime.Object, error)
	// Set changes parent (a private copy of the stored object) as the body
	// asks. It may return an API status error (Conflict, Invalid, ...).
	Set func(parent, body runtime.Object) error
	// Validate checks parent after Set; nil means anything goes.
	Validate func(parent, old runtime.Object) field.ErrorList
	// Response makes the answer to create and update; nil means Get(parent)
	// for update and metav1.Status Success for create.
	Response func(parent runtime.Object) runtime.Object

	// Connect marks a subresource that app/ serves with a handler.Connector
	// registered under "<resource>/<name>" (log, exec, token, eviction,
	// proxy). Get, Set, Validate and Response are unused then.
	Connect bool
}

// GroupVersionResource names the definition's resource.
func (d *Definition) GroupVersionResource() schema.GroupVersionResource {
	return d.Kind.GroupVersion().WithResource(d.Resource)
}

// Index is a field selector that is looked up instead of evaluated.
type Index struct {
	// Field as selectors name it: "spec.nodeName".
	Field string
	// Value of an object's; "" is not indexed.
	Value func(obj runtime.Object) string
}

package handler

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	clientscheme "k8s.io/client-go/kubernetes/scheme"

	"github.com/skeg-dev/skeg/apiserver/admission"
	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/request"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// ModifiedMessage is upstream's text for a lost optimistic lock; clients
// show it.
const modifiedMessage = "the object has been modified; please apply your changes to the latest version and try again"

// call is one request being served.
type call struct {
	*Kind
	w        http.ResponseWriter
	r        *http.Request
	ctx      context.Context //nolint:containedctx // a call is a request's own
	info     *request.Info
	user     authn.User
	accepted codec.Accepted
}

// serve dispatches by verb and subresource.
func (k *Kind) serve(w http.ResponseWriter, r *http.Request, info *request.Info) {
	user, _ := authn.UserFrom(r.Context())
	c := &call{Kind: k, w: w, r: r, ctx: r.Context(), info: info, user: user}
	if err := c.dispatch(); err != nil {
		codec.WriteError(w, r, c.statusError(err))
	}
}

func (c *call) dispatch() error {
	if sub := c.subs[c.info.Subresource]; sub != nil && sub.Connect && c.config.Connectors[c.subKey()] != nil {
		return c.connect(sub)
	}
	var err error
	if c.accepted, err = codec.Negotiate(c.r, true); err != nil {
		return err //nolint:wrapcheck // a Status
	}
	if c.info.Subresource != "" {
		return c.subresource()
	}
	if !c.verbs[c.info.Verb] || misplaced(c.info) || c.def.Namespaced && c.info.Namespace == "" && !crossNamespace(c.info.Verb) {
		return c.notAllowed()
	}
	switch c.info.Verb {
	case "get":
		return c.get()
	case "list":
		return c.list()
	case "watch":
		return c.watch()
	case "create":
		return c.create()
	case "update":
		return c.put()
	case "patch":
		return c.patch("")
	case "delete":
		return c.delete()
	case "deletecollection":
		return c.deleteCollection()
	}
	return c.notAllowed()
}

// crossNamespace says which verbs a namespaced kind serves without namespace.
func crossNamespace(verb string) bool { return verb == "list" || verb == "watch" }

// misplaced says of a verb for collections that it came to an object, or the
// other way round: a POST to a name, a PUT without one.
func misplaced(info *request.Info) bool {
	switch info.Verb {
	case "create":
		return info.Name != ""
	case "update", "patch":
		return info.Name == ""
	}
	return false
}

func (c *call) notAllowed() error {
	return apierrors.NewMethodNotSupported(c.gr, c.info.Verb)
}

// subKey is the registry key of the request's subresource.
func (c *call) subKey() string { return c.gr.String() + "/" + c.info.Subresource }

// key is the store key of the object named in the URL.
func (c *call) key() string { return c.keyOf(c.info.Namespace, c.info.Name) }

func (k *Kind) keyOf(namespace, name string) string {
	if k.def.Namespaced {
		return namespace + "/" + name
	}
	return name
}

// prefix is the store prefix of the request's collection.
func (c *call) prefix() string {
	if c.def.Namespaced && c.info.Namespace != "" {
		return c.info.Namespace + "/"
	}
	return ""
}

// served returns an item's object as this kind; shared and read-only.
func (k *Kind) served(item *store.Item) (resource.Object, error) {
	obj, ok := k.source.Object(item).(resource.Object)
	if !ok {
		return nil, fmt.Errorf("convert stored %T to %s: not an object", item.Object, k.def.Kind.Kind)
	}
	return obj, nil
}

// kept returns a served object as it is stored.
func (k *Kind) kept(obj resource.Object) (resource.Object, error) {
	obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	if k.def.Stored == nil {
		return obj, nil
	}
	out, ok := k.def.Stored.To(obj).(resource.Object)
	if !ok {
		return nil, fmt.Errorf("convert %s for storage: not an object", k.def.Kind.Kind)
	}
	out.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return out, nil
}

// unstored wraps an object that a dry run produced.
func (k *Kind) unstored(obj resource.Object) (*store.Item, error) {
	o, err := k.kept(obj)
	if err != nil {
		return nil, err
	}
	return &store.Item{Key: k.keyOf(obj.GetNamespace(), obj.GetName()), Object: o}, nil
}

// respond answers with one item.
func (c *call) respond(code int, item *store.Item) error {
	include, err := c.tablePolicy()
	if err != nil {
		return err
	}
	body, err := c.source.Encode(c.accepted, item, include)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	codec.WriteBody(c.w, c.r, code, c.accepted, body)
	return nil
}

// respondObject answers with an object that is no item of this kind.
func (c *call) respondObject(code int, obj runtime.Object, kind schema.GroupVersionKind) {
	codec.WriteObject(c.w, c.r, code, c.accepted, obj, kind)
}

func (c *call) tablePolicy() (metav1.IncludeObjectPolicy, error) {
	if c.accepted.Transform != codec.AsTable {
		return "", nil
	}
	switch p := metav1.IncludeObjectPolicy(c.r.URL.Query().Get("includeObject")); p {
	case "", metav1.IncludeNone, metav1.IncludeMetadata, metav1.IncludeObject:
		return p, nil
	default:
		return "", apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "TableOptions"}, "", field.ErrorList{
			field.Invalid(field.NewPath("includeObject"), p, "must be 'Metadata', 'Object', 'None', or empty"),
		})
	}
}

// parameters decodes query parameters into an options object.
func (c *call) parameters(into runtime.Object) error {
	if err := clientscheme.ParameterCodec.DecodeParameters(c.r.URL.Query(), schema.GroupVersion{Version: "v1"}, into); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	return nil
}

// invalidOptions is the Status for faulty options.
func invalidOptions(kind string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", errs)
}

// warn adds a Warning header to the answer.
func (c *call) warn(text string) { request.Warn(c.ctx, text) }

// statusError gives store errors their Status.
func (c *call) statusError(err error) error { return c.storeError(err, c.info.Name) }

func (k *Kind) storeError(err error, name string) error {
	var api apierrors.APIStatus
	switch {
	case errors.As(err, &api):
		return err
	case errors.Is(err, store.ErrNotFound):
		return apierrors.NewNotFound(k.gr, name)
	case errors.Is(err, store.ErrExists):
		return apierrors.NewAlreadyExists(k.gr, name)
	case errors.Is(err, store.ErrConflict):
		return apierrors.NewConflict(k.gr, name, errors.New(modifiedMessage))
	case errors.Is(err, store.ErrExpired):
		return apierrors.NewResourceExpired("The resourceVersion for the provided list is too old.")
	case errors.Is(err, store.ErrFuture):
		return futureError(err)
	case errors.Is(err, store.ErrTooLarge):
		return apierrors.NewRequestEntityTooLargeError(err.Error())
	}
	return err
}

// futureError is upstream's 504 for a resource version nobody has seen yet;
// client-go recognizes the cause.
func futureError(err error) error {
	out := apierrors.NewTimeoutError("Too large resource version: "+err.Error(), 1)
	out.ErrStatus.Details.Causes = []metav1.StatusCause{{
		Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version",
	}}
	return out
}

// chain is the admission plugins by role, in order.
type chain struct {
	mutators   []admission.Mutator
	validators []admission.Validator
}

func newChain(plugins []admission.Plugin) *chain {
	c := &chain{}
	for _, p := range plugins {
		if m, ok := p.(admission.Mutator); ok {
			c.mutators = append(c.mutators, m)
		}
		if v, ok := p.(admission.Validator); ok {
			c.validators = append(c.validators, v)
		}
	}
	return c
}

func (c *chain) mutate(ctx context.Context, a *admission.Attributes) error {
	for _, m := range c.mutators {
		if err := m.Mutate(ctx, a); err != nil {
			return fmt.Errorf("admission %s: %w", m.Name(), err)
		}
	}
	return nil
}

func (c *chain) validate(ctx context.Context, a *admission.Attributes) error {
	for _, v := range c.validators {
		if err := v.Validate(ctx, a); err != nil {
			return fmt.Errorf("admission %s: %w", v.Name(), err)
		}
	}
	return nil
}

// attributes describes the request's write for admission.
func (c *call) attributes(op admission.Operation, obj, old runtime.Object, options runtime.Object, dryRun bool) *admission.Attributes {
	return &admission.Attributes{
		Operation: op, Kind: c.def.Kind, Resource: c.def.GroupVersionResource(),
		Subresource: c.info.Subresource, Namespace: c.info.Namespace, Name: c.info.Name,
		Object: obj, Old: old, Options: options, DryRun: dryRun, User: c.user, Warn: c.warn,
	}
}

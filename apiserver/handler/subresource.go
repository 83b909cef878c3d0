package handler

import (
	"fmt"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/apply"
	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/lifecycle"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// subresource serves /status, a view of the parent, or an action on it.
func (c *call) subresource() error {
	if c.info.Subresource == "status" && c.def.Status != nil {
		return c.status()
	}
	sub := c.subs[c.info.Subresource]
	if sub == nil || c.info.Name == "" {
		return apierrors.NewGenericServerResponse(http.StatusNotFound, c.info.Verb, c.gr, c.info.Name,
			"the server could not find the requested resource", 0, true)
	}
	if !slices.Contains(sub.Verbs, c.info.Verb) {
		return apierrors.NewMethodNotSupported(c.gr, c.info.Verb)
	}
	if sub.Connect {
		return c.subAction(sub)
	}
	switch c.info.Verb {
	case "get":
		return c.subGet(sub)
	case "update":
		return c.subPut(sub)
	case "patch":
		return c.subPatch(sub)
	case "create":
		return c.subCreate(sub)
	}
	return c.notAllowed()
}

func (c *call) status() error {
	switch c.info.Verb {
	case "get":
		return c.get()
	case "patch":
		return c.patch("status")
	case "update":
		return c.putStatus()
	}
	return c.notAllowed()
}

func (c *call) statusPlan(opts runtime.Object, dryRun bool) plan {
	return plan{
		changes:  lifecycle.Changes{Prepare: c.def.Status.Prepare, Validate: c.def.Status.Validate},
		endpoint: "status", options: opts, dryRun: dryRun, unconditional: c.def.AllowUnconditionalUpdate,
	}
}

func (c *call) putStatus() error {
	opts, decoded, err := c.subUpdateRequest(&resource.Subresource{Kind: c.def.Kind, New: c.def.New})
	if err != nil {
		return err
	}
	obj, err := asObject(decoded)
	if err != nil {
		return err
	}
	c.setDefaults(obj)
	if err := c.matchNamespace(obj); err != nil {
		return err
	}
	if err := c.matchName(obj); err != nil {
		return err
	}
	p := c.statusPlan(opts, len(opts.DryRun) > 0)
	p.manager = apply.ManagerName(opts.FieldManager, c.r.UserAgent())
	p.desired = func(resource.Object) (resource.Object, error) { return asObject(obj.DeepCopyObject()) }
	return c.updateAndRespond(p)
}

func (c *call) subUpdateRequest(sub *resource.Subresource) (*metav1.UpdateOptions, runtime.Object, error) {
	opts := &metav1.UpdateOptions{}
	if err := c.parameters(opts); err != nil {
		return nil, nil, err
	}
	if err := invalidOptions("UpdateOptions", validation.ValidateUpdateOptions(opts)); err != nil {
		return nil, nil, err
	}
	body, err := c.body(sub.Kind, sub.New(), opts.FieldValidation)
	return opts, body, err
}

func (c *call) subGet(sub *resource.Subresource) error {
	item, err := c.read()
	if err != nil {
		return err
	}
	return c.respondView(http.StatusOK, sub, item)
}

// respondView answers with a subresource's view of its parent.
func (c *call) respondView(code int, sub *resource.Subresource, item *store.Item) error {
	parent, err := c.served(item)
	if err != nil {
		return err
	}
	view, err := viewOf(sub, parent)
	if err != nil {
		return err
	}
	c.respondObject(code, view, sub.Kind)
	return nil
}

func viewOf(sub *resource.Subresource, parent runtime.Object) (runtime.Object, error) {
	if sub.Get == nil {
		return parent, nil
	}
	return sub.Get(parent) //nolint:wrapcheck // a Status
}

// setPlan changes the parent as a body asks. viewed says that the body may
// carry a resourceVersion of the parent, as views do.
func (c *call) setPlan(sub *resource.Subresource, body func(old resource.Object) (runtime.Object, error)) plan {
	p := plan{endpoint: sub.Name, unconditional: true}
	// Set counts the generation up itself where the kind has one; the generic
	// update would put the old one back.
	var generation int64
	p.changes.Prepare = func(obj, _ runtime.Object) {
		if o, ok := obj.(resource.Object); ok {
			o.SetGeneration(generation)
		}
	}
	if sub.Validate != nil {
		p.changes.Validate = func(obj, old runtime.Object) field.ErrorList { return sub.Validate(obj, old) }
	}
	p.desired = func(old resource.Object) (resource.Object, error) {
		b, err := body(old)
		if err != nil {
			return nil, err
		}
		obj, err := asObject(old.DeepCopyObject())
		if err != nil {
			return nil, err
		}
		if sub.Set == nil {
			return nil, apierrors.NewMethodNotSupported(c.gr, c.info.Verb)
		}
		if err := c.adoptVersion(b, obj); err != nil {
			return nil, err
		}
		err = sub.Set(obj, b)
		generation = obj.GetGeneration()
		return obj, err
	}
	return p
}

// adoptVersion makes the update conditional on the version and identity a
// view of the parent names.
func (c *call) adoptVersion(body runtime.Object, obj resource.Object) error {
	view, ok := body.(metav1.Object)
	if !ok {
		return nil
	}
	if view.GetUID() != "" && view.GetUID() != obj.GetUID() {
		return apierrors.NewConflict(c.gr, c.info.Name, fmt.Errorf(
			"Precondition failed: UID in precondition: %v, UID in object meta: %v", view.GetUID(), obj.GetUID())) //nolint:staticcheck // upstream's text
	}
	if rv := view.GetResourceVersion(); rv != "" {
		obj.SetResourceVersion(rv)
	}
	return nil
}

func (c *call) subPut(sub *resource.Subresource) error {
	opts, body, err := c.subUpdateRequest(sub)
	if err != nil {
		return err
	}
	if view, ok := body.(metav1.Object); ok {
		if err := c.matchName(view); err != nil {
			return err
		}
	}
	p := c.setPlan(sub, func(resource.Object) (runtime.Object, error) { return body, nil })
	p.options, p.dryRun, p.body = opts, len(opts.DryRun) > 0, body
	p.manager = apply.ManagerName(opts.FieldManager, c.r.UserAgent())
	return c.setAndRespond(sub, p)
}

func (c *call) setAndRespond(sub *resource.Subresource, p plan) error {
	item, _, err := c.update(p)
	if err != nil {
		return err
	}
	if sub.Response != nil {
		parent, err := c.served(item)
		if err != nil {
			return err
		}
		c.respondObject(http.StatusOK, sub.Response(parent), sub.Kind)
		return nil
	}
	return c.respondView(http.StatusOK, sub, item)
}

func (c *call) subPatch(sub *resource.Subresource) error {
	kind, opts, raw, err := c.patchRequest()
	if err != nil {
		return err
	}
	if kind == types.ApplyYAMLPatchType {
		kind = types.MergePatchType // a view has no managed fields of its own
		if raw, err = yamlToJSON(raw); err != nil {
			return err
		}
	}
	patch, err := apply.ParsePatch(kind, raw, opts.FieldValidation == metav1.FieldValidationStrict)
	if err != nil {
		return err //nolint:wrapcheck // a Status
	}
	p := c.setPlan(sub, func(old resource.Object) (runtime.Object, error) {
		view, err := viewOf(sub, old)
		if err != nil {
			return nil, err
		}
		return c.patched(patch, view, sub.Kind, sub.New, opts.FieldValidation, raw)
	})
	p.options, p.dryRun = opts, len(opts.DryRun) > 0
	p.manager = apply.ManagerName(opts.FieldManager, c.r.UserAgent())
	return c.setAndRespond(sub, p)
}

// subCreate posts a body to a subresource that changes its parent (binding).
func (c *call) subCreate(sub *resource.Subresource) error {
	opts := &metav1.CreateOptions{}
	if err := c.parameters(opts); err != nil {
		return err
	}
	if err := invalidOptions("CreateOptions", validation.ValidateCreateOptions(opts)); err != nil {
		return err
	}
	body, err := c.body(sub.Kind, sub.New(), opts.FieldValidation)
	if err != nil {
		return err
	}
	if named, ok := body.(metav1.Object); ok {
		if err := c.matchName(named); err != nil {
			return err
		}
		if err := c.matchNamespace(named); err != nil {
			return err
		}
	}
	item, _, err := c.postBody(sub, body, opts)
	if err != nil {
		return err
	}
	if sub.Response == nil {
		c.respondObject(http.StatusCreated, &metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusCreated}, codec.StatusKind)
		return nil
	}
	parent, err := c.served(item)
	if err != nil {
		return err
	}
	c.respondObject(http.StatusCreated, sub.Response(parent), sub.Kind)
	return nil
}

// postBody changes the parent as a posted body asks.
func (c *call) postBody(sub *resource.Subresource, body runtime.Object, opts *metav1.CreateOptions) (*store.Item, bool, error) {
	p := c.setPlan(sub, func(resource.Object) (runtime.Object, error) { return body, nil })
	p.options, p.dryRun, p.body = opts, len(opts.DryRun) > 0, body
	p.manager = apply.ManagerName(opts.FieldManager, c.r.UserAgent())
	return c.update(p)
}

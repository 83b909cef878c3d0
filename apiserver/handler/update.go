package handler

import (
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/admission"
	"github.com/skeg-dev/skeg/apiserver/apply"
	"github.com/skeg-dev/skeg/apiserver/lifecycle"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// plan is one update of a stored object, whatever verb it came by.
type plan struct {
	// desired makes the wanted object from the stored one (read-only; nil when
	// it is missing and create is set). It may run again.
	desired func(old resource.Object) (resource.Object, error)
	// changes are the rules of the endpoint.
	changes lifecycle.Changes
	// body is what admission sees as the object; nil means the object itself.
	body runtime.Object
	// endpoint names the managed fields' subresource.
	endpoint string
	// manager owns the changed fields; "" leaves managed fields alone (apply
	// has set them already).
	manager string
	options runtime.Object
	dryRun  bool
	// create permits to create what is missing.
	create bool
	// unconditional permits an object without resourceVersion.
	unconditional bool
}

// finishedError ends an update that turned out to be a removal.
type finishedError struct{ last resource.Object }

// Error implements error.
func (e *finishedError) Error() string { return "the last finalizer is gone" }

// put replaces an object.
func (c *call) put() error {
	opts := &metav1.UpdateOptions{}
	if err := c.parameters(opts); err != nil {
		return err
	}
	if err := invalidOptions("UpdateOptions", validation.ValidateUpdateOptions(opts)); err != nil {
		return err
	}
	decoded, err := c.body(c.def.Kind, c.def.New(), opts.FieldValidation)
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
	p := c.mainPlan(opts, len(opts.DryRun) > 0)
	p.manager = apply.ManagerName(opts.FieldManager, c.r.UserAgent())
	p.create = c.def.AllowCreateOnUpdate
	p.desired = func(resource.Object) (resource.Object, error) { return asObject(obj.DeepCopyObject()) }
	return c.updateAndRespond(p)
}

// mainPlan is the plan for the main resource's endpoint, desired missing.
func (c *call) mainPlan(opts runtime.Object, dryRun bool) plan {
	return plan{
		changes: lifecycle.Changes{Prepare: c.def.PrepareUpdate, Validate: c.def.ValidateUpdate},
		options: opts, dryRun: dryRun, unconditional: c.def.AllowUnconditionalUpdate,
	}
}

func (c *call) matchName(obj metav1.Object) error {
	if name := obj.GetName(); name != "" && name != c.info.Name {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the name of the object (%s) does not match the name on the URL (%s)", name, c.info.Name))
	}
	if obj.GetName() == "" {
		obj.SetName(c.info.Name)
	}
	return nil
}

func (c *call) updateAndRespond(p plan) error {
	item, created, err := c.update(p)
	if err != nil {
		return err
	}
	if created {
		return c.respond(http.StatusCreated, item)
	}
	return c.respond(http.StatusOK, item)
}

// update runs a plan against the stored object until it is stored.
func (c *call) update(p plan) (item *store.Item, created bool, err error) {
	for {
		item, created, err = c.updateOnce(p)
		var done *finishedError
		if !errors.As(err, &done) {
			return item, created, err
		}
		item, err = c.removeFinished(done.last, p.dryRun)
		if !errors.Is(err, store.ErrConflict) {
			return item, false, err
		}
	}
}

func (c *call) updateOnce(p plan) (item *store.Item, created bool, err error) {
	finish := func(bool) {}
	change := func(current *store.Item) (resource.Object, error) {
		finish(false)
		finish = func(bool) {}
		var obj resource.Object
		var err error
		if created = current == nil; created {
			obj, finish, err = c.changeMissing(p)
		} else {
			obj, finish, err = c.changeStored(p, current)
		}
		if err != nil {
			finish = func(bool) {}
			return nil, err
		}
		return c.kept(obj)
	}
	if p.dryRun {
		item, err = c.rehearse(change)
	} else {
		item, err = c.store.Update(c.ctx, c.key(), change)
	}
	finish(err == nil && !p.dryRun)
	return item, created, err
}

// rehearse runs a change for a dry run: everything but storing.
func (c *call) rehearse(change func(*store.Item) (resource.Object, error)) (*store.Item, error) {
	current, err := c.store.Get(c.ctx, c.key(), store.Consistency{AtLeast: store.Latest})
	if errors.Is(err, store.ErrNotFound) {
		current, err = nil, nil
	}
	if err != nil {
		return nil, err //nolint:wrapcheck // mapped by statusError
	}
	obj, err := change(current)
	if err != nil {
		return nil, err
	}
	return &store.Item{Key: c.key(), Object: obj}, nil
}

// changeMissing creates where a plan permits it.
func (c *call) changeMissing(p plan) (resource.Object, func(bool), error) {
	if !p.create {
		return nil, nil, apierrors.NewNotFound(c.gr, c.info.Name)
	}
	obj, err := p.desired(nil)
	if err != nil {
		return nil, nil, err
	}
	if obj.GetUID() != "" {
		return nil, nil, apierrors.NewConflict(c.gr, c.info.Name, fmt.Errorf(
			"Precondition failed: UID in precondition: %v, UID in object meta: ", obj.GetUID())) //nolint:staticcheck // upstream's text
	}
	if p.manager != "" {
		if obj, err = c.admitNew(obj, p.manager, p.options, p.dryRun); err != nil {
			return nil, nil, err
		}
	} else {
		a := c.attributes(admission.Create, obj, nil, p.options, p.dryRun)
		if err := c.admit.mutate(c.ctx, a); err != nil {
			return nil, nil, err
		}
	}
	finish, err := c.finalizeNew(obj, p.options, p.dryRun)
	return obj, finish, err
}

// changeStored makes the new state of a stored object.
func (c *call) changeStored(p plan, current *store.Item) (resource.Object, func(bool), error) {
	old, err := c.served(current)
	if err != nil {
		return nil, nil, err
	}
	obj, err := p.desired(old)
	if err != nil {
		return nil, nil, err
	}
	if err := c.checkVersion(p, obj, old); err != nil {
		return nil, nil, err
	}
	if p.manager != "" {
		obj = c.fields[p.endpoint].Update(old, obj, p.manager)
	}
	a := c.attributes(admission.Update, obj, old, p.options, p.dryRun)
	if p.body != nil {
		a.Object = p.body
	}
	if err := c.admit.mutate(c.ctx, a); err != nil {
		return nil, nil, err
	}
	if err := lifecycle.Update(c.def, p.changes, obj, old); err != nil {
		return nil, nil, err //nolint:wrapcheck // a Status
	}
	apply.KeepTimestamps(obj, old)
	if p.endpoint == "" {
		c.warnAbout(obj, old)
	}
	if err := c.admit.validate(c.ctx, a); err != nil {
		return nil, nil, err
	}
	finish, err := c.hook(HookRequest{Operation: admission.Update, New: obj, Old: old, DryRun: p.dryRun, User: c.user})
	if err != nil {
		return nil, nil, err
	}
	if lifecycle.Finished(c.def, obj, old) {
		finish(false)
		return nil, nil, &finishedError{last: obj}
	}
	return obj, finish, nil
}

// checkVersion enforces optimistic concurrency and identity.
func (c *call) checkVersion(p plan, obj, old resource.Object) error {
	if err := lifecycle.MatchUID(c.gr, obj, old); err != nil {
		return err //nolint:wrapcheck // a Status
	}
	switch obj.GetResourceVersion() {
	case old.GetResourceVersion():
		return nil
	case "", "0":
		if p.unconditional {
			obj.SetResourceVersion(old.GetResourceVersion())
			return nil
		}
		return lifecycle.Invalid(c.def.Kind.GroupKind(), c.info.Name, field.ErrorList{ //nolint:wrapcheck // a Status
			field.Invalid(field.NewPath("metadata", "resourceVersion"), 0, "must be specified for an update"),
		})
	}
	return apierrors.NewConflict(c.gr, c.info.Name, errors.New(modifiedMessage))
}

// removeFinished removes an object whose last hold an update took away; obj
// is its last state. ErrConflict means that it changed meanwhile.
func (c *call) removeFinished(obj resource.Object, dryRun bool) (*store.Item, error) {
	if dryRun {
		return c.unstored(obj)
	}
	finish, err := c.hook(HookRequest{Operation: admission.Delete, Old: obj, User: c.user})
	if err != nil {
		return nil, err
	}
	removed, err := c.store.Delete(c.ctx, c.key(), func(current *store.Item) error {
		if current.Object.GetResourceVersion() != obj.GetResourceVersion() {
			return store.ErrConflict
		}
		return nil
	})
	finish(err == nil)
	if err != nil {
		return nil, err //nolint:wrapcheck // mapped by statusError
	}
	item, err := c.unstored(obj)
	if err != nil {
		return nil, err
	}
	item.Object.SetResourceVersion(removed.Object.GetResourceVersion())
	return item, nil
}

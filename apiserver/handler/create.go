package handler

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilrand "k8s.io/apimachinery/pkg/util/rand"

	"github.com/skeg-dev/skeg/apiserver/admission"
	"github.com/skeg-dev/skeg/apiserver/apply"
	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/lifecycle"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// nameAttempts is how often a generated name may collide before the client is
// told (KEP-4420).
const nameAttempts = 8

// create stores a posted object.
func (c *call) create() error {
	opts := &metav1.CreateOptions{}
	if err := c.parameters(opts); err != nil {
		return err
	}
	if err := invalidOptions("CreateOptions", validation.ValidateCreateOptions(opts)); err != nil {
		return err
	}
	decoded, err := c.body(c.def.Kind, c.def.New(), opts.FieldValidation)
	if err != nil {
		return err
	}
	c.setDefaults(decoded)
	if c.store == nil {
		return c.act(decoded, c.def.Kind, c.gr.String(), opts)
	}
	obj, err := asObject(decoded)
	if err != nil {
		return err
	}
	if err := c.matchNamespace(obj); err != nil {
		return err
	}
	item, err := c.insert(obj, opts)
	if err != nil {
		return err
	}
	return c.respond(http.StatusCreated, item)
}

// insert runs a new object through everything and stores it.
func (c *call) insert(obj resource.Object, opts *metav1.CreateOptions) (*store.Item, error) {
	dryRun := len(opts.DryRun) > 0
	generated := obj.GetName() == "" && obj.GetGenerateName() != ""
	prepared, err := c.admitNew(obj, opts.FieldManager, opts, dryRun)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		candidate, err := asObject(prepared.DeepCopyObject())
		if err != nil {
			return nil, err
		}
		item, err := c.insertOnce(candidate, opts, dryRun)
		if !errors.Is(err, store.ErrExists) {
			return item, err
		}
		if !generated {
			return nil, apierrors.NewAlreadyExists(c.gr, candidate.GetName())
		}
		if attempt == nameAttempts {
			return nil, apierrors.NewGenerateNameConflict(c.gr, candidate.GetName(), 1)
		}
	}
}

// admitNew records the manager's fields and lets plugins change the object.
func (c *call) admitNew(obj resource.Object, manager string, opts runtime.Object, dryRun bool) (resource.Object, error) {
	live, err := asObject(c.def.New())
	if err != nil {
		return nil, err
	}
	obj = c.fields[""].Update(live, obj, apply.ManagerName(manager, c.r.UserAgent()))
	a := c.attributes(admission.Create, obj, nil, opts, dryRun)
	a.Name = obj.GetName()
	if err := c.admit.mutate(c.ctx, a); err != nil {
		return nil, err
	}
	return obj, nil
}

// finalizeNew gives an admitted object its identity, validates it and runs
// the hook. It is a private copy of the caller's.
func (c *call) finalizeNew(obj resource.Object, opts runtime.Object, dryRun bool) (finish func(bool), err error) {
	id := lifecycle.Identity{UID: types.UID(uuid.NewString()), Now: metav1.Now().Rfc3339Copy(), Suffix: utilrand.String(5)}
	if err := lifecycle.Create(c.def, obj, id); err != nil {
		return nil, err //nolint:wrapcheck // a Status
	}
	c.warnAbout(obj, nil)
	a := c.attributes(admission.Create, obj, nil, opts, dryRun)
	a.Name = obj.GetName()
	if err := c.admit.validate(c.ctx, a); err != nil {
		return nil, err
	}
	return c.hook(HookRequest{Operation: admission.Create, New: obj, DryRun: dryRun, User: c.user})
}

func (c *call) insertOnce(obj resource.Object, opts *metav1.CreateOptions, dryRun bool) (*store.Item, error) {
	finish, err := c.finalizeNew(obj, opts, dryRun)
	if err != nil {
		return nil, err
	}
	key := c.keyOf(obj.GetNamespace(), obj.GetName())
	if dryRun {
		finish(false)
		_, err := c.store.Get(c.ctx, key, store.Consistency{AtLeast: store.Latest})
		if err == nil {
			return nil, store.ErrExists
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, err //nolint:wrapcheck // mapped by statusError
		}
		return c.unstored(obj)
	}
	kept, err := c.kept(obj)
	if err != nil {
		finish(false)
		return nil, err
	}
	item, err := c.store.Create(c.ctx, key, kept)
	finish(err == nil)
	return item, err //nolint:wrapcheck // mapped by statusError
}

// hook runs the kind's hook. finish is never nil when err is nil.
func (c *call) hook(req HookRequest) (finish func(bool), err error) {
	h := c.config.Hooks[c.gr.String()]
	if h == nil {
		return func(bool) {}, nil
	}
	req.Subresource = c.info.Subresource
	finish, err = h.Begin(c.ctx, req)
	if err != nil {
		return nil, err //nolint:wrapcheck // answered as it is
	}
	if finish == nil {
		finish = func(bool) {}
	}
	return finish, nil
}

// body decodes the request's body into an object of kind gvk.
func (c *call) body(gvk schema.GroupVersionKind, into runtime.Object, fieldValidation string) (runtime.Object, error) {
	format, err := codec.BodyFormat(c.r)
	if err != nil {
		return nil, err //nolint:wrapcheck // a Status
	}
	raw, err := codec.ReadBody(c.r)
	if err != nil {
		return nil, err //nolint:wrapcheck // a Status
	}
	return codec.Decode(format, raw, gvk, into, fieldValidation, c.warn) //nolint:wrapcheck // a Status
}

func (c *call) setDefaults(obj runtime.Object) {
	if c.def.Default != nil {
		c.def.Default(obj)
	}
}

func (c *call) warnAbout(obj, old runtime.Object) {
	if c.def.Warnings == nil {
		return
	}
	for _, text := range c.def.Warnings(obj, old) {
		c.warn(text)
	}
}

// matchNamespace gives obj the URL's namespace or refuses another one.
func (c *call) matchNamespace(obj metav1.Object) error {
	if !c.def.Namespaced {
		if obj.GetNamespace() != "" {
			return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
		}
		return nil
	}
	switch obj.GetNamespace() {
	case "":
		obj.SetNamespace(c.info.Namespace)
	case c.info.Namespace:
	default:
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return nil
}

func asObject(obj runtime.Object) (resource.Object, error) {
	out, ok := obj.(resource.Object)
	if !ok {
		return nil, fmt.Errorf("use %T as an object: it has no metadata", obj)
	}
	return out, nil
}

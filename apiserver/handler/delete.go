package handler

import (
	"errors"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/admission"
	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/lifecycle"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// returnsDeleted lists the resources whose delete answers with the object
// rather than a Status, as upstream's registries are set.
var returnsDeleted = map[schema.GroupResource]bool{
	{Resource: "pods"}: true, {Resource: "services"}: true, {Resource: "serviceaccounts"}: true,
	{Resource: "persistentvolumes"}: true, {Resource: "persistentvolumeclaims"}: true,
	{Resource: "podtemplates"}: true, {Resource: "resourcequotas"}: true,
	{Group: "storage.k8s.io", Resource: "storageclasses"}: true, {Group: "storage.k8s.io", Resource: "volumeattachments"}: true,
	{Group: "storage.k8s.io", Resource: "csinodes"}: true, {Group: "storage.k8s.io", Resource: "csidrivers"}: true,
}

// delete removes an object or begins its deletion.
func (c *call) delete() error {
	opts, err := c.deleteOptions()
	if err != nil {
		return err
	}
	item, removed, err := c.deleteObject(c.info.Namespace, c.info.Name, opts)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if !removed && opts.OrphanDependents != nil && !*opts.OrphanDependents { //nolint:staticcheck // deprecated and still served
		code = http.StatusAccepted
	}
	if !removed || returnsDeleted[c.gr] {
		return c.respond(code, item)
	}
	c.respondObject(code, &metav1.Status{
		Status: metav1.StatusSuccess,
		Details: &metav1.StatusDetails{
			Name: c.info.Name, Group: c.gr.Group, Kind: c.gr.Resource, UID: item.Object.GetUID(),
		},
	}, codec.StatusKind)
	return nil
}

// deleteOptions reads options from the body, or from the query without one.
func (c *call) deleteOptions() (*metav1.DeleteOptions, error) {
	opts := &metav1.DeleteOptions{}
	body, err := codec.ReadBody(c.r)
	if err != nil {
		return nil, err //nolint:wrapcheck // a Status
	}
	if len(body) > 0 {
		format, err := codec.BodyFormat(c.r)
		if err != nil {
			return nil, err //nolint:wrapcheck // a Status
		}
		if err := codec.DecodeOptions(format, body, opts); err != nil {
			return nil, err //nolint:wrapcheck // a Status
		}
	} else if err := c.parameters(opts); err != nil {
		return nil, err
	}
	return opts, invalidOptions("DeleteOptions", validation.ValidateDeleteOptions(opts))
}

// deleteObject decides about one object and carries it out; removed says that
// it is gone.
func (c *call) deleteObject(namespace, name string, opts *metav1.DeleteOptions) (item *store.Item, removed bool, err error) {
	key := c.keyOf(namespace, name)
	for {
		item, removed, err = c.deleteOnce(key, name, opts)
		if !errors.Is(err, store.ErrConflict) {
			if err != nil {
				err = c.storeError(err, name)
			}
			return item, removed, err
		}
		if c.ctx.Err() != nil {
			return nil, false, c.ctx.Err() //nolint:wrapcheck // mapped by statusError
		}
	}
}

func (c *call) deleteOnce(key, name string, opts *metav1.DeleteOptions) (*store.Item, bool, error) {
	current, err := c.store.Get(c.ctx, key, store.Consistency{AtLeast: store.Latest})
	if err != nil {
		return nil, false, err //nolint:wrapcheck // mapped by storeError
	}
	old, err := c.served(current)
	if err != nil {
		return nil, false, err
	}
	if err := lifecycle.CheckPreconditions(c.gr, opts.Preconditions, old); err != nil {
		return nil, false, err //nolint:wrapcheck // a Status
	}
	if err := c.admitDelete(old, name, opts); err != nil {
		return nil, false, err
	}
	obj, err := asObject(old.DeepCopyObject())
	if err != nil {
		return nil, false, err
	}
	dryRun := len(opts.DryRun) > 0
	switch lifecycle.Delete(c.def, obj, opts, metav1.Now().Rfc3339Copy()) {
	case lifecycle.Pending:
		return current, false, nil
	case lifecycle.Mark:
		item, err := c.markDeleted(key, current, obj, dryRun)
		return item, false, err
	}
	if dryRun {
		return current, true, nil
	}
	item, err := c.remove(key, current, old)
	return item, err == nil, err
}

// markDeleted stores the marked object if current is still the stored state.
func (c *call) markDeleted(key string, current *store.Item, obj resource.Object, dryRun bool) (*store.Item, error) {
	if dryRun {
		return c.unstored(obj)
	}
	kept, err := c.kept(obj)
	if err != nil {
		return nil, err
	}
	return c.store.Update(c.ctx, key, func(latest *store.Item) (resource.Object, error) { //nolint:wrapcheck // mapped by storeError
		if latest == nil {
			return nil, store.ErrNotFound
		}
		if latest.Object.GetResourceVersion() != current.Object.GetResourceVersion() {
			return nil, store.ErrConflict
		}
		return kept, nil
	})
}

func (c *call) remove(key string, current *store.Item, old resource.Object) (*store.Item, error) {
	finish, err := c.hook(HookRequest{Operation: admission.Delete, Old: old, User: c.user})
	if err != nil {
		return nil, err
	}
	item, err := c.store.Delete(c.ctx, key, func(latest *store.Item) error {
		if latest.Object.GetResourceVersion() != current.Object.GetResourceVersion() {
			return store.ErrConflict
		}
		return nil
	})
	finish(err == nil)
	return item, err //nolint:wrapcheck // mapped by storeError
}

func (c *call) admitDelete(old resource.Object, name string, opts *metav1.DeleteOptions) error {
	a := c.attributes(admission.Delete, nil, old, opts, len(opts.DryRun) > 0)
	a.Name = name
	if err := c.admit.mutate(c.ctx, a); err != nil {
		return err
	}
	return c.admit.validate(c.ctx, a)
}

// ignoreNotFound is for deletes that lost a race with another.
func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

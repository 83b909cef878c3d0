package handler

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/skeg-dev/skeg/apiserver/apply"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// apply merges an applied configuration (server-side apply, KEP-555); on the
// main resource it creates what is missing.
func (c *call) apply(p plan, opts *metav1.PatchOptions, body []byte) error {
	patch, err := apply.Configuration(body, opts.FieldValidation != metav1.FieldValidationIgnore)
	if err != nil {
		return err //nolint:wrapcheck // a Status
	}
	if err := c.checkConfiguration(patch); err != nil {
		return err
	}
	force := opts.Force != nil && *opts.Force
	fields := c.fields[p.endpoint]
	p.create = p.endpoint == ""
	p.desired = func(old resource.Object) (resource.Object, error) {
		live := old
		if live == nil {
			if live, err = asObject(c.def.New()); err != nil {
				return nil, err
			}
		}
		obj, err := fields.Apply(live, patch.DeepCopy(), opts.FieldManager, force)
		if err != nil {
			return nil, err //nolint:wrapcheck // a Status
		}
		c.setDefaults(obj)
		if old == nil {
			obj.SetName(c.info.Name)
		}
		if err := c.matchNamespace(obj); err != nil {
			return nil, err
		}
		return obj, c.matchPatchedName(obj)
	}
	return c.updateAndRespond(p)
}

// checkConfiguration refuses what an applied configuration may not say.
func (c *call) checkConfiguration(patch *unstructured.Unstructured) error {
	gvk := patch.GroupVersionKind()
	if gvk.Kind == "" || gvk.Version == "" {
		return apierrors.NewBadRequest("invalid object type: apiVersion and kind must be set")
	}
	if gvk != c.def.Kind {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"invalid object type: %s does not match the expected %s", gvk, c.def.Kind))
	}
	if name := patch.GetName(); name != "" && name != c.info.Name {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the name of the object (%s) does not match the name on the URL (%s)", name, c.info.Name))
	}
	if len(patch.GetManagedFields()) > 0 {
		return apierrors.NewBadRequest("metadata.managedFields must be nil")
	}
	return nil
}

package handler

import (
	"fmt"
	"mime"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/apply"
	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// patch changes an object through an endpoint ("" or "status") by a patch of
// any type.
func (c *call) patch(endpoint string) error {
	p := c.mainPlan(nil, false)
	if endpoint == "status" {
		p = c.statusPlan(nil, false)
	}
	kind, opts, body, err := c.patchRequest()
	if err != nil {
		return err
	}
	p.options, p.dryRun, p.unconditional = opts, len(opts.DryRun) > 0, true
	if kind == types.ApplyYAMLPatchType {
		return c.apply(p, opts, body)
	}
	patch, err := apply.ParsePatch(kind, body, opts.FieldValidation == metav1.FieldValidationStrict)
	if err != nil {
		return err //nolint:wrapcheck // a Status
	}
	if opts.FieldValidation != metav1.FieldValidationIgnore {
		for _, text := range patch.Warnings() {
			c.warn(text)
		}
	}
	p.manager = apply.ManagerName(opts.FieldManager, c.r.UserAgent())
	p.desired = func(old resource.Object) (resource.Object, error) {
		patched, err := c.patched(patch, old, c.def.Kind, c.def.New, opts.FieldValidation, body)
		if err != nil {
			return nil, err
		}
		obj, err := asObject(patched)
		if err != nil {
			return nil, err
		}
		c.setDefaults(obj)
		if err := c.matchNamespace(obj); err != nil {
			return nil, err
		}
		return obj, c.matchPatchedName(obj)
	}
	return c.updateAndRespond(p)
}

// patchRequest reads what all patches have: type, options, body.
func (c *call) patchRequest() (types.PatchType, *metav1.PatchOptions, []byte, error) {
	media, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil {
		media = c.r.Header.Get("Content-Type")
	}
	kind := types.PatchType(media)
	switch kind {
	case types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType:
	default:
		return "", nil, nil, codec.NewUnsupportedMediaType(string(types.JSONPatchType), string(types.MergePatchType),
			string(types.StrategicMergePatchType), string(types.ApplyYAMLPatchType))
	}
	opts := &metav1.PatchOptions{}
	if err := c.parameters(opts); err != nil {
		return "", nil, nil, err
	}
	if err := invalidOptions("PatchOptions", validation.ValidatePatchOptions(opts, kind)); err != nil {
		return "", nil, nil, err
	}
	body, err := codec.ReadBody(c.r)
	return kind, opts, body, err //nolint:wrapcheck // a Status
}

// patched applies a patch to an object of kind gvk and decodes the result.
func (c *call) patched(patch *apply.Patch, old runtime.Object, gvk schema.GroupVersionKind,
	fresh func() runtime.Object, fieldValidation string, body []byte,
) (runtime.Object, error) {
	current, err := codec.Encode(codec.JSON, old, gvk)
	if err != nil {
		return nil, err //nolint:wrapcheck // already says what
	}
	out, err := patch.Apply(current, fresh())
	if err != nil {
		return nil, err //nolint:wrapcheck // a Status
	}
	warnings := []string{}
	obj, err := codec.Decode(codec.JSON, out, gvk, fresh(), metav1.FieldValidationWarn, func(text string) {
		warnings = append(warnings, text)
	})
	if err != nil {
		return nil, invalidPatch(body, err.Error())
	}
	switch {
	case len(warnings) == 0 || fieldValidation == metav1.FieldValidationIgnore:
	case fieldValidation == metav1.FieldValidationStrict:
		return nil, invalidPatch(body, "strict decoding error: "+strings.Join(warnings, ", "))
	default:
		for _, text := range warnings {
			c.warn(text)
		}
	}
	return obj, nil
}

func invalidPatch(body []byte, why string) error {
	return apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{
		field.Invalid(field.NewPath("patch"), string(body), why),
	})
}

// matchPatchedName refuses a patch that renames.
func (c *call) matchPatchedName(obj metav1.Object) error {
	if obj.GetName() != c.info.Name {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), c.info.Name))
	}
	return nil
}

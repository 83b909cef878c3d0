package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	kjson "sigs.k8s.io/json"
)

// maxOperations bounds a JSON patch (upstream's limit).
const maxOperations = 10000

// Patch is a parsed JSON, merge or strategic merge patch.
type Patch struct {
	kind       types.PatchType
	body       []byte
	operations jsonpatch.Patch
	strategic  map[string]any
	warnings   []string
}

// ParsePatch reads a patch body of the given type. strict refuses duplicate
// keys. The errors are API status errors.
func ParsePatch(kind types.PatchType, body []byte, strict bool) (*Patch, error) {
	p := &Patch{kind: kind, body: body}
	if kind == types.JSONPatchType {
		operations, err := jsonpatch.DecodePatch(body)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if len(operations) > maxOperations {
			return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf(
				"The allowed maximum operations in a JSON patch is %d, got %d", maxOperations, len(operations)))
		}
		p.operations = operations
		return p, nil
	}
	content := map[string]any{}
	strictErrs, err := kjson.UnmarshalStrict(body, &content)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if len(strictErrs) > 0 && strict {
		return nil, apierrors.NewBadRequest("strict decoding error: " + errors.Join(strictErrs...).Error())
	}
	for _, e := range strictErrs {
		p.warnings = append(p.warnings, e.Error())
	}
	p.strategic = content
	return p, nil
}

// Warnings tells what a lenient parse let pass.
func (p *Patch) Warnings() []string { return p.warnings }

// Apply returns current, a JSON object, changed by the patch. like is an
// empty object of the type, for its patch strategies.
func (p *Patch) Apply(current []byte, like any) ([]byte, error) {
	switch p.kind {
	case types.JSONPatchType:
		out, err := p.operations.Apply(current)
		if err != nil {
			return nil, unprocessable(err)
		}
		return out, nil
	case types.MergePatchType:
		out, err := jsonpatch.MergePatch(current, p.body)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		return out, nil
	}
	return p.applyStrategic(current, like)
}

func (p *Patch) applyStrategic(current []byte, like any) ([]byte, error) {
	original := map[string]any{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(current, &original); err != nil {
		return nil, fmt.Errorf("decode current object: %w", err)
	}
	// The merge changes both its arguments, and a patch may be applied again.
	patch := map[string]any{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(p.body, &patch); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	merged, err := strategicpatch.StrategicMergeMapPatch(original, patch, like)
	switch {
	case errors.Is(err, mergepatch.ErrBadJSONDoc), errors.Is(err, mergepatch.ErrBadPatchFormatForPrimitiveList),
		errors.Is(err, mergepatch.ErrBadPatchFormatForRetainKeys), errors.Is(err, mergepatch.ErrBadPatchFormatForSetElementOrderList),
		errors.Is(err, mergepatch.ErrUnsupportedStrategicMergePatchFormat):
		return nil, apierrors.NewBadRequest(err.Error())
	case err != nil:
		return nil, unprocessable(err)
	}
	out, err := json.Marshal(merged)
	if err != nil {
		return nil, fmt.Errorf("encode patched object: %w", err)
	}
	return out, nil
}

// unprocessable is the 422 without details for a patch that does not fit:
// upstream's message, and the reason at its end, where clients show it.
func unprocessable(err error) error {
	status := apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
	status.ErrStatus.Message += ": " + err.Error()
	return status
}

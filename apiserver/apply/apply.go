// Package apply holds the ways of changing an object other than replacing it:
// server-side apply, JSON, merge and strategic patches, and the managed
// fields that every write maintains. Merging itself is apimachinery's; this
// package binds it to a Definition. Called by the handlers; pure; starts no
// goroutines.
package apply

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/yaml"

	"github.com/skeg-dev/skeg/apiserver/resource"
)

// maxManagerBytes bounds a field manager's name (API reference, FieldManager).
const maxManagerBytes = 128

// Fields keeps the managed fields of one kind through one endpoint.
type Fields struct {
	kind    schema.GroupVersionKind
	manager *managedfields.FieldManager
}

// NewFields returns the Fields of a definition's main resource
// (subresource "") or of one of its subresources.
func NewFields(d *resource.Definition, scheme *runtime.Scheme, converter managedfields.TypeConverter, subresource string) (*Fields, error) {
	version := fieldpath.APIVersion(d.Kind.GroupVersion().String())
	var reset map[fieldpath.APIVersion]fieldpath.Filter
	if set := resetFields(d, subresource); set != nil {
		reset = fieldpath.NewExcludeFilterSetMap(map[fieldpath.APIVersion]*fieldpath.Set{version: set})
	}
	manager, err := managedfields.NewDefaultFieldManager(converter, scheme, defaulter{d}, scheme,
		d.Kind, d.Kind.GroupVersion(), subresource, reset)
	if err != nil {
		return nil, fmt.Errorf("make field manager of %s: %w", d.Kind.Kind, err)
	}
	return &Fields{kind: d.Kind, manager: manager}, nil
}

// resetFields names what an endpoint never takes from a client, so that no
// manager comes to own it.
func resetFields(d *resource.Definition, subresource string) *fieldpath.Set {
	switch {
	case d.Status == nil:
		return nil
	case subresource == "status":
		return fieldpath.NewSet(fieldpath.MakePathOrDie("spec"))
	case subresource == "":
		return fieldpath.NewSet(fieldpath.MakePathOrDie("status"))
	}
	return nil
}

// defaulter makes a definition a runtime.ObjectDefaulter.
type defaulter struct{ d *resource.Definition }

// Default implements runtime.ObjectDefaulter.
func (d defaulter) Default(obj runtime.Object) {
	if d.d.Default != nil {
		d.d.Default(obj)
	}
}

// Update records that manager changed live into obj, which must be private to
// the caller. On an error of the merge library obj keeps live's records, as
// upstream does: a write must not fail for its bookkeeping.
func (f *Fields) Update(live, obj resource.Object, manager string) resource.Object {
	liveCopy := f.withKind(live)
	obj.GetObjectKind().SetGroupVersionKind(f.kind)
	updated := f.manager.UpdateNoErrors(liveCopy, obj, manager)
	out, ok := updated.(resource.Object)
	if !ok {
		out = obj
	}
	out.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return out
}

// Apply merges an applied configuration into live and returns the result with
// a nil error, or a Conflict Status with one cause per contested field.
func (f *Fields) Apply(live resource.Object, patch *unstructured.Unstructured, manager string, force bool) (resource.Object, error) {
	merged, err := f.manager.Apply(f.withKind(live), patch, manager, force)
	if err != nil {
		return nil, err //nolint:wrapcheck // a Status, or shown to the client as it is
	}
	out, ok := merged.(resource.Object)
	if !ok {
		return nil, fmt.Errorf("apply to %s: result is a %T", f.kind.Kind, merged)
	}
	out.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return out, nil
}

func (f *Fields) withKind(obj resource.Object) runtime.Object {
	c := obj.DeepCopyObject()
	c.GetObjectKind().SetGroupVersionKind(f.kind)
	return c
}

// KeepTimestamps gives obj back old's managed fields when they differ in
// nothing but their times, so that a write that changes nothing is seen as one.
func KeepTimestamps(obj, old metav1.Object) {
	was, is := old.GetManagedFields(), obj.GetManagedFields()
	if len(was) != len(is) {
		return
	}
	for i := range was {
		a, b := was[i], is[i]
		a.Time, b.Time = nil, nil
		if !equality.Semantic.DeepEqual(a, b) {
			return
		}
	}
	obj.SetManagedFields(was)
}

// Configuration decodes the body of an apply request; strict says whether
// repeated keys are an error.
func Configuration(body []byte, strict bool) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	decode := func() error { return yaml.Unmarshal(body, &u.Object) }
	if strict {
		decode = func() error { return yaml.UnmarshalStrict(body, &u.Object) }
	}
	if err := decode(); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	return u, nil
}

// ManagerName returns the field manager of a request: the one it names, else
// the first word of its User-Agent.
func ManagerName(manager, userAgent string) string {
	if manager != "" {
		return manager
	}
	name, _, _ := strings.Cut(userAgent, "/")
	var out strings.Builder
	for _, r := range name {
		if !unicode.IsPrint(r) {
			continue
		}
		if out.Len()+utf8.RuneLen(r) > maxManagerBytes {
			break
		}
		out.WriteRune(r)
	}
	return out.String()
}

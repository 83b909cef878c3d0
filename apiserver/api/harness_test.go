package api

import (
	"fmt"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/skeg-dev/skeg/apiserver/resource"
)

// definitionOf finds a kind.
func definitionOf(t *testing.T, gvk schema.GroupVersionKind) *resource.Definition {
	t.Helper()
	for _, d := range Registry() {
		if d.Kind == gvk {
			return d
		}
	}
	t.Fatalf("no definition of %v", gvk)
	return nil
}

// decode reads one object in YAML and defaults it, as a request does.
func decode(t *testing.T, text string) (*resource.Definition, resource.Object) {
	t.Helper()
	var head metav1.TypeMeta
	if err := yaml.Unmarshal([]byte(text), &head); err != nil {
		t.Fatalf("read %s: %v", text, err)
	}
	d := definitionOf(t, head.GroupVersionKind())
	obj, ok := d.New().(resource.Object)
	if !ok {
		t.Fatalf("%v has no metadata", d.Kind)
	}
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		t.Fatalf("decode %s: %v", text, err)
	}
	if d.Default != nil {
		d.Default(obj)
	}
	return d, obj
}

// create does to an object what the server does before it is stored.
func create(t *testing.T, text string) (*resource.Definition, resource.Object, field.ErrorList) {
	t.Helper()
	d, obj := decode(t, text)
	obj.SetUID(types.UID("0a1b2c3d-0000-0000-0000-000000000000"))
	if d.PrepareCreate != nil {
		d.PrepareCreate(obj)
	}
	if d.Validate == nil {
		return d, obj, nil
	}
	return d, obj, d.Validate(obj)
}

// update does what the server does when text replaces old.
func update(t *testing.T, text string, old resource.Object) (resource.Object, field.ErrorList) {
	t.Helper()
	d, obj := decode(t, text)
	obj.SetUID(old.GetUID())
	obj.SetGeneration(old.GetGeneration())
	if d.PrepareUpdate != nil {
		d.PrepareUpdate(obj, old)
	}
	return obj, d.ValidateUpdate(obj, old)
}

// faults shows errors as "type path", in order.
func faults(errs field.ErrorList) []string {
	var list []string
	for _, err := range errs {
		list = append(list, fmt.Sprintf("%s %s", shortType[err.Type], err.Field))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

var shortType = map[field.ErrorType]string{
	field.ErrorTypeNotFound: "notfound", field.ErrorTypeRequired: "required", field.ErrorTypeDuplicate: "duplicate",
	field.ErrorTypeInvalid: "invalid", field.ErrorTypeNotSupported: "unsupported", field.ErrorTypeForbidden: "forbidden",
	field.ErrorTypeTooLong: "toolong", field.ErrorTypeTooMany: "toomany", field.ErrorTypeInternal: "internal",
}

func expectFaults(t *testing.T, errs field.ErrorList, want ...string) {
	t.Helper()
	got := faults(errs)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("faults %v, want %v\n%v", got, want, errs.ToAggregate())
	}
}

package api

import (
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skeg-dev/skeg/apiserver/resource"
)

// samples are objects of a kind that go through every function in the generic
// tests: one with nothing in it, and one where every pointer is set and every
// list has an entry, with nothing in them in turn.
func samples(d *resource.Definition) map[string]runtime.Object {
	full := d.New()
	fill(reflect.ValueOf(full).Elem(), 0)
	if obj, ok := full.(resource.Object); ok {
		obj.SetName("full")
		obj.SetManagedFields(nil)
		obj.SetDeletionTimestamp(nil)
		obj.SetOwnerReferences(nil)
		obj.SetCreationTimestamp(metav1.Time{})
	}
	return map[string]runtime.Object{"empty": d.New(), "full": full}
}

// maxDepth ends types that contain themselves.
const maxDepth = 14

func fill(v reflect.Value, depth int) {
	if depth > maxDepth {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth+1)
	case reflect.Struct:
		if v.Type().PkgPath() == "k8s.io/apimachinery/pkg/api/resource" {
			return // a Quantity is a value, not a tree
		}
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), depth+1)
			}
		}
	}
}

package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/skeg-dev/skeg/apiserver/resource"
)

// each runs a test for every kind.
func each(t *testing.T, test func(t *testing.T, d *resource.Definition)) {
	t.Helper()
	for _, d := range Registry() {
		t.Run(d.Kind.GroupKind().String(), func(t *testing.T) {
			t.Parallel()
			test(t, d)
		})
	}
}

// stored runs a test for every kind that is kept.
func stored(t *testing.T, test func(t *testing.T, d *resource.Definition)) {
	t.Helper()
	each(t, func(t *testing.T, d *resource.Definition) {
		if d.NewList != nil {
			test(t, d)
		}
	})
}

func TestTypesAreRegistered(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *resource.Definition) {
		check := func(obj runtime.Object, want schema.GroupVersionKind) {
			t.Helper()
			kinds, _, err := scheme.Scheme.ObjectKinds(obj)
			if err != nil || len(kinds) != 1 || kinds[0] != want {
				t.Errorf("%T is %v (%v), want %v", obj, kinds, err, want)
			}
		}
		check(d.New(), d.Kind)
		if d.NewList != nil {
			check(d.NewList(), d.Kind.GroupVersion().WithKind(d.Kind.Kind+"List"))
		}
		for _, sub := range d.Subresources {
			check(sub.New(), sub.Kind)
		}
	})
}

func TestNamesAreUnique(t *testing.T) {
	t.Parallel()
	resources, prefixes := map[string]bool{}, map[string]bool{}
	for _, d := range Registry() {
		key := d.GroupVersionResource().String()
		if resources[key] {
			t.Errorf("%s is listed twice", key)
		}
		resources[key] = true
		if d.NewList == nil || d.Stored != nil {
			continue
		}
		prefix := d.StorePrefix
		if prefix == "" {
			prefix = d.Resource
		}
		if prefixes[prefix] {
			t.Errorf("%s shares the store directory %q", key, prefix)
		}
		prefixes[prefix] = true
	}
}

func TestEveryKindHasWhatTheServerNeeds(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *resource.Definition) {
		if d.Resource != strings.ToLower(d.Resource) {
			t.Errorf("resource %q is not lower case", d.Resource)
		}
		if d.NewList == nil {
			if len(d.Verbs) != 1 || d.Verbs[0] != "create" {
				t.Errorf("verbs %v, want create alone", d.Verbs)
			}
			return
		}
		if _, ok := d.New().(resource.Object); !ok {
			t.Errorf("%T has no metadata", d.New())
		}
		if (d.Row == nil) != (d.Columns == nil) {
			t.Error("columns and row go together")
		}
		for _, sub := range d.Subresources {
			writes := strings.Contains(strings.Join(sub.Verbs, " "), "update") || strings.Contains(strings.Join(sub.Verbs, " "), "create")
			if !sub.Connect && writes && sub.Set == nil {
				t.Errorf("subresource %s writes and has no Set", sub.Name)
			}
		}
	})
}

func TestDefaultIsIdempotent(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *resource.Definition) {
		for name, obj := range samples(d) {
			if d.Default == nil {
				continue
			}
			d.Default(obj)
			once := obj.DeepCopyObject()
			d.Default(obj)
			if !equality.Semantic.DeepEqual(once, obj) {
				t.Errorf("%s: the second time changes something", name)
			}
		}
	})
}

func TestRowHasACellPerColumn(t *testing.T) {
	t.Parallel()
	now := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	stored(t, func(t *testing.T, d *resource.Definition) {
		if d.Row == nil {
			return
		}
		for name, obj := range samples(d) {
			cells := d.Row(obj, now)
			if len(cells) != len(d.Columns) {
				t.Errorf("%s: %d cells for %d columns", name, len(cells), len(d.Columns))
			}
			for i, cell := range cells {
				if problem := cellProblem(d.Columns[i], cell); problem != "" {
					t.Errorf("%s: column %s: %s", name, d.Columns[i].Name, problem)
				}
			}
			if _, err := json.Marshal(cells); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// cellProblem compares a cell's Go type with what the column promises. Text
// goes into any column, as upstream's own tables do.
func cellProblem(c metav1.TableColumnDefinition, cell any) string {
	switch cell.(type) {
	case string:
		return ""
	case int64:
		if c.Type == "integer" || c.Type == "string" {
			return ""
		}
	case bool:
		if c.Type == "boolean" {
			return ""
		}
	}
	return fmt.Sprintf("a %T in a column of type %s", cell, c.Type)
}

func TestLifecycleFunctionsTakeAnyObject(t *testing.T) {
	t.Parallel()
	stored(t, func(_ *testing.T, d *resource.Definition) {
		for _, obj := range samples(d) {
			exercise(d, obj)
		}
	})
}

// exercise calls every function of d; none may panic on what decodes.
func exercise(d *resource.Definition, obj runtime.Object) {
	old := obj.DeepCopyObject()
	for _, f := range []func(runtime.Object){d.Default, d.PrepareCreate, d.BeginDelete} {
		if f != nil {
			f(obj)
		}
	}
	if d.PrepareUpdate != nil {
		d.PrepareUpdate(obj, old)
	}
	if d.Validate != nil {
		d.Validate(obj)
	}
	if d.ValidateUpdate != nil {
		d.ValidateUpdate(obj, old)
	}
	if d.Fields != nil {
		d.Fields(obj)
	}
	if d.Warnings != nil {
		d.Warnings(obj, nil)
		d.Warnings(obj, old)
	}
	if d.Status != nil {
		d.Status.Prepare(obj, old)
		if d.Status.Validate != nil {
			d.Status.Validate(obj, old)
		}
	}
	if d.Stored != nil {
		d.Stored.From(d.Stored.To(obj))
	}
	if d.DeleteGrace != nil {
		d.DeleteGrace(obj, nil)
	}
	if d.ReadyToDelete != nil {
		d.ReadyToDelete(obj)
	}
}

func TestRoundTrips(t *testing.T) {
	t.Parallel()
	proto := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
	each(t, func(t *testing.T, d *resource.Definition) {
		for name, obj := range samples(d) {
			obj.GetObjectKind().SetGroupVersionKind(d.Kind)
			var buffer bytes.Buffer
			if err := proto.Encode(obj, &buffer); err != nil {
				t.Fatalf("%s: encode protobuf: %v", name, err)
			}
			back, _, err := proto.Decode(buffer.Bytes(), nil, d.New())
			if err != nil {
				t.Fatalf("%s: decode protobuf: %v", name, err)
			}
			sameJSON(t, name, obj, back)
		}
	})
}

func sameJSON(t *testing.T, name string, want, got runtime.Object) {
	t.Helper()
	a, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got.GetObjectKind().SetGroupVersionKind(want.GetObjectKind().GroupVersionKind())
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("%s: came back as\n%s\nwant\n%s", name, b, a)
	}
}

// TestEveryKindFileIsListed finds the constructors in the group directories.
func TestEveryKindFileIsListed(t *testing.T) {
	t.Parallel()
	registry, err := os.ReadFile("registry.go")
	if err != nil {
		t.Fatal(err)
	}
	constructor := regexp.MustCompile(`(?m)^func (\w+)\(\) \*(?:resource|definition)\.Definition`)
	files, err := filepath.Glob("*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range constructor.FindAllSubmatch(source, -1) {
			found++
			line := fmt.Sprintf("%s.%s(),", filepath.Dir(file), match[1])
			if !bytes.Contains(registry, []byte(line)) {
				t.Errorf("%s is not in registry.go", line)
			}
		}
	}
	if found != len(Registry()) {
		t.Errorf("%d constructors for %d entries", found, len(Registry()))
	}
}

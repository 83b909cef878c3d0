package openapi

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/validation/spec"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
)

// Formats of values that may be of two JSON types.
const (
	formatIntOrString = "int-or-string"
	formatQuantity    = "quantity" // only between v2 and v3, see convert
)

var oneOf = map[string][]string{
	formatIntOrString: {"integer", "string"},
	formatQuantity:    {"string", "number"},
}

// builder collects the schemas that the described resources refer to.
type builder struct {
	definitions spec.Definitions
	// lists knows how lists and maps are merged (list-type markers), which the
	// Go types do not say.
	lists *smd.Schema
}

func newBuilder() (*builder, error) {
	// Any typed value carries the schema of all types of client-go's parser.
	value, err := applyconfigurations.NewTypeConverter(scheme.Scheme).ObjectToTyped(&corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}})
	if err != nil {
		return nil, fmt.Errorf("read merge schema: %w", err)
	}
	return &builder{definitions: spec.Definitions{}, lists: value.Schema()}, nil
}

// named types know their name in the document.
type named interface{ OpenAPIModelName() string }

// scalar types are written as one JSON value.
type scalar interface {
	OpenAPISchemaType() []string
	OpenAPISchemaFormat() string
}

// documented types carry their fields' descriptions; the description of the
// type itself is under "".
type documented interface{ SwaggerDoc() map[string]string }

// ref returns a reference to the schema of a type, describing it if need be.
func (b *builder) ref(t reflect.Type) spec.Schema {
	name := modelName(t)
	if _, done := b.definitions[name]; !done {
		b.definitions[name] = spec.Schema{} // types refer to themselves
		b.definitions[name] = b.describe(t, name)
	}
	return *spec.RefSchema("#/definitions/" + name)
}

// kind is ref, and marks the schema as that of an API kind.
func (b *builder) kind(obj runtime.Object, kinds ...schema.GroupVersionKind) spec.Schema {
	t := reflect.TypeOf(obj).Elem()
	ref := b.ref(t)
	s := b.definitions[modelName(t)]
	marks, _ := s.Extensions[extensionKind].([]any)
	for _, k := range kinds {
		mark := map[string]any{"group": k.Group, "version": k.Version, "kind": k.Kind}
		if !slices.ContainsFunc(marks, func(m any) bool { return reflect.DeepEqual(m, mark) }) {
			marks = append(marks, mark)
		}
	}
	if s.Extensions == nil {
		s.Extensions = spec.Extensions{}
	}
	s.Extensions[extensionKind] = marks
	b.definitions[modelName(t)] = s
	return ref
}

// modelName is the name upstream gives the type, or the Go package path with
// dots for types without one.
func modelName(t reflect.Type) string {
	if n, ok := reflect.Zero(t).Interface().(named); ok {
		return n.OpenAPIModelName()
	}
	return strings.NewReplacer("/", ".", "k8s.io", "io.k8s").Replace(t.PkgPath()) + "." + t.Name()
}

func (b *builder) describe(t reflect.Type, name string) spec.Schema {
	var s spec.Schema
	docs := map[string]string{}
	if d, ok := reflect.Zero(t).Interface().(documented); ok {
		docs = d.SwaggerDoc()
	}
	s.Description = docs[""]
	zero := reflect.Zero(t).Interface()
	if v, ok := zero.(scalar); ok {
		s.Type, s.Format = v.OpenAPISchemaType(), v.OpenAPISchemaFormat()
		if _, two := zero.(interface{ OpenAPIV3OneOfTypes() []string }); two && s.Format == "" {
			s.Format = formatQuantity
		}
		return s
	}
	s.Type = spec.StringOrArray{"object"}
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[runtime.RawExtension]() {
		return s
	}
	b.fields(&s, t, name, docs)
	return s
}

// fields adds the properties of a struct; embedded structs count as its own.
func (b *builder) fields(s *spec.Schema, t reflect.Type, name string, docs map[string]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "-" {
			continue
		}
		if inline := strings.Contains(options, "inline") || f.Anonymous && tag == ""; inline {
			own := map[string]string{}
			if d, ok := reflect.Zero(f.Type).Interface().(documented); ok {
				own = d.SwaggerDoc()
			}
			b.fields(s, f.Type, name, own)
			continue
		}
		property := b.field(f.Type)
		if doc := docs[tag]; doc != "" {
			property = withDescription(property, doc)
		}
		b.markMerge(&property, f, name, tag)
		s.SetProperty(tag, property)
		if !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") && f.Type.Kind() != reflect.Pointer {
			s.AddRequired(tag)
		}
	}
}

// withDescription describes a property. Beside a reference the text stands as
// upstream's v2 document has it; the conversion to v3 wraps both in allOf.
func withDescription(property spec.Schema, doc string) spec.Schema {
	property.Description = doc
	return property
}

func (b *builder) field(t reflect.Type) spec.Schema {
	switch t.Kind() {
	case reflect.Pointer:
		return b.field(t.Elem())
	case reflect.Struct:
		return b.ref(t)
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return *spec.StrFmtProperty("byte")
		}
		item := b.field(t.Elem())
		return *spec.ArrayProperty(&item)
	case reflect.Map:
		value := b.field(t.Elem())
		return *spec.MapProperty(&value)
	case reflect.String:
		return *spec.StringProperty()
	case reflect.Bool:
		return *spec.BoolProperty()
	case reflect.Int64, reflect.Int, reflect.Uint64, reflect.Uint32:
		return *spec.Int64Property()
	case reflect.Int32, reflect.Int16, reflect.Int8, reflect.Uint16, reflect.Uint8:
		return *spec.Int32Property()
	case reflect.Float64, reflect.Float32:
		return *spec.Float64Property()
	}
	return spec.Schema{} // an interface: anything
}

// Extensions of the document.
const (
	extensionKind      = "x-kubernetes-group-version-kind"
	extensionAction    = "x-kubernetes-action"
	extensionStrategy  = "x-kubernetes-patch-strategy"
	extensionMergeKey  = "x-kubernetes-patch-merge-key"
	extensionListType  = "x-kubernetes-list-type"
	extensionListKeys  = "x-kubernetes-list-map-keys"
	extensionMapType   = "x-kubernetes-map-type"
	listTypeAtomic     = "atomic"
	listTypeAssociated = "map"
	listTypeSet        = "set"
)

// markMerge says how the field is merged by strategic patches (struct tags)
// and by server-side apply (the merge schema).
func (b *builder) markMerge(property *spec.Schema, f reflect.StructField, model, tag string) {
	if strategy := f.Tag.Get("patchStrategy"); strategy != "" {
		property.AddExtension(extensionStrategy, strategy)
	}
	if key := f.Tag.Get("patchMergeKey"); key != "" {
		property.AddExtension(extensionMergeKey, key)
	}
	def, ok := b.lists.FindNamedType(model)
	if !ok || def.Map == nil {
		return
	}
	field, ok := def.Map.FindField(tag)
	if !ok {
		return
	}
	atom, ok := b.lists.Resolve(field.Type)
	if !ok {
		return
	}
	if list := atom.List; list != nil {
		switch {
		case list.ElementRelationship == smd.Atomic:
			property.AddExtension(extensionListType, listTypeAtomic)
		case len(list.Keys) > 0:
			property.AddExtension(extensionListType, listTypeAssociated)
			property.AddExtension(extensionListKeys, list.Keys)
		default:
			property.AddExtension(extensionListType, listTypeSet)
		}
	}
	if m := atom.Map; m != nil && m.ElementRelationship == smd.Atomic {
		property.AddExtension(extensionMapType, listTypeAtomic)
	}
}

package codec

import (
	"fmt"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// Source encodes stored items of one kind as they are served. It is built
// once per kind and safe for concurrent use.
type Source struct {
	kind     schema.GroupVersionKind
	listKind schema.GroupVersionKind
	newList  func() runtime.Object
	newOne   func() runtime.Object
	from     func(runtime.Object) runtime.Object
	columns  []metav1.TableColumnDefinition
	row      func(runtime.Object, metav1.Time) []any
	// keys of encodings kept with items and events, by format.
	bareKey, partialKey [CBOR + 1]string
}

// NewSource returns the Source of a definition.
func NewSource(d *resource.Definition) *Source {
	s := &Source{
		kind:     d.Kind,
		listKind: d.Kind.GroupVersion().WithKind(d.Kind.Kind + "List"),
		newList:  d.NewList,
		newOne:   d.New,
		columns:  d.Columns,
		row:      d.Row,
	}
	if d.Stored != nil {
		s.from = d.Stored.From
	}
	if s.row == nil {
		s.columns, s.row = defaultColumns, defaultRow
	}
	for f := JSON; f <= CBOR; f++ {
		s.bareKey[f] = "bare/" + strconv.Itoa(int(f)) + "/" + d.Kind.String()
		s.partialKey[f] = "partial/" + strconv.Itoa(int(f))
	}
	return s
}

// Kind is the kind served.
func (s *Source) Kind() schema.GroupVersionKind { return s.kind }

// Object returns an item's object as served. It is shared and read-only.
func (s *Source) Object(item *store.Item) runtime.Object {
	if s.from == nil {
		return item.Object
	}
	return s.from(item.Object)
}

// Encode returns one item in the negotiated shape. now ages tables.
func (s *Source) Encode(a Accepted, item *store.Item, include metav1.IncludeObjectPolicy) ([]byte, error) {
	switch a.Transform {
	case AsTable:
		return s.encodeTable(a, []*store.Item{item}, metav1.ListMeta{ResourceVersion: item.Object.GetResourceVersion()}, include, true)
	case AsPartial:
		bare, err := s.partial(a.Format, item)
		if err != nil {
			return nil, err
		}
		return s.finish(a.Format, bare, metaKind("PartialObjectMetadata"), func() runtime.Object { return partialOf(item.Object) })
	}
	bare, err := s.bare(a.Format, item)
	if err != nil {
		return nil, err
	}
	return s.finish(a.Format, bare, s.kind, func() runtime.Object { return s.Object(item) })
}

// finish turns a kept bare encoding into a full one.
func (s *Source) finish(f Format, bare []byte, kind schema.GroupVersionKind, obj func() runtime.Object) ([]byte, error) {
	switch f {
	case Protobuf:
		return envelope(bare, kind)
	case JSON:
		return append(jsonWithKind(bare, kind), '\n'), nil
	}
	return Encode(f, obj(), kind)
}

// bare returns the item's encoding without kind (JSON and protobuf); other
// formats are rare and not kept.
func (s *Source) bare(f Format, item *store.Item) ([]byte, error) {
	switch f {
	case JSON, YAML:
		return item.Encoded(s.bareKey[JSON], func() ([]byte, error) { return bareJSON(s.Object(item)) })
	case Protobuf:
		return item.Encoded(s.bareKey[Protobuf], func() ([]byte, error) { return bareProtobuf(s.Object(item)) })
	}
	return nil, nil
}

func (s *Source) partial(f Format, item *store.Item) ([]byte, error) {
	switch f {
	case JSON, YAML:
		return item.Encoded(s.partialKey[JSON], func() ([]byte, error) { return bareJSON(partialOf(item.Object)) })
	case Protobuf:
		return item.Encoded(s.partialKey[Protobuf], func() ([]byte, error) { return bareProtobuf(partialOf(item.Object)) })
	}
	return nil, nil
}

// partialOf returns obj's metadata. It shares maps and slices with obj.
func partialOf(obj metav1.Object) *metav1.PartialObjectMetadata {
	out := &metav1.PartialObjectMetadata{}
	out.SetGroupVersionKind(metaKind("PartialObjectMetadata"))
	if accessor, ok := obj.(metav1.ObjectMetaAccessor); ok {
		if m, ok := accessor.GetObjectMeta().(*metav1.ObjectMeta); ok {
			out.ObjectMeta = *m
		}
	}
	return out
}

func unsupported(f Format, what string) error {
	return fmt.Errorf("encode %s: format %s is not supported", what, f.MediaType())
}

package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/skeg-dev/skeg/apiserver/store"
)

// Protobuf tags of every API list (1 metadata, 2 items) and of
// runtime.Unknown (1 typeMeta, 2 raw), all length-delimited.
const (
	tagFirst  = 0x0a
	tagSecond = 0x12
)

// EncodeList returns a list in the negotiated shape, in pieces that are to be
// sent one after another. Pieces are shared and read-only.
func (s *Source) EncodeList(a Accepted, items []*store.Item, m metav1.ListMeta, include metav1.IncludeObjectPolicy) ([][]byte, error) {
	kind, bare := s.listKind, s.bare
	if a.Transform == AsPartial {
		kind, bare = metaKind("PartialObjectMetadataList"), s.partialWithKind
	}
	switch {
	case a.Transform == AsTable:
		body, err := s.encodeTable(a, items, m, include, true)
		return [][]byte{body}, err
	case a.Format == Protobuf:
		return listProtobuf(kind, items, m, bare)
	case a.Format == JSON:
		return listJSON(kind, items, m, bare)
	case a.Format == YAML:
		parts, err := listJSON(kind, items, m, bare)
		if err != nil {
			return nil, err
		}
		out, err := yaml.JSONToYAML(bytes.Join(parts, nil))
		if err != nil {
			return nil, fmt.Errorf("convert list to YAML: %w", err)
		}
		return [][]byte{out}, nil
	}
	body, err := s.listTyped(a, items, m)
	return [][]byte{body}, err
}

// partialWithKind is partial with the kind inside, which clients expect on
// the items of a PartialObjectMetadataList in JSON.
func (s *Source) partialWithKind(f Format, item *store.Item) ([]byte, error) {
	bare, err := s.partial(f, item)
	if err != nil || f == Protobuf {
		return bare, err
	}
	return jsonWithKind(bare, metaKind("PartialObjectMetadata")), nil
}

type bareEncoder func(Format, *store.Item) ([]byte, error)

func listJSON(kind schema.GroupVersionKind, items []*store.Item, m metav1.ListMeta, bare bareEncoder) ([][]byte, error) {
	head, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode list metadata: %w", err)
	}
	apiVersion, name := kind.ToAPIVersionAndKind()
	parts := make([][]byte, 0, 2*len(items)+2)
	parts = append(parts, fmt.Appendf(nil, `{"kind":%q,"apiVersion":%q,"metadata":%s,"items":[`, name, apiVersion, head))
	comma := []byte{','}
	for i, item := range items {
		if i > 0 {
			parts = append(parts, comma)
		}
		b, err := bare(JSON, item)
		if err != nil {
			return nil, err
		}
		parts = append(parts, b)
	}
	return append(parts, []byte("]}\n")), nil
}

func listProtobuf(kind schema.GroupVersionKind, items []*store.Item, m metav1.ListMeta, bare bareEncoder) ([][]byte, error) {
	head, err := m.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode list metadata: %w", err)
	}
	parts := make([][]byte, 1, 2*len(items)+2)
	parts = append(parts, delimited(tagFirst, len(head)), head)
	rawSize := len(parts[1]) + len(head)
	for _, item := range items {
		b, err := bare(Protobuf, item)
		if err != nil {
			return nil, err
		}
		prefix := delimited(tagSecond, len(b))
		rawSize += len(prefix) + len(b)
		parts = append(parts, prefix, b)
	}
	apiVersion, name := kind.ToAPIVersionAndKind()
	typeMeta, err := (&runtime.TypeMeta{APIVersion: apiVersion, Kind: name}).Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode list kind: %w", err)
	}
	first := append([]byte(nil), protobufMagic...)
	first = append(first, delimited(tagFirst, len(typeMeta))...)
	first = append(first, typeMeta...)
	parts[0] = append(first, delimited(tagSecond, rawSize)...)
	return parts, nil
}

func delimited(tag byte, size int) []byte {
	return binary.AppendUvarint([]byte{tag}, uint64(size))
}

func (s *Source) listTyped(a Accepted, items []*store.Item, m metav1.ListMeta) ([]byte, error) {
	objects := make([]runtime.Object, 0, len(items))
	list, kind := s.newList(), s.listKind
	if a.Transform == AsPartial {
		list, kind = &metav1.PartialObjectMetadataList{}, metaKind("PartialObjectMetadataList")
	}
	for _, item := range items {
		if a.Transform == AsPartial {
			objects = append(objects, partialOf(item.Object))
		} else {
			objects = append(objects, withKind(s.Object(item), schema.GroupVersionKind{}))
		}
	}
	if err := meta.SetList(list, objects); err != nil {
		return nil, fmt.Errorf("build %s: %w", kind.Kind, err)
	}
	accessor, err := meta.ListAccessor(list)
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", kind.Kind, err)
	}
	accessor.SetResourceVersion(m.ResourceVersion)
	accessor.SetContinue(m.Continue)
	accessor.SetRemainingItemCount(m.RemainingItemCount)
	return Encode(a.Format, list, kind)
}

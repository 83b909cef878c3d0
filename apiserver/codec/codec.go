// Package codec turns HTTP bodies into API objects and back: negotiation of
// the media type, strict decoding, encoding of objects, lists, tables and
// watch frames, gzip and Status errors. Lists and watch frames are put
// together from encodings that the store keeps, so an object is encoded once
// for all who read it. It is called by handlers, filters and discovery, and
// starts no goroutines.
package codec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	cbordirect "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/watch"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// Format is a serialization.
type Format uint8

// The formats. The zero value is JSON, which is also the default on the wire.
const (
	JSON Format = iota
	YAML
	Protobuf
	CBOR
)

// Media types of the formats.
const (
	MediaJSON     = "application/json"
	MediaYAML     = "application/yaml"
	MediaProtobuf = "application/vnd.kubernetes.protobuf"
	MediaCBOR     = "application/cbor"
	mediaCBORSeq  = "application/cbor-seq"
)

var mediaTypes = [...]string{JSON: MediaJSON, YAML: MediaYAML, Protobuf: MediaProtobuf, CBOR: MediaCBOR}

// MediaType returns the format's Content-Type.
func (f Format) MediaType() string { return mediaTypes[f] }

// Scheme knows every built-in kind. It is complete before main starts and
// read-only.
var Scheme = clientscheme.Scheme

var cborSerializer = cbor.NewSerializer(Scheme, Scheme, cbor.Transcode(false))

// protobufMagic starts every protobuf-encoded object: "k8s" and a zero byte
// (apimachinery, runtime/serializer/protobuf).
var protobufMagic = []byte{'k', '8', 's', 0}

// protoMarshaler is what generated API types implement.
type protoMarshaler interface {
	Marshal() ([]byte, error)
}

// Encode returns obj in a format, as kind gvk. obj is not changed and may be
// shared.
func Encode(f Format, obj runtime.Object, gvk schema.GroupVersionKind) ([]byte, error) {
	switch f {
	case Protobuf:
		raw, err := bareProtobuf(obj)
		if err != nil {
			return nil, err
		}
		return envelope(raw, gvk)
	case CBOR:
		var buf bytes.Buffer
		if err := cborSerializer.Encode(withKind(obj, gvk), &buf); err != nil {
			return nil, fmt.Errorf("encode %s as CBOR: %w", gvk.Kind, err)
		}
		return buf.Bytes(), nil
	}
	bare, err := bareJSON(obj)
	if err != nil {
		return nil, err
	}
	full := append(jsonWithKind(bare, gvk), '\n')
	if f == YAML {
		out, err := yaml.JSONToYAML(full)
		if err != nil {
			return nil, fmt.Errorf("convert %s to YAML: %w", gvk.Kind, err)
		}
		return out, nil
	}
	return full, nil
}

// bareJSON encodes obj without kind and apiVersion.
func bareJSON(obj runtime.Object) ([]byte, error) {
	out, err := json.Marshal(withKind(obj, schema.GroupVersionKind{}))
	if err != nil {
		return nil, fmt.Errorf("encode as JSON: %w", err)
	}
	return out, nil
}

// bareProtobuf encodes obj without the envelope; kind and apiVersion are no
// part of that.
func bareProtobuf(obj runtime.Object) ([]byte, error) {
	m, ok := obj.(protoMarshaler)
	if !ok {
		return nil, fmt.Errorf("encode %T as protobuf: the type has no protobuf form", obj)
	}
	out, err := m.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode as protobuf: %w", err)
	}
	return out, nil
}

func envelope(raw []byte, gvk schema.GroupVersionKind) ([]byte, error) {
	apiVersion, kind := gvk.ToAPIVersionAndKind()
	unknown := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: apiVersion, Kind: kind}, Raw: raw}
	size := unknown.Size()
	out := make([]byte, len(protobufMagic)+size)
	copy(out, protobufMagic)
	if _, err := unknown.MarshalToSizedBuffer(out[len(protobufMagic):]); err != nil {
		return nil, fmt.Errorf("encode protobuf envelope: %w", err)
	}
	return out, nil
}

// jsonWithKind puts kind and apiVersion in front of a bare JSON object.
func jsonWithKind(bare []byte, gvk schema.GroupVersionKind) []byte {
	apiVersion, kind := gvk.ToAPIVersionAndKind()
	if kind == "" {
		return bytes.Clone(bare)
	}
	out := make([]byte, 0, len(bare)+len(kind)+len(apiVersion)+32)
	out = append(out, `{"kind":"`...)
	out = append(out, kind...)
	out = append(out, `","apiVersion":"`...)
	out = append(out, apiVersion...)
	out = append(out, '"')
	if len(bare) > 2 {
		out = append(out, ',')
	}
	return append(out, bare[1:]...)
}

// withKind returns obj with kind and apiVersion set. When they differ it is a
// shallow copy, since obj may be shared.
func withKind(obj runtime.Object, gvk schema.GroupVersionKind) runtime.Object {
	if obj.GetObjectKind().GroupVersionKind() == gvk {
		return obj
	}
	v := reflect.ValueOf(obj)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return obj
	}
	c := reflect.New(v.Elem().Type())
	c.Elem().Set(v.Elem())
	out, ok := c.Interface().(runtime.Object)
	if !ok {
		return obj
	}
	out.GetObjectKind().SetGroupVersionKind(gvk)
	return out
}

// StatusKind is the kind of metav1.Status on the wire.
var StatusKind = schema.GroupVersionKind{Version: "v1", Kind: "Status"}

// metaKind names a kind of meta.k8s.io/v1.
func metaKind(kind string) schema.GroupVersionKind {
	return metav1.SchemeGroupVersion.WithKind(kind)
}

// cborFrame encodes one watch event of a CBOR sequence around an encoded object.
func cborFrame(t watch.EventType, body []byte) ([]byte, error) {
	event := &metav1.WatchEvent{Type: string(t), Object: runtime.RawExtension{Raw: body}}
	out, err := cbordirect.Marshal(event)
	if err != nil {
		return nil, fmt.Errorf("encode watch event as CBOR: %w", err)
	}
	return out, nil
}

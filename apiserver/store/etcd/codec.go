package etcd

import (
	"bytes"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
)

// Codec converts objects of one kind to and from stored bytes. Safe for
// concurrent use.
type Codec interface {
	// Encode returns the bytes of obj, on which it may set the kind. Equal
	// objects give equal bytes.
	Encode(obj runtime.Object) ([]byte, error)
	// Decode fills into, which is empty, and leaves its kind empty when it is a
	// typed object. canonical is false when Encode would write another format.
	Decode(data []byte, into runtime.Object) (canonical bool, err error)
}

// protobufMagic opens a protobuf value
// (https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding).
var protobufMagic = []byte("k8s\x00")

// typedCodec writes protobuf and reads protobuf and JSON.
type typedCodec struct {
	kind     schema.GroupVersionKind
	protobuf *protobuf.Serializer
	json     *json.Serializer
}

// NewCodec returns the codec of an object of client-go's scheme: protobuf in
// the "k8s\0" envelope when written, JSON too when read.
func NewCodec(obj runtime.Object) (Codec, error) {
	scheme := clientscheme.Scheme
	kinds, _, err := scheme.ObjectKinds(obj)
	if err != nil {
		return nil, fmt.Errorf("find kind of %T: %w", obj, err)
	}
	return &typedCodec{
		kind:     kinds[0],
		protobuf: protobuf.NewSerializer(scheme, scheme),
		json:     json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{}),
	}, nil
}

// Encode sets obj's kind and returns its protobuf envelope.
func (c *typedCodec) Encode(obj runtime.Object) ([]byte, error) {
	obj.GetObjectKind().SetGroupVersionKind(c.kind)
	var b bytes.Buffer
	if err := c.protobuf.Encode(obj, &b); err != nil {
		return nil, fmt.Errorf("encode protobuf: %w", err)
	}
	return b.Bytes(), nil
}

// Decode reads protobuf or JSON into an empty object.
func (c *typedCodec) Decode(data []byte, into runtime.Object) (bool, error) {
	isProtobuf := bytes.HasPrefix(data, protobufMagic)
	var out runtime.Object
	var kind *schema.GroupVersionKind
	var err error
	if isProtobuf {
		out, kind, err = c.protobuf.Decode(data, nil, into)
	} else {
		out, kind, err = c.json.Decode(data, nil, into)
	}
	if err != nil {
		return false, fmt.Errorf("decode value: %w", err)
	}
	if out != into {
		return false, fmt.Errorf("decode value: it holds %v, not %v", kind, c.kind)
	}
	into.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return isProtobuf, nil
}

package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	cbordirect "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"sigs.k8s.io/yaml"
)

// MaxBodyBytes bounds a request body (upstream's resource request limit).
const MaxBodyBytes = 3 * 1024 * 1024

// decoders of one format: lenient and strict.
type decoders struct{ lenient, strict runtime.Decoder }

var bodyDecoders = map[Format]decoders{
	JSON:     jsonDecoders(false),
	YAML:     jsonDecoders(true),
	Protobuf: {protobuf.NewSerializer(Scheme, Scheme), protobuf.NewSerializer(Scheme, Scheme)},
	CBOR:     {cbor.NewSerializer(Scheme, Scheme), cbor.NewSerializer(Scheme, Scheme, cbor.Strict(true))},
}

func jsonDecoders(isYAML bool) decoders {
	build := func(strict bool) runtime.Decoder {
		return kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, Scheme, Scheme,
			kjson.SerializerOptions{Yaml: isYAML, Strict: strict})
	}
	return decoders{lenient: build(false), strict: build(true)}
}

// ReadBody reads a request's body up to the limit; a longer one is a 413.
func ReadBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	limited := &io.LimitedReader{R: r.Body, N: MaxBodyBytes + 1}
	body, err := io.ReadAll(limited)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("read request body: %v", err))
	}
	if limited.N <= 0 {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", MaxBodyBytes))
	}
	return body, nil
}

// BodyFormat returns the format of a request's body from its Content-Type;
// no header means JSON. The error is a 415 Status.
func BodyFormat(r *http.Request) (Format, error) {
	header := r.Header.Get("Content-Type")
	if header == "" {
		return JSON, nil
	}
	media, _, err := mime.ParseMediaType(header)
	if err == nil {
		switch media {
		case MediaJSON:
			return JSON, nil
		case MediaYAML, "application/x-yaml", "text/yaml":
			return YAML, nil
		case MediaProtobuf:
			return Protobuf, nil
		case MediaCBOR:
			return CBOR, nil
		}
	}
	return JSON, NewUnsupportedMediaType(MediaJSON, MediaYAML, MediaProtobuf, MediaCBOR)
}

// Decode decodes body into a new object of kind gvk. validation is the
// request's fieldValidation ("" means Warn); warn receives what Warn reports.
// Errors are API status errors. The answer has no kind and apiVersion set.
func Decode(f Format, body []byte, gvk schema.GroupVersionKind, into runtime.Object, validation string, warn func(string)) (runtime.Object, error) {
	d := bodyDecoders[f]
	decoder := d.strict
	if validation == metav1.FieldValidationIgnore {
		decoder = d.lenient
	}
	obj, actual, err := decoder.Decode(body, &gvk, into)
	if strict, ok := runtime.AsStrictDecodingError(err); ok && err != nil {
		if validation == metav1.FieldValidationStrict {
			return nil, apierrors.NewBadRequest(unhandled(actual, gvk, err))
		}
		for _, e := range strict.Errors() {
			warn(e.Error())
		}
		err = nil
	}
	if actual != nil && actual.GroupVersion() != gvk.GroupVersion() {
		return nil, apierrors.NewBadRequest(fmt.Sprintf(
			"the API version in the data (%s) does not match the expected API version (%s)",
			actual.GroupVersion(), gvk.GroupVersion()))
	}
	if err != nil {
		return nil, decodeError(err, body, actual, gvk)
	}
	if actual.Kind != gvk.Kind {
		return nil, apierrors.NewBadRequest(unhandled(actual, gvk,
			fmt.Errorf("the kind in the data (%s) does not match the expected kind (%s)", actual.Kind, gvk.Kind)))
	}
	obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return obj, nil
}

func unhandled(actual *schema.GroupVersionKind, want schema.GroupVersionKind, err error) string {
	kind, version := want.Kind, want.Version
	if actual != nil && actual.Kind != "" {
		kind, version = actual.Kind, actual.Version
	}
	return fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", kind, version, want.Kind, err)
}

func decodeError(err error, body []byte, actual *schema.GroupVersionKind, want schema.GroupVersionKind) error {
	if actual != nil && actual.Kind != "" {
		return apierrors.NewBadRequest(unhandled(actual, want, err))
	}
	return apierrors.NewBadRequest(fmt.Sprintf(
		"the object provided is unrecognized (must be of type %s): %v (%s)", want.Kind, err, summary(body)))
}

// summary shows the start of a body that made no sense, in hex as upstream
// does for whatever is not printable text.
func summary(body []byte) string {
	const limit = 30
	if len(body) == 0 {
		return "<empty>"
	}
	if len(body) > limit {
		return fmt.Sprintf("%x ...", body[:limit])
	}
	return fmt.Sprintf("%x", body)
}

// DecodeOptions decodes a body into options (DeleteOptions), whose kind is
// registered in every group and therefore not checked. An empty body leaves
// them as they are.
func DecodeOptions(f Format, body []byte, into *metav1.DeleteOptions) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	if f == Protobuf {
		return decodeProtobufOptions(body, into)
	}
	var err error
	if f == CBOR {
		err = cbordirect.Unmarshal(body, into)
	} else {
		err = yaml.Unmarshal(body, into) // JSON is YAML
	}
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("decode DeleteOptions: %v (%s)", err, summary(body)))
	}
	if into.Kind != "" && into.Kind != "DeleteOptions" {
		return apierrors.NewBadRequest(fmt.Sprintf("decoded object cannot be converted to DeleteOptions: %s", into.Kind))
	}
	return nil
}

func decodeProtobufOptions(body []byte, into *metav1.DeleteOptions) error {
	raw, ok := bytes.CutPrefix(body, protobufMagic)
	if !ok {
		return apierrors.NewBadRequest("decode DeleteOptions: provided data does not appear to be a protobuf message, expected prefix")
	}
	var unknown runtime.Unknown
	err := unknown.Unmarshal(raw)
	if err == nil && unknown.Kind != "DeleteOptions" {
		err = errors.New("decoded object is a " + unknown.Kind)
	}
	if err == nil {
		err = into.Unmarshal(unknown.Raw)
	}
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("decode DeleteOptions: %v", err))
	}
	return nil
}

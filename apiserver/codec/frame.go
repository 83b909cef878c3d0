package codec

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skeg-dev/skeg/apiserver/store"
)

// Frames encodes the events of one watch. It belongs to one goroutine; what
// it encodes is shared with other watches through the events.
type Frames struct {
	source   *Source
	accepted Accepted
	include  metav1.IncludeObjectPolicy
	headSent bool // table columns are sent with the first event only
	prefix   string
}

// Frames starts the encoding of a watch.
func (s *Source) Frames(a Accepted, include metav1.IncludeObjectPolicy) *Frames {
	return &Frames{
		source: s, accepted: a, include: include,
		prefix: "frame/" + strconv.Itoa(int(a.Format)) + "/" + strconv.Itoa(int(a.Transform)) + "/" + s.kind.String() + "/",
	}
}

// ContentType is the watch's Content-Type.
func (f *Frames) ContentType() string {
	switch f.accepted.Format {
	case Protobuf:
		return MediaProtobuf + ";stream=watch"
	case CBOR:
		return mediaCBORSeq
	case YAML:
		return MediaYAML + ";stream=watch"
	}
	return MediaJSON
}

// Item returns the frame of an item that is no event (initial state), shared
// with others through the item.
func (f *Frames) Item(t watch.EventType, item *store.Item) ([]byte, error) {
	if f.accepted.Transform == AsTable {
		return f.item(t, item)
	}
	return item.Encoded(f.prefix+string(t), func() ([]byte, error) { return f.item(t, item) })
}

// Event returns the frame of an event, outwardly of type t and showing item
// (the event's own, or its Previous with the event's revision).
func (f *Frames) Event(ev *store.Event, t watch.EventType, item *store.Item) ([]byte, error) {
	if f.accepted.Transform == AsTable {
		return f.item(t, item)
	}
	key := f.prefix + string(t)
	if item != ev.Item {
		key += "/previous"
	}
	return ev.Encoded(key, func() ([]byte, error) { return f.item(t, item) })
}

// Bookmark returns a bookmark frame at a revision. last marks the end of the
// initial events (KEP-3157).
func (f *Frames) Bookmark(revision string, last bool) ([]byte, error) {
	obj, kind := f.source.newOne(), f.source.kind
	switch f.accepted.Transform {
	case AsPartial:
		obj, kind = &metav1.PartialObjectMetadata{}, metaKind("PartialObjectMetadata")
	case AsTable:
		return f.tableBookmark(revision, last)
	}
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return nil, fmt.Errorf("build bookmark: %w", err)
	}
	accessor.SetResourceVersion(revision)
	if last {
		accessor.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	body, err := Encode(f.accepted.Format, obj, kind)
	if err != nil {
		return nil, err
	}
	return f.frame(watch.Bookmark, body)
}

func (f *Frames) tableBookmark(revision string, last bool) ([]byte, error) {
	marker := &metav1.PartialObjectMetadata{}
	marker.SetResourceVersion(revision)
	marker.SetGroupVersionKind(metaKind("PartialObjectMetadata"))
	if last {
		marker.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	table := &metav1.Table{ListMeta: metav1.ListMeta{ResourceVersion: revision}}
	table.Rows = []metav1.TableRow{{Cells: make([]any, len(f.source.columns)), Object: runtime.RawExtension{Object: marker}}}
	if !f.headSent {
		f.headSent = true
		table.ColumnDefinitions = f.source.columns
	}
	body, err := Encode(f.accepted.Format, table, tableKind(f.accepted))
	if err != nil {
		return nil, err
	}
	return f.frame(watch.Bookmark, body)
}

// Error returns an ERROR frame with a Status.
func (f *Frames) Error(err error) ([]byte, error) {
	body, encodeErr := Encode(f.accepted.Format, StatusOf(err), StatusKind)
	if encodeErr != nil {
		return nil, encodeErr
	}
	return f.frame(watch.Error, body)
}

func (f *Frames) item(t watch.EventType, item *store.Item) ([]byte, error) {
	var body []byte
	var err error
	if f.accepted.Transform == AsTable {
		m := metav1.ListMeta{ResourceVersion: item.Object.GetResourceVersion()}
		body, err = f.source.encodeTable(f.accepted, []*store.Item{item}, m, f.include, !f.headSent)
		f.headSent = true
	} else {
		body, err = f.source.Encode(f.accepted, item, f.include)
	}
	if err != nil {
		return nil, err
	}
	return f.frame(t, body)
}

// frame wraps an encoded object as one event on the wire: JSON lines,
// length-delimited protobuf WatchEvents, CBOR sequences, YAML documents.
func (f *Frames) frame(t watch.EventType, body []byte) ([]byte, error) {
	switch f.accepted.Format {
	case JSON:
		out := make([]byte, 0, len(body)+len(t)+24)
		out = append(out, `{"type":"`...)
		out = append(out, t...)
		out = append(out, `","object":`...)
		if n := len(body); n > 0 && body[n-1] == '\n' {
			body = body[:n-1]
		}
		out = append(out, body...)
		return append(out, '}', '\n'), nil
	case Protobuf:
		event := metav1.WatchEvent{Type: string(t), Object: runtime.RawExtension{Raw: body}}
		size := event.Size()
		out := make([]byte, 4+size)
		binary.BigEndian.PutUint32(out, uint32(size))
		if _, err := event.MarshalToSizedBuffer(out[4:]); err != nil {
			return nil, fmt.Errorf("encode watch event: %w", err)
		}
		return out, nil
	case CBOR:
		return cborFrame(t, body)
	}
	return nil, unsupported(f.accepted.Format, "watch event")
}

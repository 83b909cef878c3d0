package codec

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// gzipFromBytes is the size from which an answer is compressed when the
// client allows it; smaller ones fit the network better than the CPU
// (upstream uses the same bound, kubernetes/kubernetes#77449).
const gzipFromBytes = 128 * 1024

// gzipLevel is the fastest: the link is rarely slower than level 1.
const gzipLevel = gzip.BestSpeed

var gzipWriters = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzipLevel)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

// WriteObject answers with obj as kind gvk in the negotiated format.
func WriteObject(w http.ResponseWriter, r *http.Request, code int, a Accepted, obj runtime.Object, gvk schema.GroupVersionKind) {
	body, err := Encode(a.Format, obj, gvk)
	if err != nil {
		WriteError(w, r, err)
		return
	}
	WriteBody(w, r, code, a, body)
}

// WriteBody answers with an encoded body, indented and compressed as asked.
func WriteBody(w http.ResponseWriter, r *http.Request, code int, a Accepted, body []byte) {
	WriteParts(w, r, code, a, [][]byte{body})
}

// WriteParts is WriteBody for a body in pieces, which are sent without being
// joined.
func WriteParts(w http.ResponseWriter, r *http.Request, code int, a Accepted, parts [][]byte) {
	if a.Format == JSON && a.Pretty {
		parts = [][]byte{indent(bytes.Join(parts, nil))}
	}
	header := w.Header()
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", a.Format.MediaType())
	}
	header.Set("Cache-Control", "no-cache, private")
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	if size >= gzipFromBytes && acceptsGzip(r) && r.Method != http.MethodHead {
		writeGzip(w, code, parts)
		return
	}
	header.Set("Content-Length", strconv.Itoa(size))
	w.WriteHeader(code)
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return // the client left; there is nobody to tell
		}
	}
}

func writeGzip(w http.ResponseWriter, code int, parts [][]byte) {
	header := w.Header()
	header.Set("Content-Encoding", "gzip")
	header.Add("Vary", "Accept-Encoding")
	w.WriteHeader(code)
	z, ok := gzipWriters.Get().(*gzip.Writer)
	if !ok {
		return
	}
	defer gzipWriters.Put(z)
	z.Reset(w)
	for _, p := range parts {
		if _, err := z.Write(p); err != nil {
			return // as above
		}
	}
	if err := z.Close(); err != nil {
		return // as above
	}
}

func acceptsGzip(r *http.Request) bool {
	for clause := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(clause), ";")
		if name == "gzip" && strings.ReplaceAll(params, " ", "") != "q=0" {
			return true
		}
	}
	return false
}

func indent(body []byte) []byte {
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.TrimRight(body, "\n"), "", "  "); err != nil {
		return body
	}
	return out.Bytes()
}

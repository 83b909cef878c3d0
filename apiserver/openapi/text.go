package openapi

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/munnerz/goautoneg"
)

// format is one way in which a document is served.
type format struct {
	// asked are the media types that clients ask for, without "application/";
	// the first is the one answered.
	asked []string
	// encode makes it of JSON; nil means it is JSON.
	encode func(json []byte) ([]byte, error)
}

// text is a document in all its formats. It is built when somebody asks, and
// kept compressed: clients take it so, and the whole of it is otherwise larger
// than everything else in an idle server.
type text struct {
	tag     string
	formats []format
	build   func() ([]byte, error)

	mu     sync.Mutex        // guards zipped; held while building
	zipped map[string][]byte // by media type
}

func newText(tag string, build func() ([]byte, error), formats ...format) *text {
	return &text{tag: tag, build: build, formats: formats, zipped: map[string][]byte{}}
}

// get returns the compressed document.
func (t *text) get(f format) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := f.asked[0]
	if found, ok := t.zipped[name]; ok {
		return found, nil
	}
	plain, err := t.plain(f)
	if err != nil {
		return nil, err
	}
	buf := &bytes.Buffer{}
	zip := gzip.NewWriter(buf)
	if _, err := zip.Write(plain); err != nil {
		return nil, fmt.Errorf("compress document: %w", err)
	}
	if err := zip.Close(); err != nil {
		return nil, fmt.Errorf("compress document: %w", err)
	}
	t.zipped[name] = bytes.Clone(buf.Bytes())
	runtime.GC() // building leaves many times the result behind, and happens once
	return t.zipped[name], nil
}

// plain needs the lock.
func (t *text) plain(f format) ([]byte, error) {
	if f.encode == nil {
		return t.build()
	}
	var json []byte
	var err error
	if zipped, ok := t.zipped[t.formats[0].asked[0]]; ok {
		json, err = unzip(zipped)
	} else {
		json, err = t.build()
	}
	if err != nil {
		return nil, err
	}
	out, err := f.encode(json)
	if err != nil {
		return nil, fmt.Errorf("encode document: %w", err)
	}
	return out, nil
}

func unzip(zipped []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		return nil, fmt.Errorf("decompress document: %w", err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("decompress document: %w", err)
	}
	return plain, nil
}

// choose returns the format that the client likes best.
func (t *text) choose(accept string) (format, bool) {
	if accept == "" {
		accept = "*/*"
	}
	for _, clause := range goautoneg.ParseAccept(accept) {
		if clause.Type != "application" && clause.Type != "*" {
			continue
		}
		for _, f := range t.formats {
			for _, name := range f.asked {
				if clause.SubType == name || clause.SubType == "*" {
					return f, true
				}
			}
		}
	}
	return format{}, false
}

// ServeHTTP answers with the document.
func (t *text) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Add("Vary", "Accept")
	header.Add("Vary", "Accept-Encoding")
	f, ok := t.choose(r.Header.Get("Accept"))
	if !ok {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	// A URL with a hash is that of one version, and may be kept for ever.
	if hash := r.URL.Query().Get("hash"); hash != "" {
		if hash != t.tag {
			http.Redirect(w, r, r.URL.Path+"?hash="+url.QueryEscape(t.tag), http.StatusMovedPermanently)
			return
		}
		header.Set("Cache-Control", "public, immutable")
		header.Set("Expires", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
	}
	body, err := t.get(f)
	if err == nil && !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		body, err = unzip(body)
	} else if err == nil {
		header.Set("Content-Encoding", "gzip")
	}
	if err != nil {
		header.Del("Content-Encoding")
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	header.Set("Content-Type", "application/"+f.asked[0])
	header.Set("Etag", strconv.Quote(t.tag))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body)) // knows If-None-Match
}

package recipe

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Layer is a layer in the making: entries by their path, without a leading slash.
type Layer struct {
	entries map[string]*layerEntry
}

type layerEntry struct {
	header  tar.Header
	content []byte
}

// NewLayer returns an empty layer.
func NewLayer() *Layer { return &Layer{entries: map[string]*layerEntry{}} }

// Add puts a file into the layer, with its parent directories.
func (l *Layer) Add(name string, mode int64, content []byte) {
	l.put(tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(content))}, content)
}

// Dir adds a directory owned by a user.
func (l *Layer) Dir(name string, mode int64, uid int) {
	l.put(tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode, Uid: uid, Gid: uid}, nil)
}

// Link adds a symbolic link.
func (l *Layer) Link(name, target string) {
	l.put(tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}, nil)
}

func (l *Layer) put(h tar.Header, content []byte) {
	h.Name = strings.Trim(path.Clean("/"+h.Name), "/")
	if h.Name == "" {
		return
	}
	if h.ModTime.IsZero() {
		h.ModTime = time.Unix(0, 0)
	}
	for dir := path.Dir(h.Name); dir != "."; dir = path.Dir(dir) {
		if l.entries[dir] == nil {
			l.entries[dir] = &layerEntry{header: tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(0, 0)}}
		}
	}
	// The names of owners are the build machine's; numbers are meant.
	h.Uname, h.Gname, h.AccessTime, h.ChangeTime = "", "", time.Time{}, time.Time{}
	h.Format = tar.FormatPAX
	l.entries[h.Name] = &layerEntry{h, content}
}

// skipped parts of packages are of no use in an image.
var skipped = []string{
	"usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/lintian/", "usr/share/bug/",
	"usr/share/gcc/", "lib/systemd/", "etc/init.d/", "etc/logrotate.d/", "usr/lib/x86_64-linux-gnu/gconv/",
}

// Tar adds an archive's entries.
func (l *Layer) Tar(r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		clean := strings.Trim(path.Clean("/"+h.Name), "/")
		if slices.ContainsFunc(skipped, func(prefix string) bool { return strings.HasPrefix(clean+"/", prefix) }) {
			continue
		}
		content, err := io.ReadAll(t)
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		header := *h
		header.Name = clean
		if h.Typeflag == tar.TypeLink {
			header.Linkname = strings.Trim(path.Clean("/"+h.Linkname), "/")
		}
		l.put(header, content)
	}
}

// layer is the finished layer.
func (l *Layer) layer() (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(l.entries)) {
		e := l.entries[name]
		h := e.header
		if h.Typeflag == tar.TypeDir {
			h.Name += "/"
		}
		if err := w.WriteHeader(&h); err != nil {
			return nil, fmt.Errorf("write layer: %s: %w", name, err)
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, fmt.Errorf("write layer: %s: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
}

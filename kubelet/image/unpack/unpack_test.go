package unpack

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg && h.Size == 0 {
			h.Size = 1
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, strings.Repeat("x", int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

var small = Limits{Bytes: 1 << 20, Entries: 100}

// TestNothingOutside unpacks archives that try to leave their directory.
func TestNothingOutside(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("owners need root")
	}
	link := func(name, target string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
	}
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }
	for name, test := range map[string]struct {
		entries []tar.Header
		refused bool
	}{
		"dots":                {[]tar.Header{file("../out")}, true},
		"dots inside":         {[]tar.Header{file("a/../../out")}, true},
		"whiteout of dots":    {[]tar.Header{file(".wh...")}, true},
		"absolute":            {[]tar.Header{file("/out")}, false},
		"relative link":       {[]tar.Header{link("a", "../../../.."), file("a/out")}, false},
		"absolute link":       {[]tar.Header{link("a", "/.."), file("a/out")}, false},
		"link to be a parent": {[]tar.Header{link("a", ".."), file("a/b/out")}, false},
		"file through link":   {[]tar.Header{link("out", "../out"), file("out")}, false},
		"link over directory": {[]tar.Header{{Typeflag: tar.TypeDir, Name: "a", Mode: 0o755}, link("a", ".."), file("a/out")}, false},
		"hard link out":       {[]tar.Header{{Typeflag: tar.TypeLink, Name: "a", Linkname: "../secret"}}, true},
		"hard link by link":   {[]tar.Header{link("up", ".."), {Typeflag: tar.TypeLink, Name: "a", Linkname: "up/secret"}}, true},
		"unknown type":        {[]tar.Header{{Typeflag: 'Z', Name: "a"}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top := t.TempDir()
			dir := filepath.Join(top, "layer")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(top, "secret"), []byte("s"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Tar(t.Context(), bytes.NewReader(archive(t, test.entries...)), dir, small)
			if test.refused != errors.Is(err, ErrBad) {
				t.Errorf("error %v", err)
			}
			left, err := os.ReadDir(top)
			if err != nil || len(left) != 2 {
				t.Errorf("beside the layer: %v, %v", left, err)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("owners need root")
	}
	var many []tar.Header
	for range 101 {
		many = append(many, tar.Header{Typeflag: tar.TypeDir, Name: "d", Mode: 0o755})
	}
	for name, raw := range map[string][]byte{
		"entries": archive(t, many...),
		"bytes":   archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: 1<<20 + 1}),
		"padding": append(archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "f"}), make([]byte, 1<<21)...),
		"torn":    archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: 4000})[:2000],
	} {
		if _, err := Tar(t.Context(), bytes.NewReader(raw), t.TempDir(), small); !errors.Is(err, ErrBad) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReplacedEntries(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("owners need root")
	}
	dir := t.TempDir()
	when := time.Unix(1_600_000_000, 0)
	_, err := Tar(t.Context(), bytes.NewReader(archive(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o500, ModTime: when},
		tar.Header{Typeflag: tar.TypeReg, Name: "d/f", Mode: 0o644},
		tar.Header{Typeflag: tar.TypeDir, Name: "gone/sub/", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeReg, Name: "gone", Mode: 0o600},
		tar.Header{Typeflag: tar.TypeReg, Name: "x", Mode: 0o600, Size: 3},
		tar.Header{Typeflag: tar.TypeReg, Name: "x", Mode: 0o640, Size: 5},
	)), dir, small)
	if err != nil {
		t.Fatal(err)
	}
	d, err := os.Stat(filepath.Join(dir, "d"))
	if err != nil || d.Mode().Perm() != 0o500 || !d.ModTime().Equal(when) {
		t.Errorf("directory %v, %v", d, err)
	}
	if x, err := os.Stat(filepath.Join(dir, "x")); err != nil || x.Size() != 5 || x.Mode().Perm() != 0o640 {
		t.Errorf("file %v, %v", x, err)
	}
	if g, err := os.Stat(filepath.Join(dir, "gone")); err != nil || !g.Mode().IsRegular() {
		t.Errorf("file in the place of a directory: %v, %v", g, err)
	}
}

func FuzzTar(f *testing.F) {
	f.Add(archive(f, tar.Header{Typeflag: tar.TypeReg, Name: "f"}, tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "/"}))
	f.Add([]byte("no archive"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if os.Geteuid() != 0 {
			t.Skip("owners need root")
		}
		top := t.TempDir()
		dir := filepath.Join(top, "layer")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		r, err := Decompress(bytes.NewReader(raw))
		if err != nil {
			return
		}
		defer r.Close()
		_, _ = Tar(t.Context(), r, dir, small) // any error will do; leaving the directory will not
		if left, err := os.ReadDir(top); err != nil || len(left) != 1 {
			t.Errorf("beside the layer: %v, %v", left, err)
		}
	})
}

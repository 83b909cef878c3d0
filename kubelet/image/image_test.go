package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcrregistry "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

// entry is one tar entry of a test's layer.
type entry struct {
	name, body, link string
	kind             byte
	mode             int64
	uid              int
	pax              map[string]string
}

func layerOf(t *testing.T, entries ...entry) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Linkname: e.link, Size: int64(len(e.body)), Mode: e.mode, Uid: e.uid, Gid: e.uid,
			PAXRecords: e.pax, ModTime: time.Unix(1_700_000_000, 0), Format: tar.FormatPAX}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func imageOf(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.Config(img, v1.Config{
		Entrypoint: []string{"/bin/run"}, Cmd: []string{"it"}, Env: []string{"A=b"}, User: "web", WorkingDir: "/srv", StopSignal: "SIGINT",
	})
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

// server is a registry on loopback; with a password if one is set.
type server struct {
	host     string
	mu       sync.Mutex
	password string
	spoil    func(w http.ResponseWriter, r *http.Request) bool // answers instead
	blobs    map[string]int                                    // GETs
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{blobs: map[string]int{}}
	reg := ggcrregistry.New(ggcrregistry.Logger(discardLog()))
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		password, spoil := s.password, s.spoil
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			s.blobs[filepath.Base(r.URL.Path)]++
		}
		s.mu.Unlock()
		if _, given, _ := r.BasicAuth(); password != "" && given != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if spoil != nil && spoil(w, r) {
			return
		}
		reg.ServeHTTP(w, r)
	}))
	t.Cleanup(ts.Close)
	s.host = strings.TrimPrefix(ts.URL, "http://")
	return s
}

func (s *server) push(t *testing.T, ref string, img v1.Image) {
	t.Helper()
	parsed, err := name.ParseReference(s.host + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(parsed, img, remote.WithAuth(&authn.Basic{Username: "user", Password: s.password})); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T) *Store {
	t.Helper()
	return reopen(t, t.TempDir(), Config{})
}

func reopen(t *testing.T, root string, cfg Config) *Store {
	t.Helper()
	cfg.Root = root
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("owners, device nodes and mounts need root")
	}
}

func TestPullAndMount(t *testing.T) {
	t.Parallel()
	needRoot(t)
	reg := newServer(t)
	reg.push(t, "web:1", imageOf(t,
		layerOf(t,
			entry{name: "etc/", kind: tar.TypeDir}, entry{name: "etc/old", body: "lower"}, entry{name: "etc/kept", body: "kept"},
			entry{name: "etc/passwd", body: "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/:/bin/sh\n"},
			entry{name: "etc/group", body: "web:x:34:\nextra:x:50:web\n"},
			entry{name: "cache/", kind: tar.TypeDir}, entry{name: "cache/a", body: "a"},
			entry{name: "bin/run", body: "#!", mode: 0o4755, uid: 7},
			entry{name: "bin/same", kind: tar.TypeLink, link: "bin/run"},
			entry{name: "abs", kind: tar.TypeSymlink, link: "/etc"},
			entry{name: "abs/through", body: "the link"},
			entry{name: "null", kind: tar.TypeChar},
			entry{name: "pipe", kind: tar.TypeFifo},
			entry{name: "cap", body: "x", pax: map[string]string{"SCHILY.xattr.user.note": "hello"}},
		),
		layerOf(t, entry{name: "etc/.wh.old"}, entry{name: "cache/.wh..wh..opq"}, entry{name: "cache/b", body: "b"}),
	))
	s := open(t)
	ctx := t.Context()
	img, err := s.Pull(ctx, reg.host+"/web:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if img.Entrypoint[0] != "/bin/run" || img.Cmd[0] != "it" || img.Env[0] != "A=b" || img.User != "web" || img.WorkingDir != "/srv" ||
		img.StopSignal != "SIGINT" || img.SizeBytes == 0 || !strings.HasPrefix(img.Digest, reg.host+"/web@sha256:") || len(img.Names) != 2 {
		t.Errorf("image %+v", img)
	}
	for _, ref := range []string{reg.host + "/web:1", img.Digest, img.ID} {
		if got, there, err := s.Resolve(ctx, ref); err != nil || !there || got.ID != img.ID {
			t.Errorf("Resolve(%q): %+v, %v, %v", ref, got, there, err)
		}
	}
	rootfs, err := s.Mount(ctx, "pod_web_0", img.ID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Unmount(ctx, "pod_web_0"); err != nil {
			t.Error(err)
		}
	})
	if again, err := s.Mount(ctx, "pod_web_0", img.ID); err != nil || again != rootfs {
		t.Errorf("second Mount: %q, %v", again, err)
	}
	checkRootfs(t, rootfs)
	for spec, want := range map[string]string{"": "0:0[]", "web": "33:34[50]", "33": "33:34[50]", "1000": "1000:0[]", "1000:5": "1000:5[]", "web:extra": "33:50[]"} {
		u, err := s.ResolveUser(rootfs, spec)
		if got := text(u); err != nil || got != want {
			t.Errorf("ResolveUser(%q) = %s, %v; want %s", spec, got, err, want)
		}
	}
	if _, err := s.ResolveUser(rootfs, "nobody-here"); err == nil {
		t.Error("an unknown user was resolved")
	}
	if err := s.Remove(reg.host + "/web:1"); err != nil {
		t.Errorf("removing one of two names: %v", err)
	}
	if err := s.Remove(img.ID); !errors.Is(err, ErrInUse) {
		t.Errorf("removing an image in use: %v", err)
	}
}

func checkRootfs(t *testing.T, rootfs string) {
	t.Helper()
	for file, want := range map[string]string{"etc/kept": "kept", "cache/b": "b", "bin/same": "#!", "etc/through": "the link"} {
		if b, err := os.ReadFile(filepath.Join(rootfs, file)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", file, b, err)
		}
	}
	for _, file := range []string{"etc/old", "cache/a", "etc/.wh.old", "cache/.wh..wh..opq", "null"} {
		if _, err := os.Lstat(filepath.Join(rootfs, file)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there: %v", file, err)
		}
	}
	var run, same unix.Stat_t
	if err := errors.Join(unix.Stat(filepath.Join(rootfs, "bin/run"), &run), unix.Stat(filepath.Join(rootfs, "bin/same"), &same)); err != nil {
		t.Fatal(err)
	}
	if run.Ino != same.Ino || run.Mode&0o7777 != 0o4755 || run.Uid != 7 || run.Mtim.Sec != 1_700_000_000 {
		t.Errorf("bin/run is %+v", run)
	}
	note := make([]byte, 10)
	if n, err := unix.Getxattr(filepath.Join(rootfs, "cap"), "user.note", note); err != nil || string(note[:n]) != "hello" {
		t.Errorf("extended attribute %q, %v", note, err)
	}
	if err := os.WriteFile(filepath.Join(rootfs, "etc/kept"), []byte("changed"), 0o600); err != nil {
		t.Error(err)
	}
}

func TestPullErrors(t *testing.T) {
	t.Parallel()
	needRoot(t)
	good := layerOf(t, entry{name: "file", body: "content"})
	for name, test := range map[string]struct {
		ref, password string
		auth          []Credential
		layer         v1.Layer
		spoil         func(w http.ResponseWriter, r *http.Request) bool
		want          error
		text          string
	}{
		"no such tag":    {ref: "web:2", want: ErrNotFound, text: "web:2"},
		"no such image":  {ref: "nothing:1", want: ErrNotFound, text: "nothing:1"},
		"bad reference":  {ref: "Web:1:2", want: ErrInvalidReference, text: "Web"},
		"no password":    {ref: "web:1", password: "secret", want: ErrUnauthorized, text: "may require authorization"},
		"wrong password": {ref: "web:1", password: "secret", auth: []Credential{{Username: "user", Password: "wrong"}}, want: ErrUnauthorized},
		"second password": {ref: "web:1", password: "secret",
			auth: []Credential{{Username: "user", Password: "wrong"}, {Username: "user", Password: "secret"}}},
		"spoilt layer": {ref: "web:1", want: ErrDigestMismatch, text: "layer 0", spoil: spoilBlobs(t, good)},
		"climbing entry": {ref: "web:1", want: ErrUnpack, text: `"../../etc/passwd" climbs out`,
			layer: layerOf(t, entry{name: "../../etc/passwd", body: "x"})},
		"climbing hard link": {ref: "web:1", want: ErrUnpack, text: `hard link to "../../etc/passwd" climbs out`,
			layer: layerOf(t, entry{name: "innocent", kind: tar.TypeLink, link: "../../etc/passwd"})},
		"hard link to nothing": {ref: "web:1", want: ErrUnpack, text: `"nothing"`,
			layer: layerOf(t, entry{name: "innocent", kind: tar.TypeLink, link: "nothing"})},
		"too large": {ref: "web:1", want: ErrUnpack, text: "larger than",
			layer: layerOf(t, entry{name: "bomb", body: strings.Repeat("0", 2<<20)})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := newServer(t)
			reg.password = test.password
			layer := test.layer
			if layer == nil {
				layer = good
			}
			reg.push(t, "web:1", imageOf(t, layer))
			reg.mu.Lock()
			reg.spoil = test.spoil
			reg.mu.Unlock()
			root := t.TempDir()
			s := reopen(t, root, Config{})
			s.limits.Bytes = 1 << 20
			_, err := s.Pull(t.Context(), reg.host+"/"+test.ref, test.auth)
			if !errors.Is(err, test.want) || test.want != nil && !strings.Contains(err.Error(), test.text) {
				t.Errorf("error %v; want %v with %q", err, test.want, test.text)
			}
			if test.want == nil {
				return
			}
			for _, dir := range []string{"layers", "records", "tmp"} {
				if left, err := os.ReadDir(filepath.Join(root, "images", dir)); err != nil || len(left) > 0 {
					t.Errorf("left in %s: %v, %v", dir, left, err)
				}
			}
		})
	}
}

// spoilBlobs serves a layer with one byte changed.
func spoilBlobs(t *testing.T, l v1.Layer) func(http.ResponseWriter, *http.Request) bool {
	t.Helper()
	digest, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	body, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-10] ^= 1
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, digest.String()) {
			return false
		}
		_, _ = w.Write(raw) // the client's business
		return true
	}
}

func TestConcurrentPullsShareLayers(t *testing.T) {
	t.Parallel()
	needRoot(t)
	reg := newServer(t)
	shared := layerOf(t, entry{name: "shared", body: strings.Repeat("x", 1<<16)})
	reg.push(t, "a:1", imageOf(t, shared, layerOf(t, entry{name: "a", body: "a"})))
	reg.push(t, "b:1", imageOf(t, shared, layerOf(t, entry{name: "b", body: "b"})))
	s := open(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := s.Pull(t.Context(), reg.host+"/"+string("ab"[i%2])+":1", nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	digest, err := shared.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if n := reg.blobs[digest.String()]; n != 1 {
		t.Errorf("the shared layer was fetched %d times", n)
	}
}

func TestReopenAndRemove(t *testing.T) {
	t.Parallel()
	needRoot(t)
	reg := newServer(t)
	reg.push(t, "web:1", imageOf(t, layerOf(t, entry{name: "one", body: "1"})))
	root := t.TempDir()
	s := reopen(t, root, Config{})
	first, err := s.Pull(t.Context(), reg.host+"/web:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	// What a crash leaves: a half-written layer, a torn record.
	if err := os.MkdirAll(filepath.Join(root, "images/tmp/layer-x/fs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "images/records/torn.json"), []byte(`{"ID":`), 0o600); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, root, Config{})
	if got, there, err := s.Resolve(t.Context(), reg.host+"/web:1"); err != nil || !there || got.ID != first.ID {
		t.Errorf("after reopening: %+v, %v, %v", got, there, err)
	}
	// The tag moves: the old image keeps its digest, the new one has the tag.
	reg.push(t, "web:1", imageOf(t, layerOf(t, entry{name: "two", body: "2"})))
	second, err := s.Pull(t.Context(), reg.host+"/web:1", nil)
	if err != nil || second.ID == first.ID {
		t.Fatalf("second pull: %+v, %v", second, err)
	}
	if got, _, err := s.Resolve(t.Context(), first.Digest); err != nil || got.ID != first.ID || len(got.Names) != 1 {
		t.Errorf("the first image: %+v, %v", got, err)
	}
	for _, ref := range []string{first.ID, reg.host + "/web:1", second.Digest, "never:seen"} {
		if err := s.Remove(ref); err != nil {
			t.Errorf("Remove(%q): %v", ref, err)
		}
	}
	for _, dir := range []string{"layers", "records", "tmp"} {
		if left, err := os.ReadDir(filepath.Join(root, "images", dir)); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	needRoot(t)
	img := imageOf(t, layerOf(t, entry{name: "file", body: "content"}))
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	var docker bytes.Buffer
	tag, err := name.NewTag("example.org/web:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.Write(tag, img, &docker); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img, layout.WithAnnotations(map[string]string{"io.containerd.image.name": "example.org/web:1"})); err != nil {
		t.Fatal(err)
	}
	var oci bytes.Buffer
	w := tar.NewWriter(&oci)
	if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close()); err != nil {
		t.Fatal(err)
	}
	for kind, archive := range map[string][]byte{"docker": docker.Bytes(), "oci": oci.Bytes()} {
		s := open(t)
		got, err := s.Import(t.Context(), bytes.NewReader(archive), []string{"busybox"})
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %+v, %v", kind, got, err)
			continue
		}
		for _, ref := range []string{"example.org/web:1", "docker.io/library/busybox:latest"} {
			if !s.Exists(t.Context(), ref) {
				t.Errorf("%s: no %s in %v", kind, ref, got[0].Names)
			}
		}
		if kind == "oci" && !s.Exists(t.Context(), "example.org/web@"+digest.String()) {
			t.Errorf("no digest in %v", got[0].Names)
		}
	}
	for text, archive := range map[string]string{"empty": "", "neither index.json": string(tarOf(t, "hello")), "bad image archive": "no tar at all, whatever it is"} {
		if _, err := open(t).Import(t.Context(), strings.NewReader(archive), nil); !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func tarOf(t *testing.T, file string) []byte {
	t.Helper()
	l, err := layerOf(t, entry{name: file, body: "x"}).Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(l)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCollect(t *testing.T) {
	t.Parallel()
	needRoot(t)
	reg := newServer(t)
	s := open(t)
	ids := map[string]string{}
	for _, n := range []string{"mounted", "kept", "young", "old"} {
		reg.push(t, n+":1", imageOf(t, layerOf(t, entry{name: n, body: n})))
		img, err := s.Pull(t.Context(), reg.host+"/"+n+":1", nil)
		if err != nil {
			t.Fatal(err)
		}
		ids[n] = img.ID
		if n != "young" {
			s.lastUsed[img.ID] = time.Now().Add(-time.Hour)
		}
	}
	if _, err := s.Mount(t.Context(), "key", ids["mounted"]); err != nil {
		t.Fatal(err)
	}
	defer s.Unmount(t.Context(), "key")
	if _, err := s.collect(t.Context(), Policy{MinAge: time.Minute}, 1<<40, []string{reg.host + "/kept:1"}); !errors.Is(err, ErrNotEnough) {
		t.Errorf("error %v", err)
	}
	for n, stays := range map[string]bool{"mounted": true, "kept": true, "young": true, "old": false} {
		if s.Exists(t.Context(), ids[n]) != stays {
			t.Errorf("%s: there is %v", n, !stays)
		}
	}
}

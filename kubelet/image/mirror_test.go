package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skeg-dev/skeg/kubelet/image/registry"
)

// configure writes a hosts.toml for a registry.
func configure(t *testing.T, dir, registryName, text string) {
	t.Helper()
	path := filepath.Join(dir, registryName)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "hosts.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestMirrors(t *testing.T) {
	t.Parallel()
	needRoot(t)
	mirror := newServer(t)
	mirror.push(t, "e2e/agnhost:2", imageOf(t, layerOf(t, entry{name: "file", body: "mirrored"})))
	mirror.push(t, "library/busybox:latest", imageOf(t, layerOf(t, entry{name: "busybox"})))
	own := newServer(t)
	own.push(t, "only/here:1", imageOf(t, layerOf(t, entry{name: "own"})))
	dir := t.TempDir()
	dead := "http://127.0.0.1:1" // nobody listens on port 1
	configure(t, dir, "registry.example.invalid", fmt.Sprintf(`
server = "http://%s"   # where what no mirror has comes from
[host.%q]
  capabilities = ["pull", "resolve"]
[host."http://%s"]
  skip_verify = true
`, own.host, dead, mirror.host))
	configure(t, dir, "docker.io", fmt.Sprintf("[host.\"http://%s\"]\n", mirror.host))
	s := reopen(t, t.TempDir(), Config{RegistryConfigDir: dir})
	for ref, name := range map[string]string{
		"registry.example.invalid/e2e/agnhost:2": "registry.example.invalid/e2e/agnhost:2",
		"registry.example.invalid/only/here:1":   "registry.example.invalid/only/here:1",
		"busybox":                                "docker.io/library/busybox:latest",
	} {
		img, err := s.Pull(t.Context(), ref, []Credential{{Username: "user", Password: "not for mirrors"}})
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if !strings.Contains(strings.Join(img.Names, " "), name) {
			t.Errorf("%s is named %v", ref, img.Names)
		}
	}
	if _, err := s.Pull(t.Context(), "registry.example.invalid/no/such:1", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("an image nobody has: %v", err)
	}
	configure(t, dir, "torn.example.invalid", "[host.")
	if _, err := s.Pull(t.Context(), "torn.example.invalid/x:1", nil); err == nil || !strings.Contains(err.Error(), "hosts.toml: line 1") {
		t.Errorf("a broken hosts.toml: %v", err)
	}
}

func TestIndexPlatforms(t *testing.T) {
	t.Parallel()
	platform := func(os, arch, variant string) v1.Descriptor {
		return v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: os + arch + variant},
			Platform: &v1.Platform{OS: os, Architecture: arch, Variant: variant}}
	}
	list := []v1.Descriptor{platform("unknown", "unknown", ""), platform("windows", "amd64", ""), platform("linux", "arm64", "v8"),
		platform("linux", "amd64", "v3"), platform("linux", "amd64", "")}
	if d, err := choose(list); err != nil || d.Digest.Hex != "linuxamd64" {
		t.Errorf("chose %v, %v", d.Digest, err)
	}
	if d, err := choose(list[:4]); err != nil || d.Digest.Hex != "linuxamd64v3" {
		t.Errorf("chose %v, %v", d.Digest, err)
	}
	if _, err := choose(list[:3]); !errors.Is(err, ErrPlatform) || !strings.Contains(err.Error(), "windows/amd64, linux/arm64/v8") {
		t.Errorf("error %v", err)
	}
}

func TestManyLayers(t *testing.T) {
	t.Parallel()
	needRoot(t)
	reg := newServer(t)
	var layers []v1.Layer
	for i := range 120 {
		layers = append(layers, layerOf(t, entry{name: fmt.Sprintf("f%d", i), body: fmt.Sprint(i)}, entry{name: "top", body: fmt.Sprint(i)}))
	}
	reg.push(t, "deep:1", imageOf(t, layers...))
	s := open(t)
	img, err := s.Pull(t.Context(), reg.host+"/deep:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	root, err := s.Mount(t.Context(), "key", img.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Unmount(t.Context(), "key")
	for file, want := range map[string]string{"f0": "0", "f119": "119", "top": "119"} {
		if b, err := os.ReadFile(filepath.Join(root, file)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", file, b, err)
		}
	}
}

func TestBadManifests(t *testing.T) {
	t.Parallel()
	s := &Store{}
	for name, raw := range map[string]string{
		"not JSON":       "<html>",
		"schema 1":       `{"schemaVersion":1}`,
		"index in index": `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`,
	} {
		if _, err := s.manifest(registry.Manifest{Raw: []byte(raw)}, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

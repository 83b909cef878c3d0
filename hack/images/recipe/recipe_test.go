package recipe

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/skeg-dev/skeg/hack/images/registry"
)

func TestSameInputsMakeTheSameBytes(t *testing.T) {
	t.Parallel()
	var made [][]byte
	for _, file := range []string{"one.tar", "two.tar"} {
		path := filepath.Join(t.TempDir(), file)
		if err := Write(t.Context(), "demo", path); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, b)
	}
	if !bytes.Equal(made[0], made[1]) {
		t.Error("two builds of the demo image differ")
	}
}

func TestNamesAreUnique(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range All() {
		if seen[r.Name] || seen[r.Ref] {
			t.Errorf("%s (%s) is there twice", r.Name, r.Ref)
		}
		seen[r.Name], seen[r.Ref] = true, true
	}
	if _, _, err := Image(t.Context(), "nothing"); err == nil || !strings.Contains(err.Error(), "busybox") {
		t.Errorf("an unknown name: %v", err)
	}
}

func TestCompleteNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	program, err := os.ReadFile("/bin/ls")
	if err != nil {
		t.Fatal(err)
	}
	l := NewLayer()
	l.Add("bin/ls", 0o755, program)
	if err := complete(l); err == nil || !strings.Contains(err.Error(), "bin/ls needs lib") {
		t.Errorf("error %v", err)
	}
}

func TestRegistryServesArchivesForAPassword(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "demo.tar")
	if err := Write(t.Context(), "demo", path); err != nil {
		t.Fatal(err)
	}
	s, err := registry.Start(registry.Config{User: "user", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	refs, err := s.Load(t.Context(), path)
	if err != nil || len(refs) != 1 || refs[0] != s.Addr()+"/skeg/demo:1" {
		t.Fatalf("refs %v, error %v", refs, err)
	}
	ref, err := name.ParseReference(refs[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Head(ref); err == nil {
		t.Error("served without a password")
	}
	if _, err := remote.Head(ref, remote.WithAuth(&authn.Basic{Username: "user", Password: "secret"})); err != nil {
		t.Error(err)
	}
}

package image

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcrregistry "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// secureRegistry speaks TLS with a certificate of its own and takes only
// bearer tokens of its token service, which wants a password (distribution
// specification, token authentication).
func secureRegistry(t *testing.T) *httptest.Server {
	t.Helper()
	const token = "let-me-in"
	reg := ggcrregistry.New(ggcrregistry.Logger(discardLog()))
	var s *httptest.Server
	s = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			if _, password, _ := r.BasicAuth(); password != "secret" || r.URL.Query().Get("service") != "test" || !strings.Contains(r.URL.Query().Get("scope"), "web") {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			if err := json.NewEncoder(w).Encode(map[string]string{"token": token}); err != nil {
				t.Error(err)
			}
			return
		}
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+s.URL+`/token",service="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		reg.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestPullOverTLSWithATokenService(t *testing.T) {
	t.Parallel()
	needRoot(t)
	server := secureRegistry(t)
	host := strings.TrimPrefix(server.URL, "https://")
	ref, err := name.ParseReference(host + "/web:1")
	if err != nil {
		t.Fatal(err)
	}
	img := imageOf(t, layerOf(t, entry{name: "page", body: "hello"}))
	if err := remote.Write(ref, img, remote.WithTransport(server.Client().Transport), remote.WithAuth(&authn.Basic{Username: "user", Password: "secret"})); err != nil {
		t.Fatal(err)
	}
	config := t.TempDir()
	if err := os.Mkdir(filepath.Join(config, host), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(config, host, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good, bad := []Credential{{Username: "user", Password: "secret"}}, []Credential{{Username: "user", Password: "wrong"}}
	s := reopen(t, t.TempDir(), Config{RegistryConfigDir: config})

	write("hosts.toml", "server = \""+server.URL+"\"\n")
	if _, err := s.Pull(t.Context(), ref.Name(), good); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority: %v", err)
	}
	write("hosts.toml", "server = \""+server.URL+"\"\nca = \"ca.crt\"\n")
	write("ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	if _, err := s.Pull(t.Context(), ref.Name(), bad); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("a wrong password: %v", err)
	}
	if _, err := s.Pull(t.Context(), ref.Name(), good); err != nil {
		t.Errorf("the right password and authority: %v", err)
	}
}

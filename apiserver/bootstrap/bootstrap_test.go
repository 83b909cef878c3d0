package bootstrap

import (
	"crypto"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/skeg-dev/skeg/internal/pki"
	"github.com/skeg-dev/skeg/internal/testkit"
)

func testConfig(t *testing.T) Config {
	t.Helper()
	dir := t.TempDir()
	logger, _ := testkit.NewLogger(t)
	return Config{
		CertDir: filepath.Join(dir, "pki"), KubeconfigDir: dir, Server: "https://10.1.0.1:6443",
		AdvertiseAddress: net.IPv4(10, 1, 0, 1), ServiceIPs: []net.IP{net.IPv4(10, 96, 0, 1)},
		ExtraSANs: []string{"api.example", "10.9.9.9"}, Logger: logger,
	}
}

func ensure(t *testing.T, c Config) *Files {
	t.Helper()
	f, err := Ensure(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// snapshot reads all files below dir.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		files[rel] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func changed(before, after map[string]string) []string {
	var names []string
	for name, content := range after {
		if before[name] != content {
			names = append(names, name)
		}
	}
	return names
}

func TestEnsureMakesEverythingOnce(t *testing.T) {
	c := testConfig(t)
	f := ensure(t, c)
	for _, host := range []string{"kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost", "127.0.0.1", "::1", "10.1.0.1", "10.96.0.1", "api.example", "10.9.9.9"} {
		if err := f.Serving.Leaf().VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	admin, err := clientcmd.BuildConfigFromFlags("", f.AdminKubeconfig)
	if err != nil || admin.Host != c.Server {
		t.Fatalf("admin.conf: %v, %v", admin, err)
	}
	pair, err := pki.ParsePair(admin.CertData, admin.KeyData)
	if err != nil || pair.Cert.Subject.Organization[0] != "system:masters" {
		t.Errorf("admin: %v, %v", pair, err)
	}
	before := snapshot(t, c.KubeconfigDir)
	for name := range before {
		info, err := os.Stat(filepath.Join(c.KubeconfigDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if secret := strings.HasSuffix(name, ".key") || strings.HasSuffix(name, ".conf"); secret && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", name, info.Mode().Perm())
		}
	}
	if len(before) != 16 {
		t.Errorf("%d files", len(before))
	}
	ensure(t, c)
	if names := changed(before, snapshot(t, c.KubeconfigDir)); len(names) > 0 {
		t.Errorf("a second start changed %v", names)
	}
}

func TestEnsureRebuilds(t *testing.T) {
	torn := []byte("-----BEGIN CERTIFICATE-----\nMIIB")
	for name, c := range map[string]struct {
		file    string
		content []byte // nil: lost
		want    []string
	}{
		"torn serving certificate": {"pki/apiserver.crt", torn, []string{"pki/apiserver.crt", "pki/apiserver.key"}},
		"lost serving key":         {"pki/apiserver.key", nil, []string{"pki/apiserver.crt", "pki/apiserver.key"}},
		"lost admin.conf":          {"admin.conf", nil, []string{"admin.conf"}},
		"torn scheduler.conf":      {"scheduler.conf", []byte("apiVersion: v1\nki"), []string{"scheduler.conf"}},
		"lost sa.pub":              {"pki/sa.pub", nil, nil},
		"torn front-proxy client":  {"pki/front-proxy-client.key", []byte{}, []string{"pki/front-proxy-client.crt", "pki/front-proxy-client.key"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig(t)
			ensure(t, config)
			before := snapshot(t, config.KubeconfigDir)
			path := filepath.Join(config.KubeconfigDir, c.file)
			var err error
			if c.content == nil {
				err = os.Remove(path)
			} else {
				err = os.WriteFile(path, c.content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			ensure(t, config)
			names := changed(before, snapshot(t, config.KubeconfigDir))
			if len(names) != len(c.want) {
				t.Errorf("changed %v, want %v", names, c.want)
			}
		})
	}
}

func TestLostAuthority(t *testing.T) {
	c := testConfig(t)
	first := ensure(t, c)
	if err := os.Remove(first.CAPath()); err != nil {
		t.Fatal(err)
	}
	second := ensure(t, c)
	if !pki.SameKey(first.CA.Cert.PublicKey, second.CA.Cert.PublicKey) {
		t.Error("a lost certificate must be made again from its key")
	}
	if err := pki.Fits(first.Serving.Leaf(), second.CA.Cert, pki.Request{CommonName: "kube-apiserver", Server: true}, time.Now()); err != nil {
		t.Errorf("what it signed must stay good: %v", err)
	}
	if err := os.Remove(second.CAKeyPath()); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(c); err == nil || !strings.Contains(err.Error(), "is lost: restore") {
		t.Errorf("a lost key needs a person: %v", err)
	}
}

func TestLostServiceAccountKey(t *testing.T) {
	c := testConfig(t)
	first := ensure(t, c)
	if err := os.Remove(c.path("sa.key")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f := ensure(t, c)
		if len(f.ServiceAccountKeys) != 2 || !has(f.ServiceAccountKeys, first.ServiceAccountKey.Public()) || !has(f.ServiceAccountKeys, f.ServiceAccountKey.Public()) {
			t.Fatalf("%d keys: tokens of running pods would be void", len(f.ServiceAccountKeys))
		}
	}
}

func has(keys []crypto.PublicKey, key crypto.PublicKey) bool {
	for _, k := range keys {
		if pki.SameKey(k, key) {
			return true
		}
	}
	return false
}

func TestChangedAddresses(t *testing.T) {
	c := testConfig(t)
	ensure(t, c)
	before := snapshot(t, c.KubeconfigDir)
	c.Server, c.AdvertiseAddress = "https://10.1.0.2:6443", net.IPv4(10, 1, 0, 2)
	f := ensure(t, c)
	if err := f.Serving.Leaf().VerifyHostname("10.1.0.2"); err != nil {
		t.Error(err)
	}
	if names := changed(before, snapshot(t, c.KubeconfigDir)); len(names) != 6 { // four kubeconfigs, certificate, key
		t.Errorf("changed %v", names)
	}
}

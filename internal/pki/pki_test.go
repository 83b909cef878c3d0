package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/tools/clientcmd"
)

func authority(t *testing.T) *Pair {
	t.Helper()
	ca, err := NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestIssuedCertificatesServeTLS(t *testing.T) {
	ca := authority(t)
	server, err := ca.Issue(Request{CommonName: "server", Server: true, DNSNames: []string{"example.test"}, IPs: []net.IP{net.IPv4(10, 0, 0, 1)}})
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.Issue(Request{CommonName: "me", Organizations: []string{"us"}, Client: true})
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() {
		conn := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{*server.TLS()}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert})
		done <- conn.HandshakeContext(t.Context())
	}()
	conn := tls.Client(near, &tls.Config{RootCAs: ca.Pool(), ServerName: "example.test", Certificates: []tls.Certificate{*client.TLS()}})
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issue(Request{CommonName: "nothing"}); err == nil {
		t.Error("a certificate for no use was issued")
	}
}

func TestSignCSR(t *testing.T) {
	ca := authority(t)
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := NewCSR(key, "system:node:n1", []string{"system:nodes"}, []string{"n1"}, []net.IP{net.IPv4(10, 0, 0, 2)})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := SignCSR(ca, csr, []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := ParseCerts(signed)
	if err != nil {
		t.Fatal(err)
	}
	cert := certs[0]
	if cert.Subject.CommonName != "system:node:n1" || cert.Subject.Organization[0] != "system:nodes" || cert.IsCA ||
		cert.KeyUsage != x509.KeyUsageDigitalSignature || cert.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || cert.DNSNames[0] != "n1" {
		t.Errorf("certificate: %+v", cert)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: ca.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	broken := bytes.Replace(csr, []byte("M"), []byte("N"), 1)
	for name, c := range map[string]struct {
		csr    []byte
		usages []certificatesv1.KeyUsage
	}{
		"garbage":       {[]byte("nothing"), nil},
		"broken":        {broken, nil},
		"unknown usage": {csr, []certificatesv1.KeyUsage{"fly"}},
	} {
		if _, err := SignCSR(ca, c.csr, c.usages, time.Hour); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := ParseCSR(EncodeCerts(ca.Cert)); err == nil {
		t.Error("a certificate is no request")
	}
}

func TestSaveAndLoad(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "sub", "x.crt"), filepath.Join(dir, "sub", "x.key")
	if _, err := Load(cert, key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	ca := authority(t)
	if err := ca.Save(cert, key); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(key)
	if err != nil || info.Mode().Perm() != ModePrivate {
		t.Errorf("key: %v, %v", info.Mode(), err)
	}
	loaded, err := Load(cert, key)
	if err != nil || !loaded.Cert.Equal(ca.Cert) {
		t.Fatalf("Load: %v", err)
	}
	if err := WriteFile(cert, EncodeCerts(authority(t).Cert), ModePublic); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(cert, key); err == nil {
		t.Error("a key of another certificate was accepted")
	}
	entries, err := os.ReadDir(filepath.Dir(cert))
	if err != nil || len(entries) != 2 {
		t.Errorf("temporary files stayed: %v, %v", entries, err)
	}
}

func TestKeysRoundTrip(t *testing.T) {
	ec, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := NewRSAKey()
	if err != nil {
		t.Fatal(err)
	}
	var public []byte
	for name, encode := range map[string]func() ([]byte, error){
		"ecdsa": func() ([]byte, error) { return EncodeKey(ec) },
		"rsa":   func() ([]byte, error) { return EncodeKey(rsaKey) },
	} {
		text, err := encode()
		if err != nil {
			t.Fatal(err)
		}
		key, err := ParseKey(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		pub, err := EncodePublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		public = append(public, pub...)
	}
	keys, err := ParsePublicKeys(public)
	if err != nil || len(keys) != 2 {
		t.Errorf("public keys: %d, %v", len(keys), err)
	}
	if _, err := ParsePublicKeys([]byte("none")); err == nil {
		t.Error("no keys were found in none")
	}
}

func TestRenewal(t *testing.T) {
	ca := authority(t)
	pair, err := ca.Issue(Request{CommonName: "x", Client: true, TTL: 90 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	begin, life := pair.Cert.NotBefore, pair.Cert.NotAfter.Sub(pair.Cert.NotBefore)
	if NeedsRenewal(pair.Cert, begin.Add(life/2)) || !NeedsRenewal(pair.Cert, begin.Add(life/4*3)) {
		t.Error("renewal is not due between a half and three quarters of its life")
	}
	good := Request{CommonName: "x", Client: true}
	now := time.Now()
	for name, c := range map[string]struct {
		ca  *Pair
		r   Request
		now time.Time
		say string
	}{
		"fits":          {ca, good, now, ""},
		"other ca":      {authority(t), good, now, "another authority"},
		"expiring":      {ca, good, now.Add(80 * time.Minute), "expires"},
		"other subject": {ca, Request{CommonName: "y", Client: true}, now, "it is for"},
		"server":        {ca, Request{CommonName: "x", Server: true}, now, "servers"},
		"name":          {ca, Request{CommonName: "x", DNSNames: []string{"a"}}, now, `"a"`},
		"address":       {ca, Request{CommonName: "x", IPs: []net.IP{net.IPv6loopback}}, now, "::1"},
	} {
		err := Fits(pair.Cert, c.ca.Cert, c.r, c.now)
		if (err == nil) != (c.say == "") || (err != nil && !strings.Contains(err.Error(), c.say)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSourceRenewsAndReloads(t *testing.T) {
	ca := authority(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "x.crt"), filepath.Join(dir, "x.key")
	issue := func() (*Pair, error) {
		pair, err := ca.Issue(Request{CommonName: "x", Server: true, TTL: time.Hour})
		if err != nil {
			return nil, err
		}
		return pair, pair.Save(cert, key)
	}
	first, err := issue()
	if err != nil {
		t.Fatal(err)
	}
	own, err := NewSource(func() (*Pair, error) { return Load(cert, key) }, issue, nil)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := FileSource(cert, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := own.Refresh(time.Now()); err != nil || !own.Leaf().Equal(first.Cert) {
		t.Errorf("renewed too early: %v", err)
	}
	if err := own.Refresh(time.Now().Add(50 * time.Minute)); err != nil || own.Leaf().Equal(first.Cert) {
		t.Errorf("not renewed: %v", err)
	}
	if err := reader.Refresh(time.Now()); err != nil || !reader.Leaf().Equal(own.Leaf()) {
		t.Errorf("not reloaded: %v", err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := reader.Refresh(time.Now()); err == nil {
		t.Error("a lost key was not reported")
	}
	if got, err := reader.GetCertificate(nil); err != nil || !got.Leaf.Equal(own.Leaf()) {
		t.Error("the last good certificate must stay in force")
	}
	if err := own.Refresh(time.Now()); err != nil {
		t.Errorf("a lost key was not replaced: %v", err)
	}
}

func TestKubeconfig(t *testing.T) {
	ca := authority(t)
	path := filepath.Join(t.TempDir(), "a.conf")
	if err := (Kubeconfig{User: "me", Server: "https://127.0.0.1:6443", CA: EncodeCerts(ca.Cert), Token: "t"}).Write(path); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil || config.Host != "https://127.0.0.1:6443" || config.BearerToken != "t" || !bytes.Equal(config.CAData, EncodeCerts(ca.Cert)) {
		t.Errorf("config %v, %v", config, err)
	}
	if hash := Hash(ca.Cert); !strings.HasPrefix(hash, "sha256:") || len(hash) != 7+64 {
		t.Errorf("hash %q", hash)
	}
}

func TestBundle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.crt")
	if _, err := NewBundle(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	ca := authority(t)
	if err := WriteFile(path, EncodeCerts(ca.Cert), ModePublic); err != nil {
		t.Fatal(err)
	}
	b, err := NewBundle(path)
	if err != nil {
		t.Fatal(err)
	}
	next := EncodeCerts(authority(t).Cert)
	if err := WriteFile(path, next, ModePublic); err != nil {
		t.Fatal(err)
	}
	b.checked, b.modified = time.Time{}, time.Time{}
	if !bytes.Equal(b.PEM(), next) {
		t.Error("the changed file was not read")
	}
	if err := os.WriteFile(path, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.checked, b.modified = time.Time{}, time.Time{}
	if !bytes.Equal(b.PEM(), next) || b.Pool() == nil {
		t.Error("a torn file must leave the last authorities in force")
	}
}

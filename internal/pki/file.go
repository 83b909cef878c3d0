package pki

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// File modes of what is written here.
const (
	ModePrivate fs.FileMode = 0o600
	ModePublic  fs.FileMode = 0o644
)

// WriteFile writes atomically: a crash leaves either the old file or the new
// one (temporary file, fsync, rename, fsync of the directory). The directory
// is made if missing.
func WriteFile(path string, content []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), tmp.Close(), os.Remove(tmp.Name()))
		}
	}()
	if err := tmp.Chmod(mode); err != nil {
		return err
	}
	if _, err := tmp.Write(content); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Save writes the pair as two PEM files, the key first: a certificate without
// its key cannot be left behind by a crash.
func (ca *Pair) Save(certPath, keyPath string) error {
	key, err := EncodeKey(ca.Key)
	if err != nil {
		return err
	}
	if err := WriteFile(keyPath, key, ModePrivate); err != nil {
		return err
	}
	return WriteFile(certPath, EncodeCerts(ca.Cert), ModePublic)
}

// Combined returns certificate and key in one PEM text, as the kubelet keeps
// its current client certificate.
func (ca *Pair) Combined() ([]byte, error) {
	key, err := EncodeKey(ca.Key)
	if err != nil {
		return nil, err
	}
	return append(EncodeCerts(ca.Cert), key...), nil
}

// Load reads a pair from PEM files (which may be the same file) and checks
// that the key is that of the certificate. A missing file is fs.ErrNotExist.
func Load(certPath, keyPath string) (*Pair, error) {
	certPEM, err := os.ReadFile(certPath)
	if err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(keyPath)
	if err != nil {
		return nil, fmt.Errorf("load key: %w", err)
	}
	pair, err := ParsePair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", certPath, err)
	}
	return pair, nil
}

// ParsePair reads a pair from PEM texts and checks that they belong together.
func ParsePair(certPEM, keyPEM []byte) (*Pair, error) {
	certs, err := ParseCerts(certPEM)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	if !SameKey(certs[0].PublicKey, key.Public()) {
		return nil, errors.New("the key is not that of the certificate")
	}
	return &Pair{Cert: certs[0], Key: key}, nil
}

// SameKey reports whether two public keys are equal.
func SameKey(a, b crypto.PublicKey) bool {
	comparable, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && comparable.Equal(b)
}

// LoadPool reads a PEM bundle of authorities.
func LoadPool(path string) (*x509.CertPool, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load authorities: %w", err)
	}
	certs, err := ParseCerts(content)
	if err != nil {
		return nil, fmt.Errorf("load authorities from %s: %w", path, err)
	}
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	return pool, nil
}

package authn

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/cache"
)

const (
	certificateCacheSize = 4096
	// certificateTTL is how long a verified certificate is not verified again;
	// an authority that is taken away counts at the latest after that.
	certificateTTL = time.Minute
)

type certificates struct {
	pool     func() *x509.CertPool
	verified *cache.LRUExpireCache
}

// NewCertificates authenticates by TLS client certificate: the common name is
// the user, organizations are groups. pool returns the authorities of the
// moment. The listener must ask for certificates without verifying them
// (tls.RequestClientCert).
func NewCertificates(pool func() *x509.CertPool) Authenticator {
	return &certificates{pool: pool, verified: cache.NewLRUExpireCache(certificateCacheSize)}
}

// Authenticate verifies the certificate of r's connection.
func (c *certificates) Authenticate(r *http.Request) (User, bool, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return User{}, false, nil
	}
	leaf := r.TLS.PeerCertificates[0]
	sum := sha256.Sum256(leaf.Raw)
	if known, ok := c.verified.Get(sum); ok {
		return known.(User), true, nil
	}
	if err := verify(r.TLS.PeerCertificates, c.pool()); err != nil {
		return User{}, false, err
	}
	user, err := certificateUser(leaf, sum)
	if err != nil {
		return User{}, false, err
	}
	c.verified.Add(sum, user, min(certificateTTL, time.Until(leaf.NotAfter)))
	return user, true, nil
}

// verify checks a chain, leaf first, for use by a client.
func verify(chain []*x509.Certificate, roots *x509.CertPool) error {
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return fmt.Errorf("verify client certificate of %q: %w", chain[0].Subject.CommonName, err)
	}
	return nil
}

func certificateUser(leaf *x509.Certificate, sum [sha256.Size]byte) (User, error) {
	if leaf.Subject.CommonName == "" {
		return User{}, errors.New("client certificate has no common name")
	}
	return User{
		Name:   leaf.Subject.CommonName,
		Groups: slices.Clone(leaf.Subject.Organization),
		Extra:  map[string][]string{ExtraCredentialID: {"X509SHA256=" + hex.EncodeToString(sum[:])}},
	}, nil
}

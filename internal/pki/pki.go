// Package pki makes and keeps certificates: authorities and leaves (ECDSA
// P-256), signing of certificate requests, PEM files written atomically, the
// decision when to renew, a source that hands TLS the newest certificate while
// the process runs, and kubeconfig files. Called by apiserver/bootstrap, the
// certificate signer, the kubelet and ctl; it calls only the standard library
// and client-go's kubeconfig types. No goroutines but those of the Run methods
// that the caller starts.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// Lifetimes of what is made here.
const (
	// CATTL is that of authorities, as kubeadm makes them: replacing one means
	// touching every client, so it is long.
	CATTL = 10 * 365 * 24 * time.Hour
	// LeafTTL is that of other certificates, as kubeadm makes them.
	LeafTTL = 365 * 24 * time.Hour
	// backdate lets machines whose clock is behind accept a new certificate.
	backdate = 5 * time.Minute
)

// Pair is a certificate and its private key.
type Pair struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// Request describes a leaf certificate.
type Request struct {
	// CommonName is the user name, for client certificates; Organizations
	// their groups.
	CommonName    string
	Organizations []string
	// DNSNames and IPs are what a server answers to.
	DNSNames []string
	IPs      []net.IP
	// Client and Server say what it is for; one at least.
	Client, Server bool
	// TTL is its lifetime, 0 meaning LeafTTL; it is cut to the authority's end.
	TTL time.Duration
}

// NewKey makes an ECDSA P-256 key.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return key, nil
}

// NewCA makes a self-signed authority with a new key.
func NewCA(commonName string) (*Pair, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	return NewCAFromKey(commonName, key)
}

// NewCAFromKey makes a self-signed authority of an existing key. Certificates
// signed by an earlier authority of that name and key stay valid.
func NewCAFromKey(commonName string, key crypto.Signer) (*Pair, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: commonName},
		DNSNames:              []string{commonName}, // what kubeadm writes; some verifiers want a SAN
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(CATTL),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign authority %q: %w", commonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse authority %q: %w", commonName, err)
	}
	return &Pair{Cert: cert, Key: key}, nil
}

// Issue makes a key and a certificate for it, signed by ca.
func (ca *Pair) Issue(r Request) (*Pair, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	var usages []x509.ExtKeyUsage
	if r.Client {
		usages = append(usages, x509.ExtKeyUsageClientAuth)
	}
	if r.Server {
		usages = append(usages, x509.ExtKeyUsageServerAuth)
	}
	if len(usages) == 0 {
		return nil, fmt.Errorf("issue certificate %q: it is for neither client nor server", r.CommonName)
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: r.CommonName, Organization: r.Organizations},
		DNSNames:    r.DNSNames,
		IPAddresses: r.IPs,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: usages,
	}
	cert, err := ca.sign(template, key.Public(), r.TTL)
	if err != nil {
		return nil, fmt.Errorf("issue certificate %q: %w", r.CommonName, err)
	}
	return &Pair{Cert: cert, Key: key}, nil
}

// sign fills serial and validity of template and signs it for public.
func (ca *Pair) sign(template *x509.Certificate, public crypto.PublicKey, ttl time.Duration) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	if ttl == 0 {
		ttl = LeafTTL
	}
	now := time.Now()
	template.SerialNumber = serial
	template.BasicConstraintsValid = true
	template.NotBefore = later(now.Add(-backdate), ca.Cert.NotBefore)
	template.NotAfter = now.Add(ttl)
	if template.NotAfter.After(ca.Cert.NotAfter) {
		template.NotAfter = ca.Cert.NotAfter
	}
	if !template.NotAfter.After(now) {
		return nil, errors.New("the authority has expired")
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, public, ca.Key)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return x509.ParseCertificate(der)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// newSerial is a random number of 127 bits (RFC 5280 allows 20 octets, positive).
func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("choose serial number: %w", err)
	}
	return serial.Add(serial, big.NewInt(1)), nil
}

// Pool returns a pool of one certificate.
func (ca *Pair) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	return pool
}

// TLS returns the pair for crypto/tls.
func (ca *Pair) TLS() *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{ca.Cert.Raw}, PrivateKey: ca.Key, Leaf: ca.Cert}
}

// Hash returns "sha256:<hex>" of the certificate's public key, as kubeadm's
// --discovery-token-ca-cert-hash writes it.
func Hash(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Fits returns nil when cert can go on being used for what r describes: signed
// by ca, for this name, these groups, hosts and uses, and not due for renewal
// at now. Else it says what does not fit.
func Fits(cert, ca *x509.Certificate, r Request, now time.Time) error {
	if err := cert.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("another authority signed it: %w", err)
	}
	if NeedsRenewal(cert, now) {
		return fmt.Errorf("it expires on %s", cert.NotAfter.Format(time.RFC3339))
	}
	if cert.Subject.CommonName != r.CommonName || !slices.Equal(cert.Subject.Organization, r.Organizations) {
		return fmt.Errorf("it is for %q", cert.Subject)
	}
	for _, name := range r.DNSNames {
		if !slices.Contains(cert.DNSNames, name) {
			return fmt.Errorf("it does not name %q", name)
		}
	}
	for _, ip := range r.IPs {
		if !slices.ContainsFunc(cert.IPAddresses, ip.Equal) {
			return fmt.Errorf("it does not name %s", ip)
		}
	}
	if r.Client && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return errors.New("it is not for clients")
	}
	if r.Server && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		return errors.New("it is not for servers")
	}
	return nil
}

// NeedsRenewal reports whether two thirds of the certificate's life are over,
// which leaves a third of it for retries.
func NeedsRenewal(cert *x509.Certificate, now time.Time) bool {
	return !now.Before(RenewAt(cert))
}

// RenewAt is the moment from which NeedsRenewal is true.
func RenewAt(cert *x509.Certificate) time.Time {
	life := cert.NotAfter.Sub(cert.NotBefore)
	return cert.NotBefore.Add(life / 3 * 2)
}

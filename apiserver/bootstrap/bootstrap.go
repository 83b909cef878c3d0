// Package bootstrap gives an empty cluster what it needs to begin: certificates,
// keys and kubeconfigs on disk before the API server listens, and after that
// the first objects (namespaces, RBAC, priority classes, published authorities)
// and the Service "kubernetes". All of it may run at every start: what is there
// and good stays, what is torn, lost or expiring is made again.
//
//	--cert-dir (/etc/kubernetes/pki)
//	├── ca.crt ca.key                            authority of the cluster
//	├── apiserver.crt apiserver.key              serving certificate
//	├── apiserver-kubelet-client.crt .key        API server → kubelets
//	├── front-proxy-ca.crt front-proxy-ca.key    authority of aggregating proxies
//	├── front-proxy-client.crt .key              API server → aggregated servers
//	└── sa.key sa.pub                            service-account tokens
//	--kubeconfig-dir (/etc/kubernetes)
//	└── admin.conf controller-manager.conf scheduler.conf proxy.conf
//
// Called by app/. Goroutines: those of the Runnables that app/ runs.
package bootstrap

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/internal/pki"
)

// renewalCheck is how often files are looked at while the server runs.
const renewalCheck = time.Hour

// Config says what the files are for.
type Config struct {
	// CertDir and KubeconfigDir are made if missing; required.
	CertDir, KubeconfigDir string
	// Server is the API server's URL in kubeconfigs; required.
	Server string
	// AdvertiseAddress is how others reach this server; may be nil.
	AdvertiseAddress net.IP
	// ServiceIPs are those of the Service kubernetes/default.
	ServiceIPs []net.IP
	// ClusterDomain is the DNS suffix; "" means cluster.local.
	ClusterDomain string
	// ExtraSANs are further DNS names and addresses of this server.
	ExtraSANs []string
	// Logger; nil means slog.Default().
	Logger *slog.Logger
}

// Files are what Ensure found or made.
type Files struct {
	config Config

	// CA signs clients and servers; CABundle is its certificate in PEM.
	CA       *pki.Pair
	CABundle []byte
	// FrontProxyCA signs aggregating proxies; FrontProxyBundle is its PEM.
	FrontProxyCA     *pki.Pair
	FrontProxyBundle []byte
	// ServiceAccountKey signs tokens; ServiceAccountKeys verify them.
	ServiceAccountKey  crypto.Signer
	ServiceAccountKeys []crypto.PublicKey
	// Serving, KubeletClient and FrontProxyClient hand out the certificates
	// and renew them; app/ runs them as parts.
	Serving, KubeletClient, FrontProxyClient *pki.Source
	// AdminKubeconfig is the path of admin.conf.
	AdminKubeconfig string
}

// CAPath is the path of the cluster's authority.
func (f *Files) CAPath() string { return f.config.path("ca.crt") }

// CAKeyPath is the path of its key.
func (f *Files) CAKeyPath() string { return f.config.path("ca.key") }

// Ensure finds or makes everything on disk.
func Ensure(config Config) (*Files, error) {
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.ClusterDomain == "" {
		config.ClusterDomain = "cluster.local"
	}
	f := &Files{config: config, AdminKubeconfig: filepath.Join(config.KubeconfigDir, "admin.conf")}
	var err error
	if f.CA, err = config.authority("ca", "kubernetes"); err != nil {
		return nil, err
	}
	if f.FrontProxyCA, err = config.authority("front-proxy-ca", "front-proxy-ca"); err != nil {
		return nil, err
	}
	f.CABundle, f.FrontProxyBundle = pki.EncodeCerts(f.CA.Cert), pki.EncodeCerts(f.FrontProxyCA.Cert)
	if err := f.ensureLeaves(); err != nil {
		return nil, err
	}
	if err := f.ensureServiceAccountKeys(); err != nil {
		return nil, err
	}
	if err := f.ensureKubeconfigs(time.Now()); err != nil {
		return nil, err
	}
	return f, nil
}

func (c Config) path(name string) string { return filepath.Join(c.CertDir, name) }

// authority loads or makes <name>.crt and .key. With the key alone the
// certificate is made again, and everything it signed stays good; without the
// key nothing can be signed, and making another authority would lock all nodes
// out, so that is left to a person.
func (c Config) authority(name, commonName string) (*pki.Pair, error) {
	cert, key := c.path(name+".crt"), c.path(name+".key")
	pair, err := pki.Load(cert, key)
	if err == nil {
		return pair, nil
	}
	keyPEM, keyErr := os.ReadFile(key)
	signer, parseErr := crypto.Signer(nil), error(nil)
	if keyErr == nil {
		signer, parseErr = pki.ParseKey(keyPEM)
	}
	switch {
	case keyErr == nil && parseErr == nil:
		c.Logger.Warn("authority's certificate is unusable, making it again from its key", "path", cert, "err", err)
		if pair, err = pki.NewCAFromKey(commonName, signer); err != nil {
			return nil, err
		}
		return pair, pki.WriteFile(cert, pki.EncodeCerts(pair.Cert), pki.ModePublic)
	case keyErr != nil && !errors.Is(keyErr, fs.ErrNotExist):
		return nil, fmt.Errorf("read authority's key: %w", keyErr)
	}
	if content, readErr := os.ReadFile(cert); readErr == nil {
		if _, certErr := pki.ParseCerts(content); certErr == nil {
			return nil, fmt.Errorf("key of authority %s is lost: restore %s, or remove %s to make a new authority (all nodes must then join again)", cert, key, cert)
		}
	}
	c.Logger.Info("making authority", "path", cert)
	if pair, err = pki.NewCA(commonName); err != nil {
		return nil, err
	}
	return pair, pair.Save(cert, key)
}

// leaf is one certificate under CertDir.
type leaf struct {
	name    string
	ca      *pki.Pair
	request pki.Request
	source  **pki.Source
}

func (f *Files) ensureLeaves() error {
	leaves := []leaf{
		{"apiserver", f.CA, f.config.servingRequest(), &f.Serving},
		{"apiserver-kubelet-client", f.CA, pki.Request{
			CommonName: "kube-apiserver-kubelet-client", Organizations: []string{authn.GroupMasters}, Client: true,
		}, &f.KubeletClient},
		{"front-proxy-client", f.FrontProxyCA, pki.Request{CommonName: "front-proxy-client", Client: true}, &f.FrontProxyClient},
	}
	for _, l := range leaves {
		cert, key := f.config.path(l.name+".crt"), f.config.path(l.name+".key")
		issue := func() (*pki.Pair, error) {
			pair, err := l.ca.Issue(l.request)
			if err != nil {
				return nil, err
			}
			return pair, pair.Save(cert, key)
		}
		load := func() (*pki.Pair, error) { return pki.Load(cert, key) }
		pair, err := load()
		if err == nil {
			err = pki.Fits(pair.Cert, l.ca.Cert, l.request, time.Now())
		}
		if err != nil {
			f.config.Logger.Info("making certificate", "path", cert, "reason", err.Error())
			if _, err := issue(); err != nil {
				return err
			}
		}
		source, err := pki.NewSource(load, issue, f.config.Logger)
		if err != nil {
			return err
		}
		*l.source = source
	}
	return nil
}

// servingRequest lists all names under which clients reach the server.
func (c Config) servingRequest() pki.Request {
	r := pki.Request{
		CommonName: "kube-apiserver", Server: true,
		DNSNames: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + c.ClusterDomain, "localhost"},
		IPs:      []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if host, err := os.Hostname(); err == nil && host != "" {
		r.DNSNames = append(r.DNSNames, strings.ToLower(host))
	}
	if c.AdvertiseAddress != nil && !c.AdvertiseAddress.IsUnspecified() {
		r.IPs = append(r.IPs, c.AdvertiseAddress)
	}
	r.IPs = append(r.IPs, c.ServiceIPs...)
	for _, san := range c.ExtraSANs {
		if ip := net.ParseIP(san); ip != nil {
			r.IPs = append(r.IPs, ip)
		} else if san != "" {
			r.DNSNames = append(r.DNSNames, san)
		}
	}
	return r
}

// ensureServiceAccountKeys finds or makes sa.key, and writes sa.pub to match.
// Public keys that were in sa.pub stay, so that a lost sa.key does not make
// running Pods' tokens void.
func (f *Files) ensureServiceAccountKeys() error {
	keyPath, pubPath := f.config.path("sa.key"), f.config.path("sa.pub")
	content, err := os.ReadFile(keyPath)
	if err == nil {
		f.ServiceAccountKey, err = pki.ParseKey(content)
	}
	if err != nil {
		f.config.Logger.Info("making service-account key", "path", keyPath, "reason", err.Error())
		if f.ServiceAccountKey, err = pki.NewKey(); err != nil {
			return err
		}
		encoded, err := pki.EncodeKey(f.ServiceAccountKey)
		if err != nil {
			return err
		}
		if err := pki.WriteFile(keyPath, encoded, pki.ModePrivate); err != nil {
			return err
		}
	}
	own := f.ServiceAccountKey.Public()
	text, err := pki.EncodePublicKey(own)
	if err != nil {
		return err
	}
	f.ServiceAccountKeys = []crypto.PublicKey{own}
	old, err := os.ReadFile(pubPath)
	if err == nil {
		keys, parseErr := pki.ParsePublicKeys(old)
		for _, key := range keys {
			if pki.SameKey(key, own) {
				f.ServiceAccountKeys = keys
				return parseErr
			}
		}
		if parseErr == nil {
			f.ServiceAccountKeys = append(f.ServiceAccountKeys, keys...)
			text = append(text, old...)
		}
	}
	return pki.WriteFile(pubPath, text, pki.ModePublic)
}

// Run renews kubeconfigs while the server runs; the Sources renew their own
// certificates.
func (f *Files) Run(ctx context.Context) error {
	ticker := time.NewTicker(renewalCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := f.ensureKubeconfigs(time.Now()); err != nil {
			f.config.Logger.Error("cannot renew kubeconfigs", "err", err)
		}
	}
}

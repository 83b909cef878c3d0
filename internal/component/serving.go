package component

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/skeg-dev/skeg/internal/pki"
)

// ServingOptions are upstream's flags of an HTTPS listener.
type ServingOptions struct {
	BindAddress string
	// Port 0 means not serving at all.
	Port int
	// CertFile and KeyFile name the serving certificate; "" means one made
	// here, kept under CertDir, or in memory when CertDir is "" too.
	CertFile, KeyFile string
	CertDir           string
	// PairName names the files under CertDir: <PairName>.crt and .key.
	PairName     string
	MinVersion   string
	CipherSuites []string
}

// tlsVersions are the spellings of --tls-min-version.
var tlsVersions = map[string]uint16{
	"": tls.VersionTLS12, "VersionTLS12": tls.VersionTLS12, "VersionTLS13": tls.VersionTLS13,
}

// AddFlags registers the flags.
func (o *ServingOptions) AddFlags(fs *pflag.FlagSet) {
	InFlagGroup(fs, "Serving", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.BindAddress, "bind-address", o.BindAddress, "Address to listen on; 0.0.0.0 or :: for all")
		fs.IntVar(&o.Port, "secure-port", o.Port, "HTTPS port; 0 serves nothing")
		fs.StringVar(&o.CertFile, "tls-cert-file", o.CertFile, "PEM file with the serving certificate (and chain); made if not given")
		fs.StringVar(&o.KeyFile, "tls-private-key-file", o.KeyFile, "PEM file with the key of --tls-cert-file")
		fs.StringVar(&o.CertDir, "cert-dir", o.CertDir, "Where certificates made here are kept")
		fs.StringVar(&o.MinVersion, "tls-min-version", o.MinVersion, "VersionTLS12 or VersionTLS13")
		fs.StringSliceVar(&o.CipherSuites, "tls-cipher-suites", o.CipherSuites, "Cipher suites for TLS 1.2, by Go's names; Go's choice if not given")
	})
}

// Validate returns every fault, naming flags.
func (o *ServingOptions) Validate() []error {
	var errs []error
	if net.ParseIP(o.BindAddress) == nil {
		errs = append(errs, fmt.Errorf("--bind-address: %q is not an IP address", o.BindAddress))
	}
	if o.Port < 0 || o.Port > 65535 {
		errs = append(errs, fmt.Errorf("--secure-port: %d is not between 0 and 65535", o.Port))
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		errs = append(errs, errors.New("--tls-cert-file and --tls-private-key-file: give both or neither"))
	}
	if _, ok := tlsVersions[o.MinVersion]; !ok {
		errs = append(errs, fmt.Errorf("--tls-min-version: %q is neither VersionTLS12 nor VersionTLS13", o.MinVersion))
	}
	if _, err := o.cipherSuites(); err != nil {
		errs = append(errs, err)
	}
	return errs
}

func (o *ServingOptions) cipherSuites() ([]uint16, error) {
	var ids []uint16
	for _, name := range o.CipherSuites {
		at := slices.IndexFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool { return s.Name == name })
		if at < 0 {
			return nil, fmt.Errorf("--tls-cipher-suites: %q is unknown or insecure", name)
		}
		ids = append(ids, tls.CipherSuites()[at].ID)
	}
	return ids, nil
}

// TLS returns the TLS settings with a certificate source, and the source,
// which the caller runs as a part to keep the certificate fresh. Where the
// certificate is made here, it names hosts (DNS names and addresses).
func (o *ServingOptions) TLS(hosts []string, logger *slog.Logger) (*tls.Config, *pki.Source, error) {
	if logger == nil {
		logger = slog.Default()
	}
	source, err := o.source(hosts, logger)
	if err != nil {
		return nil, nil, err
	}
	suites, err := o.cipherSuites()
	if err != nil {
		return nil, nil, err
	}
	return &tls.Config{
		MinVersion:     tlsVersions[o.MinVersion],
		CipherSuites:   suites,
		GetCertificate: source.GetCertificate,
		NextProtos:     []string{"h2", "http/1.1"},
	}, source, nil
}

func (o *ServingOptions) source(hosts []string, logger *slog.Logger) (*pki.Source, error) {
	if o.CertFile != "" {
		return pki.FileSource(o.CertFile, o.KeyFile, logger)
	}
	request := selfSignedRequest(hosts)
	if o.CertDir == "" {
		pair, err := selfSigned(request)
		if err != nil {
			return nil, err
		}
		current := pair
		return pki.NewSource(func() (*pki.Pair, error) { return current, nil }, func() (*pki.Pair, error) {
			next, err := selfSigned(request)
			if err == nil {
				current = next
			}
			return next, err
		}, logger)
	}
	name := o.PairName
	if name == "" {
		name = "serving"
	}
	cert, key := filepath.Join(o.CertDir, name+".crt"), filepath.Join(o.CertDir, name+".key")
	remake := func() (*pki.Pair, error) {
		pair, err := selfSigned(request)
		if err != nil {
			return nil, err
		}
		return pair, pair.Save(cert, key)
	}
	load := func() (*pki.Pair, error) { return pki.Load(cert, key) }
	if _, err := load(); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			logger.Warn("serving certificate is unusable, making a new one", "path", cert, "err", err)
		}
		if _, err := remake(); err != nil {
			return nil, err
		}
	}
	return pki.NewSource(load, remake, logger)
}

// selfSignedRequest names this host, loopback and hosts.
func selfSignedRequest(hosts []string) pki.Request {
	r := pki.Request{
		Server:   true,
		DNSNames: []string{"localhost"},
		IPs:      []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if host, err := os.Hostname(); err == nil {
		hosts = append(hosts, strings.ToLower(host))
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			if !ip.IsUnspecified() {
				r.IPs = append(r.IPs, ip)
			}
		} else if host != "" {
			r.DNSNames = append(r.DNSNames, host)
		}
	}
	r.CommonName = r.DNSNames[len(r.DNSNames)-1]
	return r
}

// selfSigned issues from an authority whose key is forgotten at once.
func selfSigned(r pki.Request) (*pki.Pair, error) {
	ca, err := pki.NewCA(r.CommonName + "-ca")
	if err != nil {
		return nil, err
	}
	return ca.Issue(r)
}

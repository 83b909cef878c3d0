package app

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"

	"github.com/skeg-dev/skeg/apiserver/bootstrap"
	"github.com/skeg-dev/skeg/internal/component"
	"github.com/skeg-dev/skeg/internal/pki"
)

// Run builds the server and runs it until ctx ends.
func (o *Options) Run(ctx context.Context, logger *slog.Logger) error {
	component.RegisterMetrics()
	server, err := New(o, logger)
	if err != nil {
		return err
	}
	return server.Run(ctx)
}

// keys reads the keys and authorities that flags name; the rest is what
// bootstrap made.
func (o *Options) keys(files *bootstrap.Files) (keys, error) {
	k := keys{
		clientCA:     files.CA.Pool,
		frontProxyCA: files.FrontProxyCA.Pool,
		signing:      files.ServiceAccountKey,
		verifying:    files.ServiceAccountKeys,
	}
	if o.ClientCAFile != "" {
		bundle, err := pki.NewBundle(o.ClientCAFile)
		if err != nil {
			return k, fmt.Errorf("--client-ca-file: %w", err)
		}
		k.clientCA = bundle.Pool
	} else {
		pool := files.CA.Pool()
		k.clientCA = func() *x509.CertPool { return pool }
	}
	pool := files.FrontProxyCA.Pool()
	k.frontProxyCA = func() *x509.CertPool { return pool }
	if o.ServiceAccountSigningKey != "" {
		content, err := os.ReadFile(o.ServiceAccountSigningKey)
		if err == nil {
			k.signing, err = pki.ParseKey(content)
		}
		if err != nil {
			return k, fmt.Errorf("--service-account-signing-key-file: %w", err)
		}
		k.verifying = append(k.verifying[:0:0], k.signing.Public())
	}
	if len(o.ServiceAccountKeyFiles) > 0 {
		k.verifying = nil
	}
	for _, path := range o.ServiceAccountKeyFiles {
		content, err := os.ReadFile(path)
		if err != nil {
			return k, fmt.Errorf("--service-account-key-file: %w", err)
		}
		public, err := pki.ParsePublicKeys(content)
		if err != nil {
			return k, fmt.Errorf("--service-account-key-file: %s: %w", path, err)
		}
		k.verifying = append(k.verifying, public...)
	}
	return k, nil
}

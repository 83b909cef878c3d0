package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// sourcePoll is how often files are looked at for a change by somebody
	// else, as upstream's dynamic certificate files.
	sourcePoll = time.Minute
	// sourceRetry is the pause after a renewal that did not work.
	sourceRetry = 30 * time.Second
)

// Source hands TLS the newest certificate. It renews when Renew is given and
// two thirds of the certificate's life are over, and it re-reads files that
// somebody else replaced. GetCertificate is safe for concurrent use.
type Source struct {
	load    func() (*Pair, error)
	renew   func() (*Pair, error)
	logger  *slog.Logger
	current atomic.Pointer[tls.Certificate]
}

// NewSource loads the first certificate. load reads it from where it is kept;
// renew makes and keeps a new one, or is nil when somebody else does that.
func NewSource(load, renew func() (*Pair, error), logger *slog.Logger) (*Source, error) {
	if logger == nil {
		logger = slog.Default()
	}
	s := &Source{load: load, renew: renew, logger: logger}
	pair, err := load()
	if err != nil {
		return nil, err
	}
	s.current.Store(pair.TLS())
	return s, nil
}

// FileSource is a Source of two PEM files that somebody else renews.
func FileSource(certPath, keyPath string, logger *slog.Logger) (*Source, error) {
	s := &Source{logger: logger}
	if logger == nil {
		s.logger = slog.Default()
	}
	// The whole chain is served, hence not through Pair.
	chain := func() (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(certPath, keyPath)
		if err != nil {
			return nil, fmt.Errorf("load serving certificate: %w", err)
		}
		return &cert, nil
	}
	first, err := chain()
	if err != nil {
		return nil, err
	}
	s.current.Store(first)
	s.load = func() (*Pair, error) {
		pair, err := Load(certPath, keyPath)
		if err != nil {
			return nil, err
		}
		next, err := chain()
		if err == nil {
			s.current.Store(next)
		}
		return pair, err
	}
	return s, nil
}

// GetCertificate is for tls.Config.
func (s *Source) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.current.Load(), nil
}

// GetClientCertificate is for tls.Config.
func (s *Source) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return s.current.Load(), nil
}

// Leaf is the certificate handed out now.
func (s *Source) Leaf() *x509.Certificate { return s.current.Load().Leaf }

// Run keeps the certificate fresh until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	timer := time.NewTimer(sourcePoll)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if err := s.Refresh(time.Now()); err != nil {
			s.logger.Error("cannot refresh certificate", "subject", s.Leaf().Subject.String(), "expires", s.Leaf().NotAfter, "err", err)
			timer.Reset(sourceRetry)
			continue
		}
		timer.Reset(sourcePoll)
	}
}

// Refresh takes over what load finds, and renews that when it is due at now.
func (s *Source) Refresh(now time.Time) error {
	pair, err := s.load()
	if err != nil {
		if s.renew == nil {
			return err
		}
		s.logger.Warn("certificate is lost, making a new one", "err", err)
	}
	if s.renew != nil && (err != nil || NeedsRenewal(pair.Cert, now)) {
		if pair, err = s.renew(); err != nil {
			return fmt.Errorf("renew certificate: %w", err)
		}
		s.logger.Info("certificate renewed", "subject", pair.Cert.Subject.String(), "expires", pair.Cert.NotAfter)
	}
	if old := s.current.Load(); old.Leaf == nil || !old.Leaf.Equal(pair.Cert) {
		s.current.Store(pair.TLS())
	}
	return nil
}

// Bundle is a file of authorities that is read again when it changed. Its
// methods are safe for concurrent use.
type Bundle struct {
	path string

	mu       sync.Mutex // guards what follows
	pool     *x509.CertPool
	pem      []byte
	modified time.Time
	checked  time.Time
}

// NewBundle reads path.
func NewBundle(path string) (*Bundle, error) {
	b := &Bundle{path: path}
	if err := b.read(); err != nil {
		return nil, err
	}
	return b, nil
}

// Pool returns the authorities; a file that cannot be read any more leaves
// the last good ones in force.
func (b *Bundle) Pool() *x509.CertPool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refresh()
	return b.pool
}

// PEM returns the file's text as Pool's answer came from.
func (b *Bundle) PEM() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refresh()
	return b.pem
}

func (b *Bundle) refresh() {
	now := time.Now()
	if now.Sub(b.checked) < sourcePoll {
		return
	}
	b.checked = now
	info, err := os.Stat(b.path)
	if err == nil && info.ModTime().Equal(b.modified) {
		return
	}
	if err == nil {
		err = b.read()
	}
	if err != nil {
		slog.Error("cannot read authorities, keeping the last ones", "path", b.path, "err", err)
	}
}

func (b *Bundle) read() error {
	info, err := os.Stat(b.path)
	if err != nil {
		return fmt.Errorf("load authorities: %w", err)
	}
	content, err := os.ReadFile(b.path)
	if err != nil {
		return fmt.Errorf("load authorities: %w", err)
	}
	certs, err := ParseCerts(content)
	if err != nil {
		return fmt.Errorf("load authorities from %s: %w", b.path, err)
	}
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	b.pool, b.pem, b.modified, b.checked = pool, content, info.ModTime(), time.Now()
	return nil
}

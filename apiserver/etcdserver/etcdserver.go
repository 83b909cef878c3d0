// Package etcdserver runs etcd inside the API server's process: configure,
// start, ready, stop. Its client calls the server's functions directly, without
// a socket in between. Only this package starts an etcd; only store/etcd uses
// the client. Goroutines: etcd's own, from New until Run returns.
package etcdserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

const (
	// DefaultQuotaBytes is the size at which etcd refuses writes: what etcd
	// recommends at most, as upstream's distributions set it.
	DefaultQuotaBytes = 8 << 30
	// maxRequestBytes is etcd's and upstream's limit for one object, with room
	// for the envelope.
	maxRequestBytes = 1536 << 10
	// A member without peers elects itself: short ticks make it do so in a
	// tenth of a second, and cost next to nothing.
	tickMillis     = 20
	electionMillis = 100
	// startTimeout bounds recovery of a large log on a slow disk.
	startTimeout = 5 * time.Minute
)

// Config of the server.
type Config struct {
	// DataDir holds the log and the database; required. It is made if missing.
	DataDir string
	// ListenClient is a URL for other clients (etcdctl, backups), with TLS
	// files below for https; "" listens nowhere.
	ListenClient              string
	CertFile, KeyFile, CAFile string
	// QuotaBytes limits the database; 0 means DefaultQuotaBytes.
	QuotaBytes int64
	// UnsafeNoFsync leaves writes to the page cache: for tests only.
	UnsafeNoFsync bool
	// Logger is told warnings and errors; nil means slog.Default().
	Logger *slog.Logger
}

// Server is a running etcd, as a Runnable with Ready.
type Server struct {
	etcd   *embed.Etcd
	client *clientv3.Client
	logger *slog.Logger
}

// New starts etcd and returns when it can be read and written, or ctx ends.
// The caller calls Run, which stops it.
func New(ctx context.Context, c Config) (*Server, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	config, err := configure(c)
	if err != nil {
		return nil, err
	}
	e, err := embed.StartEtcd(config)
	if err != nil {
		return nil, fmt.Errorf("start etcd in %s: %w", c.DataDir, err)
	}
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case <-e.Server.ReadyNotify():
	case err = <-e.Err():
	case <-timeout.C:
		err = fmt.Errorf("not ready after %s", startTimeout)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		e.Close()
		return nil, fmt.Errorf("start etcd in %s: %w", c.DataDir, err)
	}
	return &Server{etcd: e, client: v3client.New(e.Server), logger: c.Logger}, nil
}

func configure(c Config) (*embed.Config, error) {
	if c.DataDir == "" {
		return nil, errors.New("start etcd: no data directory")
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	config := embed.NewConfig()
	config.Dir = c.DataDir
	config.Name = "skeg"
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.ListenPeerUrls, config.ListenClientUrls = nil, nil // no peers; clients are in this process
	config.TickMs, config.ElectionMs = tickMillis, electionMillis
	config.QuotaBackendBytes = c.QuotaBytes
	if c.QuotaBytes == 0 {
		config.QuotaBackendBytes = DefaultQuotaBytes
	}
	config.MaxRequestBytes = maxRequestBytes
	config.MaxTxnOps = math.MaxUint8
	config.UnsafeNoFsync = c.UnsafeNoFsync
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(newZapLogger(c.Logger))
	if c.ListenClient != "" {
		u, err := url.Parse(c.ListenClient)
		if err != nil {
			return nil, fmt.Errorf("start etcd: client URL: %w", err)
		}
		config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*u}, []url.URL{*u}
		config.ClientTLSInfo.CertFile, config.ClientTLSInfo.KeyFile = c.CertFile, c.KeyFile
		config.ClientTLSInfo.TrustedCAFile, config.ClientTLSInfo.ClientCertAuth = c.CAFile, c.CAFile != ""
	}
	return config, nil
}

// Client calls the server directly. It is valid until Run returns; the caller
// does not close it.
func (s *Server) Client() *clientv3.Client { return s.client }

// Ready is nil while the server has a leader: itself.
func (s *Server) Ready() error {
	if s.etcd.Server.Leader() == 0 {
		return errors.New("etcd has no leader")
	}
	return nil
}

// Run waits until ctx ends, or etcd cannot go on (a failed disk), and stops it.
func (s *Server) Run(ctx context.Context) error {
	var err error
	select {
	case <-ctx.Done():
	case err = <-s.etcd.Err():
		err = fmt.Errorf("etcd ended: %w", err)
	case <-s.etcd.Server.StopNotify():
		err = errors.New("etcd ended")
	}
	if closeErr := s.client.Close(); closeErr != nil && !errors.Is(closeErr, context.Canceled) {
		s.logger.Warn("close etcd client", "err", closeErr)
	}
	s.etcd.Close()
	return err
}

// Package etcdserver runs etcd inside the process and makes clients: of that
// server, without a socket in between (Server), or of an external cluster
// (Dial). It is the only package that imports etcd's server. app/ calls it and
// hands the client to store/etcd.
//
//	new ──Run──► starting ──raft ready──► serving ──ctx ends──► stopped
//	                 └───────────error───────────────────────────►
//
// On disk, below Config.DataDir, the layout is etcd's own, so that etcdctl and
// etcdutl work on it:
//
//	<DataDir>/member/
//	├── snap/db          the key space (bbolt)
//	└── wal/*.wal        the raft log, synced before every acknowledgement
//
// Goroutines: etcd's own, from Run until it returns.
package etcdserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// DefaultQuotaBytes is the size of the key space at which etcd refuses writes:
// etcd's own recommendation as an upper bound (https://etcd.io/docs/v3.6/dev-guide/limit/).
const DefaultQuotaBytes = 8 << 30

// Sizes and intervals handed to etcd.
const (
	// maxRequestBytes is upstream's --max-request-bytes default.
	maxRequestBytes = 3 << 19
	// progressInterval is how often idle watches are told the revision;
	// bookmarks come about once a minute.
	progressInterval = time.Minute
	// backendBatch is how long bbolt gathers writes before it commits. The WAL
	// makes writes durable; this only bounds what is replayed at start.
	backendBatch = 100 * time.Millisecond
	// tickMs and electionMs are raft's: the only member elects itself after a
	// few ticks, and the start waits for that. Nobody's heartbeat can be late.
	tickMs, electionMs = 20, 100
	// snapshotCount entries between raft snapshots: etcd 3.6's default.
	snapshotCount = 10000
)

// memberName names the only member. Upstream tools show it.
const memberName = "skeg"

// Config shapes a Server.
type Config struct {
	// DataDir holds the data; required. Created with mode 0700.
	DataDir string
	// ListenClientURL, when not empty, serves etcd's gRPC API there, for
	// etcdctl: http(s)://address:port or unix:///path. https needs TLS.
	ListenClientURL string
	// TLS serves ListenClientURL and verifies its clients; all three files are
	// needed then.
	TLS TLSFiles
	// QuotaBytes bounds the key space; 0 means DefaultQuotaBytes.
	QuotaBytes int64
	// UnsafeNoFsync loses acknowledged writes when the machine fails; only for
	// tests.
	UnsafeNoFsync bool
	// Logger gets etcd's warnings and errors; nil means slog.Default().
	Logger *slog.Logger
}

// TLSFiles names PEM files; empty means none.
type TLSFiles struct {
	CertFile, KeyFile, CAFile string
}

// Server is an embedded, single-member etcd; a component.Runnable with Ready.
type Server struct {
	config Config

	mu     sync.Mutex // guards client
	client *clientv3.Client
	ready  chan struct{} // closed when client is set
}

// New returns a server that is not started.
func New(config Config) *Server {
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.QuotaBytes == 0 {
		config.QuotaBytes = DefaultQuotaBytes
	}
	return &Server{config: config, ready: make(chan struct{})}
}

// Client returns the in-process client, nil before Ready. Run closes it.
func (s *Server) Client() *clientv3.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

// Ready is nil once the server accepts writes.
func (s *Server) Ready() error {
	if s.Client() == nil {
		return errors.New("etcd is not ready")
	}
	return nil
}

// Started is closed when Ready becomes nil.
func (s *Server) Started() <-chan struct{} { return s.ready }

// Run starts etcd, and stops it when ctx ends. It returns an error when etcd
// does not start or stops by itself.
func (s *Server) Run(ctx context.Context) error {
	config, err := s.embedConfig()
	if err != nil {
		return err
	}
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("start etcd in %s: %w", s.config.DataDir, err)
	}
	defer etcd.Close()
	select {
	case <-etcd.Server.ReadyNotify():
	case <-ctx.Done():
		return nil
	case err := <-etcd.Err():
		return fmt.Errorf("start etcd in %s: %w", s.config.DataDir, err)
	case <-etcd.Server.StopNotify():
		return fmt.Errorf("start etcd in %s: it stopped", s.config.DataDir)
	}
	client := v3client.New(etcd.Server)
	s.mu.Lock()
	s.client = client
	s.mu.Unlock()
	close(s.ready)
	s.config.Logger.Info("etcd is ready", "dataDir", s.config.DataDir)
	defer s.closeClient(client)
	select {
	case <-ctx.Done():
		return nil
	case err := <-etcd.Err():
		return fmt.Errorf("run etcd: %w", err)
	case <-etcd.Server.StopNotify():
		return errors.New("run etcd: it stopped")
	}
}

// closeClient ends the client's watches and leases. Client stays set: callers
// that are late get errors instead of a nil pointer.
func (s *Server) closeClient(client *clientv3.Client) {
	if err := client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		s.config.Logger.Warn("etcd client not closed", "err", err)
	}
}

func (s *Server) embedConfig() (*embed.Config, error) {
	if s.config.DataDir == "" {
		return nil, errors.New("configure etcd: no data directory")
	}
	if err := os.MkdirAll(s.config.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make etcd's data directory: %w", err)
	}
	c := embed.NewConfig()
	c.Name = memberName
	c.Dir = s.config.DataDir
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapLogger(s.config.Logger))
	c.UnsafeNoFsync = s.config.UnsafeNoFsync
	c.QuotaBackendBytes = s.config.QuotaBytes
	c.MaxRequestBytes = maxRequestBytes
	c.WatchProgressNotifyInterval = progressInterval
	c.BackendBatchInterval = backendBatch
	c.SnapshotCount = snapshotCount
	c.TickMs, c.ElectionMs = tickMs, electionMs
	c.BackendFreelistType = "map"
	c.AutoCompactionRetention = "0" // the API server compacts
	c.Metrics = "basic"
	// A single member talks to no peers; the advertised URL is only a name.
	c.ListenPeerUrls = nil
	c.ListenClientUrls, c.AdvertiseClientUrls = nil, nil
	c.InitialCluster = c.InitialClusterFromName(memberName)
	if s.config.ListenClientURL != "" {
		u, err := url.Parse(s.config.ListenClientURL)
		if err != nil {
			return nil, fmt.Errorf("configure etcd's client URL: %w", err)
		}
		c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{*u}, []url.URL{*u}
		if s.config.TLS != (TLSFiles{}) {
			c.ClientTLSInfo = transport.TLSInfo{
				CertFile: s.config.TLS.CertFile, KeyFile: s.config.TLS.KeyFile,
				TrustedCAFile: s.config.TLS.CAFile, ClientCertAuth: true,
			}
		}
	}
	return c, nil
}

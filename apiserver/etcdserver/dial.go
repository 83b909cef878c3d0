package etcdserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Keep-alive of the connection to an external etcd: upstream's values, which
// find a dead connection within 40 s without making etcd complain of pings.
const (
	dialTimeout      = 20 * time.Second
	keepAliveTime    = 30 * time.Second
	keepAliveTimeout = 10 * time.Second
)

// Client is what Server.Client and Dial return, for those who hand it on to
// store/etcd and make no calls with it themselves.
type Client = clientv3.Client

// DialConfig names an external etcd.
type DialConfig struct {
	// Endpoints are URLs; required.
	Endpoints []string
	// TLS authenticates to and verifies the servers; the files are read again
	// for new connections, so renewed certificates are picked up.
	TLS TLSFiles
	// Logger gets the client's warnings; nil means slog.Default().
	Logger *slog.Logger
}

// Dial returns a client of an external etcd. The caller closes it. It does not
// wait for a connection; see Check.
func Dial(config DialConfig) (*clientv3.Client, error) {
	if len(config.Endpoints) == 0 {
		return nil, errors.New("dial etcd: no endpoints")
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	c := clientv3.Config{
		Endpoints:            config.Endpoints,
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    keepAliveTime,
		DialKeepAliveTimeout: keepAliveTimeout,
		Logger:               zapLogger(config.Logger),
	}
	if config.TLS != (TLSFiles{}) {
		info := transport.TLSInfo{CertFile: config.TLS.CertFile, KeyFile: config.TLS.KeyFile, TrustedCAFile: config.TLS.CAFile}
		tls, err := info.ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("dial etcd: read TLS files: %w", err)
		}
		c.TLS = tls
	}
	client, err := clientv3.New(c)
	if err != nil {
		return nil, fmt.Errorf("dial etcd: %w", err)
	}
	return client, nil
}

// Check asks etcd for a linearized read, which needs a leader and a majority;
// for /readyz. The key is the one etcdctl's endpoint health reads.
func Check(ctx context.Context, client *clientv3.Client) error {
	if client == nil {
		return errors.New("etcd is not ready")
	}
	if _, err := client.Get(ctx, "health"); err != nil {
		return fmt.Errorf("read from etcd: %w", err)
	}
	return nil
}

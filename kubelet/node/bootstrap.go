package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/certificate"
	"k8s.io/utils/clock"

	"github.com/skeg-dev/skeg/internal/pki"
)

// Credentials are how the node gets and keeps its kubeconfig.
type Credentials struct {
	// Node's name.
	Node string
	// Kubeconfig is the file to use, written if it is missing.
	Kubeconfig string
	// BootstrapKubeconfig may be used once to request a certificate; "" for none.
	BootstrapKubeconfig string
	// Join makes the bootstrap kubeconfig where there is none; nil for not.
	Join *Join
	// CertDir keeps the certificate.
	CertDir string
	// Client makes a client of a configuration.
	Client func(*rest.Config) (kubernetes.Interface, error)
	// RenewFailures counts the requests of certificates that failed; nil does not.
	RenewFailures certificate.Counter
	Clock         clock.Clock
	Logger        *slog.Logger
}

// bootstrapRetry spaces out tries to reach a server that is not up yet.
const bootstrapRetry = 2 * time.Second

// Ensure makes the kubeconfig if need be, by requesting a certificate with the
// bootstrap one, and blocks until there is one or ctx ends. The certificate
// returned is to be run, for its renewal; it is nil for a kubeconfig that
// somebody else made and keeps.
func (c *Credentials) Ensure(ctx context.Context) (*Certificate, error) {
	if c.foreign() {
		return nil, nil
	}
	if err := c.join(ctx); err != nil {
		return nil, err
	}
	bootstrap, err := c.bootstrapConfig()
	if err != nil {
		return nil, err
	}
	cert, err := NewClientCertificate(c.Node, c.CertDir,
		func() (kubernetes.Interface, error) {
			if bootstrap == nil {
				return nil, errors.New("the certificate has expired and there is no bootstrap kubeconfig")
			}
			return c.Client(bootstrap)
		},
		func() (kubernetes.Interface, error) {
			config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
			if err != nil {
				return nil, fmt.Errorf("read kubeconfig: %w", err)
			}
			return c.Client(config)
		}, c.RenewFailures)
	if err != nil {
		return nil, err
	}
	if cert.Ready() != nil {
		if err := c.first(ctx, cert); err != nil {
			return nil, err
		}
	}
	return cert, c.write(bootstrap, cert)
}

// foreign tells a kubeconfig that does not use the certificate kept here.
func (c *Credentials) foreign() bool {
	config, err := clientcmd.LoadFromFile(c.Kubeconfig)
	if err != nil {
		return false
	}
	current := config.Contexts[config.CurrentContext]
	if current == nil || config.AuthInfos[current.AuthInfo] == nil {
		return true
	}
	return config.AuthInfos[current.AuthInfo].ClientCertificate != c.currentPath()
}

func (c *Credentials) currentPath() string { return c.CertDir + "/kubelet-client-current.pem" }

// join writes the bootstrap kubeconfig, trying until the server is there.
func (c *Credentials) join(ctx context.Context) error {
	if c.Join == nil || exists(c.Kubeconfig) {
		return nil
	}
	for {
		err := c.Join.Bootstrap(ctx, c.BootstrapKubeconfig)
		if err == nil {
			return nil
		}
		c.Logger.Warn("joining cluster", "server", c.Join.Server, "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-c.Clock.After(bootstrapRetry):
		}
	}
}

func (c *Credentials) bootstrapConfig() (*rest.Config, error) {
	if c.BootstrapKubeconfig == "" || !exists(c.BootstrapKubeconfig) {
		if exists(c.Kubeconfig) {
			return nil, nil
		}
		return nil, fmt.Errorf("kubeconfig %s does not exist, and neither does a bootstrap kubeconfig %q", c.Kubeconfig, c.BootstrapKubeconfig)
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.BootstrapKubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read bootstrap kubeconfig: %w", err)
	}
	return config, nil
}

// certificatePoll is how often the arrival of the first certificate is looked
// for; the manager has no way to tell.
const certificatePoll = 100 * time.Millisecond

// first waits for the first certificate.
func (c *Credentials) first(ctx context.Context, cert *Certificate) error {
	c.Logger.Info("requesting client certificate", "node", c.Node)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cert.start()
	for cert.Ready() != nil {
		select {
		case <-ctx.Done():
			cert.manager.Stop()
			return fmt.Errorf("wait for client certificate: %w", ctx.Err())
		case <-c.Clock.After(certificatePoll):
		}
	}
	c.Logger.Info("client certificate issued", "node", c.Node, "path", cert.Path())
	return nil
}

// write makes the kubeconfig that uses the certificate by its path, so that
// clients see renewed ones.
func (c *Credentials) write(bootstrap *rest.Config, cert *Certificate) error {
	if exists(c.Kubeconfig) {
		return nil
	}
	if bootstrap == nil {
		return fmt.Errorf("kubeconfig %s does not exist", c.Kubeconfig)
	}
	ca := bootstrap.CAData
	if len(ca) == 0 && bootstrap.CAFile != "" {
		var err error
		if ca, err = os.ReadFile(bootstrap.CAFile); err != nil {
			return fmt.Errorf("read authority: %w", err)
		}
	}
	err := pki.Kubeconfig{
		User: "system:node:" + c.Node, Server: bootstrap.Host, CA: ca, CertFile: cert.Path(), KeyFile: cert.Path(),
	}.Write(c.Kubeconfig)
	if err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/certificate"
)

// Certificate is one of the node's certificates, requested from the cluster
// and renewed in time. It is a component.Runnable.
type Certificate struct {
	manager certificate.Manager
	path    string
	what    string
	started sync.Once
}

// Ready is nil once there is a certificate.
func (c *Certificate) Ready() error {
	if c.manager.Current() == nil {
		return fmt.Errorf("%s certificate was not issued yet", c.what)
	}
	return nil
}

// Run requests and renews until ctx ends.
func (c *Certificate) Run(ctx context.Context) error {
	c.start()
	<-ctx.Done()
	c.manager.Stop()
	return nil
}

// start begins to request, once.
func (c *Certificate) start() { c.started.Do(c.manager.Start) }

// Path is the PEM file with the current certificate and key.
func (c *Certificate) Path() string { return c.path }

// Current is the certificate for a TLS server; an error while there is none.
func (c *Certificate) Current(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if current := c.manager.Current(); current != nil {
		return current, nil
	}
	return nil, errors.New("no serving certificate was issued yet")
}

// Expiry is when a certificate ends; zero if there is none.
func Expiry(current func(*tls.ClientHelloInfo) (*tls.Certificate, error)) time.Time {
	cert, err := current(&tls.ClientHelloInfo{})
	if err != nil || cert == nil || len(cert.Certificate) == 0 {
		return time.Time{}
	}
	leaf := cert.Leaf
	if leaf == nil {
		if leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return time.Time{}
		}
	}
	return leaf.NotAfter
}

// userName is the identity of a node (node authorizer).
func userName(node string) pkix.Name {
	return pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}
}

// NewClientCertificate is the node's identity towards the API server, kept in
// dir as kubelet-client-current.pem. The first one is requested with
// bootstrap, later ones with own. failures counts the requests that failed;
// nil does not.
func NewClientCertificate(node, dir string, bootstrap, own func() (kubernetes.Interface, error), failures certificate.Counter) (*Certificate, error) {
	return newCertificate("client", "kubelet-client", dir, &certificate.Config{
		ClientsetFn: func(current *tls.Certificate) (kubernetes.Interface, error) {
			if current == nil {
				return bootstrap()
			}
			return own()
		},
		Template:   &x509.CertificateRequest{Subject: userName(node)},
		SignerName: certificatesv1.KubeAPIServerClientKubeletSignerName,
		GetUsages:  certificate.DefaultKubeletClientGetUsages,
		Name:       "kubelet-client",

		CertificateRenewFailure: failures,
	})
}

// NewServingCertificate is the certificate of the node's own server, kept in
// dir as kubelet-server-current.pem. failures is as with the other one.
func NewServingCertificate(node, dir string, ips []netip.Addr, client kubernetes.Interface, failures certificate.Counter) (*Certificate, error) {
	template := &x509.CertificateRequest{Subject: userName(node), DNSNames: []string{node}}
	for _, ip := range ips {
		template.IPAddresses = append(template.IPAddresses, net.IP(ip.AsSlice()))
	}
	return newCertificate("serving", "kubelet-server", dir, &certificate.Config{
		ClientsetFn: func(*tls.Certificate) (kubernetes.Interface, error) { return client, nil },
		GetTemplate: func() *x509.CertificateRequest { return template },
		SignerName:  certificatesv1.KubeletServingSignerName,
		GetUsages:   certificate.DefaultKubeletServingGetUsages,
		Name:        "kubelet-server",

		CertificateRenewFailure: failures,
	})
}

func newCertificate(what, prefix, dir string, config *certificate.Config) (*Certificate, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make certificate directory: %w", err)
	}
	store, err := certificate.NewFileStore(prefix, dir, dir, "", "")
	if err != nil {
		return nil, fmt.Errorf("open store of %s certificate: %w", what, err)
	}
	config.CertificateStore = store
	manager, err := certificate.NewManager(config)
	if err != nil {
		return nil, fmt.Errorf("manage %s certificate: %w", what, err)
	}
	return &Certificate{manager: manager, path: store.CurrentPath(), what: what}, nil
}

package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/skeg-dev/skeg/internal/pki"
)

// Join is how a new node finds its cluster without a kubeconfig: the server's
// address, a bootstrap token, and the hash of the authority's public key, by
// which the authority is known before anything secret is sent.
type Join struct {
	Server, Token string
	// CACertHash is "sha256:<hex>" of the authority's public key.
	CACertHash string
}

// Validate returns every fault.
func (j Join) Validate() []error {
	var errs []error
	if !strings.HasPrefix(j.Server, "https://") {
		errs = append(errs, fmt.Errorf("--server: %q is not an https URL", j.Server))
	}
	id, secret, ok := strings.Cut(j.Token, ".")
	if !ok || len(id) != 6 || len(secret) != 16 {
		errs = append(errs, errors.New("--token: is not of the form abcdef.0123456789abcdef"))
	}
	if digest, ok := strings.CutPrefix(j.CACertHash, "sha256:"); !ok || len(digest) != 64 {
		errs = append(errs, errors.New("--ca-cert-hash: is not of the form sha256:<64 hexadecimal digits>"))
	}
	return errs
}

// joinTimeout bounds one try to reach the server.
const joinTimeout = 30 * time.Second

// Bootstrap fetches the cluster's authority, checks it against the hash and
// writes a kubeconfig with the token to path.
func (j Join) Bootstrap(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	ca, err := j.fetchCA(ctx)
	if err != nil {
		return fmt.Errorf("find authority of %s: %w", j.Server, err)
	}
	if err := (pki.Kubeconfig{User: "kubelet-bootstrap", Server: j.Server, CA: ca, Token: j.Token}).Write(path); err != nil {
		return fmt.Errorf("write bootstrap kubeconfig: %w", err)
	}
	return nil
}

// fetchCA takes the authority from the server's certificate chain if it is
// there, else from the public ConfigMap cluster-info. Either way only the one
// with the right hash is taken; nothing secret is sent.
func (j Join) fetchCA(ctx context.Context) ([]byte, error) {
	var chain []*x509.Certificate
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, // the authority is checked by its hash
			VerifyConnection: func(state tls.ConnectionState) error {
				chain = state.PeerCertificates
				return nil
			},
		},
		DisableKeepAlives: true,
	}}
	url := strings.TrimSuffix(j.Server, "/") + "/api/v1/namespaces/kube-public/configmaps/cluster-info"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if ca := j.matching(chain); ca != nil {
		return ca, nil
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server's chain does not hold it and cluster-info cannot be read: %s", response.Status)
	}
	// A ConfigMap is at most 1 MiB.
	data, err := io.ReadAll(io.LimitReader(response.Body, 2<<20))
	if err != nil {
		return nil, err
	}
	return j.fromClusterInfo(data)
}

// matching returns the pinned certificate of a chain as PEM, nil if none is.
func (j Join) matching(chain []*x509.Certificate) []byte {
	for _, cert := range chain {
		if cert.IsCA && pki.Hash(cert) == j.CACertHash {
			return pki.EncodeCerts(cert)
		}
	}
	return nil
}

func (j Join) fromClusterInfo(data []byte) ([]byte, error) {
	var info corev1.ConfigMap
	if err := yaml.Unmarshal(data, &info); err != nil {
		return nil, fmt.Errorf("decode cluster-info: %w", err)
	}
	config, err := clientcmd.Load([]byte(info.Data["kubeconfig"]))
	if err != nil {
		return nil, fmt.Errorf("decode kubeconfig of cluster-info: %w", err)
	}
	for _, cluster := range config.Clusters {
		certs, err := pki.ParseCerts(cluster.CertificateAuthorityData)
		if err != nil {
			continue
		}
		if ca := j.matching(certs); ca != nil {
			return ca, nil
		}
	}
	return nil, errors.New("no authority has the hash of --ca-cert-hash")
}

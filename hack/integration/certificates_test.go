package integration

import (
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skeg-dev/skeg/internal/pki"
	"github.com/skeg-dev/skeg/internal/testkit"
)

// nodeUser is who asks for certificates.
const nodeUser = "system:node:certified"

// request sends a certificate request as a kubelet does.
func (s *scenario) request(t *testing.T, name, signer string, ips []net.IP, usages ...certificatesv1.KeyUsage) {
	t.Helper()
	config := rest.CopyConfig(s.server.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: nodeUser, Groups: []string{"system:nodes", "system:authenticated"}}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := pki.NewCSR(key, nodeUser, []string{"system:nodes"}, nil, ips)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CertificatesV1().CertificateSigningRequests().Create(t.Context(), &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: encoded, SignerName: signer,
			Usages: append([]certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature}, usages...),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// awaitCertificate waits for the signed certificate and verifies it.
func (s *scenario) awaitCertificate(t *testing.T, name string, usage x509.ExtKeyUsage) *x509.Certificate {
	t.Helper()
	var encoded []byte
	testkit.Eventually(t, "the certificate", func() error {
		found, err := s.client.CertificatesV1().CertificateSigningRequests().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if encoded = found.Status.Certificate; len(encoded) == 0 {
			return errors.New("not issued")
		}
		return nil
	})
	certificates, err := pki.ParseCerts(encoded)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pki.LoadPool(s.server.PKIDir + "/ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := certificates[0].Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
		t.Error(err)
	}
	if subject := certificates[0].Subject; subject.CommonName != nodeUser || !slices.Equal(subject.Organization, []string{"system:nodes"}) {
		t.Errorf("subject %s", subject)
	}
	return certificates[0]
}

// clientCertificate: a node's renewal is approved and signed without anybody.
func clientCertificate(t *testing.T, s *scenario) {
	s.request(t, "client", certificatesv1.KubeAPIServerClientKubeletSignerName, nil, certificatesv1.UsageClientAuth)
	s.awaitCertificate(t, "client", x509.ExtKeyUsageClientAuth)
}

// servingCertificate: approved for the addresses the Node reports.
func servingCertificate(t *testing.T, s *scenario) {
	node := testkit.Node("certified", "1", "1Gi", 10)
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.7"}}
	s.node(t, node)
	address := net.ParseIP("192.0.2.7")
	s.request(t, "serving", certificatesv1.KubeletServingSignerName, []net.IP{address}, certificatesv1.UsageServerAuth)
	certificate := s.awaitCertificate(t, "serving", x509.ExtKeyUsageServerAuth)
	if len(certificate.IPAddresses) != 1 || !certificate.IPAddresses[0].Equal(address) {
		t.Errorf("addresses %v", certificate.IPAddresses)
	}
}

// cleaner: a request denied long ago is deleted, one denied now is kept.
func cleaner(t *testing.T, s *scenario) {
	requests := s.client.CertificatesV1().CertificateSigningRequests()
	deny := func(name string, at time.Time) {
		t.Helper()
		s.request(t, name, "example.com/signer", nil, certificatesv1.UsageClientAuth)
		found, err := requests.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		found.Status.Conditions = append(found.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateDenied, Status: corev1.ConditionTrue, Reason: "Test", LastUpdateTime: metav1.NewTime(at),
		})
		if _, err := requests.UpdateApproval(t.Context(), name, found, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	deny("denied-now", time.Now())
	deny("denied-long-ago", time.Now().Add(-2*time.Hour))
	testkit.Eventually(t, "the end of the old request", func() error {
		_, err := requests.Get(t.Context(), "denied-long-ago", metav1.GetOptions{})
		return gone(err)
	})
	if _, err := requests.Get(t.Context(), "denied-now", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

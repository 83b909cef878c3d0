package certsigner_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/controller-manager/controllers/certapprover"
	"github.com/skeg-dev/skeg/controller-manager/controllers/certsigner"
	"github.com/skeg-dev/skeg/controller-manager/reconcile/reconciletest"
	"github.com/skeg-dev/skeg/internal/pki"
	"github.com/skeg-dev/skeg/internal/testkit"
)

func TestApproveAndSign(t *testing.T) {
	t.Parallel()
	ca, err := pki.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	client := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	serving := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}
	cases := []struct {
		name, user, signer string
		commonName         string
		ips                []net.IP
		usages             []certificatesv1.KeyUsage
		want               string // "signed", "failed" or "waits"
		approved           bool   // by a person, beforehand
	}{
		{"bootstrap", "system:bootstrap:abcdef", certificatesv1.KubeAPIServerClientKubeletSignerName, "system:node:n1", nil, client, "signed", false},
		{"no permission", "mallory", certificatesv1.KubeAPIServerClientKubeletSignerName, "system:node:n1", nil, client, "waits", false},
		{"serving of its own address", "system:node:n1", certificatesv1.KubeletServingSignerName, "system:node:n1", []net.IP{{10, 0, 0, 1}}, serving, "signed", false},
		{"serving of another's address", "system:node:n1", certificatesv1.KubeletServingSignerName, "system:node:n1", []net.IP{{10, 0, 0, 2}}, serving, "waits", false},
		{"a person's, not approved", "alice", certificatesv1.KubeAPIServerClientSignerName, "alice", nil, client, "waits", false},
		{"a person's, approved", "alice", certificatesv1.KubeAPIServerClientSignerName, "alice", nil, client, "signed", true},
		{"approved but not allowed", "alice", certificatesv1.KubeAPIServerClientSignerName, "alice", nil, serving, "failed", true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := reconciletest.New(t, &corev1.Node{
				ObjectMeta: metav1.ObjectMeta{Name: "n1"},
				Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}}},
			})
			c.Client.PrependReactor("create", "subjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
				review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview)
				review.Status.Allowed = review.Spec.User != "mallory" && review.Spec.ResourceAttributes.Subresource == "nodeclient"
				return true, review, nil
			})
			key, err := pki.NewKey()
			if err != nil {
				t.Fatal(err)
			}
			organization := []string{"system:nodes"}
			if tc.user == "alice" {
				organization = nil
			}
			request, err := pki.NewCSR(key, tc.commonName, organization, nil, tc.ips)
			if err != nil {
				t.Fatal(err)
			}
			object := &certificatesv1.CertificateSigningRequest{
				ObjectMeta: metav1.ObjectMeta{Name: "r"},
				Spec: certificatesv1.CertificateSigningRequestSpec{
					Request: request, SignerName: tc.signer, Usages: tc.usages, Username: tc.user, Groups: []string{"system:nodes"}, ExpirationSeconds: ptr.To[int32](3600),
				},
			}
			if tc.approved {
				object.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue}}
			}
			c.Add(object)
			c.Start(certapprover.New(c.Env, true), certsigner.New(c.Env, func(string) (*pki.Pair, error) { return ca, nil }, 24*time.Hour))
			testkit.Eventually(t, tc.want, func() error {
				r, err := c.Client.CertificatesV1().CertificateSigningRequests().Get(t.Context(), "r", metav1.GetOptions{})
				if err != nil {
					return err
				}
				return outcome(r, tc.want, ca)
			})
		})
	}
}

func outcome(r *certificatesv1.CertificateSigningRequest, want string, ca *pki.Pair) error {
	failed := len(r.Status.Conditions) > 0 && r.Status.Conditions[len(r.Status.Conditions)-1].Type == certificatesv1.CertificateFailed
	switch {
	case want == "waits" && len(r.Status.Conditions) == 0, want == "failed" && failed:
		return nil
	case want != "signed" || len(r.Status.Certificate) == 0:
		return fmt.Errorf("status %+v", r.Status)
	}
	certs, err := pki.ParseCerts(r.Status.Certificate)
	if err != nil {
		return err
	}
	if life := time.Until(certs[0].NotAfter); life > time.Hour {
		return fmt.Errorf("lives %v", life)
	}
	_, err = certs[0].Verify(x509.VerifyOptions{Roots: ca.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return errors.Join(err)
}

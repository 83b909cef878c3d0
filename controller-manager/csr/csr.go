// Package csr holds what the approving, signing and cleaning controllers share
// about CertificateSigningRequests: their state, and what each built-in signer
// accepts. It is pure and starts no goroutines.
package csr

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
)

// Names that node certificates carry (API reference, Kubernetes signers).
const (
	NodeUserPrefix = "system:node:"
	NodesGroup     = "system:nodes"
)

// Has reports whether the request has a true condition of the type.
func Has(request *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType) bool {
	return slices.ContainsFunc(request.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool {
		return c.Type == kind && c.Status != corev1.ConditionFalse
	})
}

// CheckNodeClient returns why the request is not one a kubelet makes for its
// client certificate (signer kube-apiserver-client-kubelet), nil if it is.
func CheckNodeClient(request *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	if err := checkNode(request); err != nil {
		return err
	}
	if hasNames(request) || len(request.DNSNames)+len(request.IPAddresses) > 0 {
		return errors.New("a kubelet's client certificate has no subject alternative names")
	}
	return checkUsages(usages, certificatesv1.UsageClientAuth)
}

// CheckNodeServing is CheckNodeClient for the kubelet-serving signer.
func CheckNodeServing(request *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	if err := checkNode(request); err != nil {
		return err
	}
	if len(request.DNSNames)+len(request.IPAddresses) == 0 {
		return errors.New("a kubelet's serving certificate needs a DNS name or an IP address")
	}
	if hasNames(request) {
		return errors.New("a kubelet's serving certificate has no e-mail addresses and no URIs")
	}
	return checkUsages(usages, certificatesv1.UsageServerAuth)
}

// CheckClient is what the kube-apiserver-client signer accepts: any subject,
// for client authentication only. system:masters is refused by admission.
func CheckClient(_ *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	return checkUsages(usages, certificatesv1.UsageClientAuth)
}

func checkNode(request *x509.CertificateRequest) error {
	if !slices.Equal(request.Subject.Organization, []string{NodesGroup}) {
		return fmt.Errorf("subject organization is not %s", NodesGroup)
	}
	if !strings.HasPrefix(request.Subject.CommonName, NodeUserPrefix) {
		return fmt.Errorf("subject common name does not begin with %s", NodeUserPrefix)
	}
	return nil
}

func hasNames(request *x509.CertificateRequest) bool {
	return len(request.EmailAddresses)+len(request.URIs) > 0
}

// checkUsages wants the one authentication usage, with digital signature and
// key encipherment allowed beside it and nothing else.
func checkUsages(usages []certificatesv1.KeyUsage, auth certificatesv1.KeyUsage) error {
	if !slices.Contains(usages, auth) {
		return fmt.Errorf("usage %q is missing", auth)
	}
	for _, u := range usages {
		if u != auth && u != certificatesv1.UsageDigitalSignature && u != certificatesv1.UsageKeyEncipherment {
			return fmt.Errorf("usage %q is not allowed", u)
		}
	}
	return nil
}

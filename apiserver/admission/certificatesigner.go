package admission

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/skeg-dev/skeg/apiserver/authz"
)

// CertificateApproval lets only those decide about a certificate request who
// hold the verb approve on its signer (API reference,
// CertificateSigningRequest, "Authorization").
type CertificateApproval struct{ authorizer authz.Authorizer }

// NewCertificateApproval makes the plugin.
func NewCertificateApproval(authorizer authz.Authorizer) *CertificateApproval {
	return &CertificateApproval{authorizer: authorizer}
}

// Name is the plugin's name in flags and metrics.
func (*CertificateApproval) Name() string { return "CertificateApproval" }

// Validate checks writes to the subresource approval.
func (p *CertificateApproval) Validate(ctx context.Context, a *Attributes) error {
	old, ok := a.Old.(*certificatesv1.CertificateSigningRequest)
	if !ok || a.Operation != Update || !isResource(a, certificatesv1.GroupName, "certificatesigningrequests", "approval") {
		return nil
	}
	if !mayUseSigner(ctx, p.authorizer, a, "approve", old.Spec.SignerName) {
		return Forbidden(a, fmt.Errorf("user not permitted to approve requests with signerName %q", old.Spec.SignerName))
	}
	return nil
}

// CertificateSigning lets only those issue a certificate, or fail a request,
// who hold the verb sign on its signer.
type CertificateSigning struct{ authorizer authz.Authorizer }

// NewCertificateSigning makes the plugin.
func NewCertificateSigning(authorizer authz.Authorizer) *CertificateSigning {
	return &CertificateSigning{authorizer: authorizer}
}

// Name is the plugin's name in flags and metrics.
func (*CertificateSigning) Name() string { return "CertificateSigning" }

// Validate checks writes to the subresource status that change what a signer
// writes.
func (p *CertificateSigning) Validate(ctx context.Context, a *Attributes) error {
	old, ok := a.Old.(*certificatesv1.CertificateSigningRequest)
	if !ok || a.Operation != Update || !isResource(a, certificatesv1.GroupName, "certificatesigningrequests", "status") {
		return nil
	}
	request, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return fmt.Errorf("check signer: unexpected object %T", a.Object)
	}
	if bytes.Equal(old.Status.Certificate, request.Status.Certificate) && equality.Semantic.DeepEqual(old.Status.Conditions, request.Status.Conditions) {
		return nil
	}
	if !mayUseSigner(ctx, p.authorizer, a, "sign", old.Spec.SignerName) {
		return Forbidden(a, fmt.Errorf("user not permitted to sign requests with signerName %q", old.Spec.SignerName))
	}
	return nil
}

// mayUseSigner asks for the signer, and for all signers of its domain. An
// authorizer that fails allows nothing.
func mayUseSigner(ctx context.Context, authorizer authz.Authorizer, a *Attributes, verb, signer string) bool {
	names := []string{signer}
	if domain, _, ok := strings.Cut(signer, "/"); ok {
		names = append(names, domain+"/*")
	}
	for _, name := range names {
		decision, _, _ := authorizer.Authorize(ctx, authz.Attributes{
			User: a.User, Verb: verb, Group: certificatesv1.GroupName, Version: "*", Resource: "signers", Name: name,
		})
		if decision == authz.Allow {
			return true
		}
	}
	return false
}

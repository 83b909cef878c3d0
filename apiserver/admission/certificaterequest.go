package admission

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/skeg-dev/skeg/apiserver/authn"
)

// CertificateRequest writes who made a CertificateSigningRequest into it, in
// place of what the client claims (API reference: spec.username and its
// siblings are set by the server and immutable), and refuses requests for a
// certificate that would make its holder a member of system:masters
// (upstream's CertificateSubjectRestriction).
type CertificateRequest struct{}

// NewCertificateRequest makes the plugin.
func NewCertificateRequest() *CertificateRequest { return &CertificateRequest{} }

// Name is the plugin's name in flags and metrics: that of the upstream plugin
// whose refusal it includes.
func (*CertificateRequest) Name() string { return "CertificateSubjectRestriction" }

// Mutate writes the requester.
func (*CertificateRequest) Mutate(_ context.Context, a *Attributes) error {
	request, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok || a.Operation != Create || a.Subresource != "" {
		return nil
	}
	request.Spec.Username, request.Spec.UID = a.User.Name, a.User.UID
	request.Spec.Groups = slices.Clone(a.User.Groups)
	request.Spec.Extra = nil
	for key, values := range a.User.Extra {
		if request.Spec.Extra == nil {
			request.Spec.Extra = map[string]certificatesv1.ExtraValue{}
		}
		request.Spec.Extra[key] = slices.Clone(values)
	}
	return nil
}

// Validate refuses system:masters. A request that cannot be read is refused by
// the kind's validation.
func (*CertificateRequest) Validate(_ context.Context, a *Attributes) error {
	request, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok || a.Operation != Create || request.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	block, _ := pem.Decode(request.Spec.Request)
	if block == nil {
		return nil
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil && slices.Contains(parsed.Subject.Organization, authn.GroupMasters) {
		return Forbidden(a, fmt.Errorf("use of %s signer with %s group is not allowed", request.Spec.SignerName, authn.GroupMasters))
	}
	return nil
}

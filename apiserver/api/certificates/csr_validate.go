package certificates

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// minCertificateSeconds is the shortest life that can be asked for.
const minCertificateSeconds = 600

// usages are the key usages that can be asked for (certificates/v1 KeyUsage).
var usages = []certificatesv1.KeyUsage{
	certificatesv1.UsageSigning, certificatesv1.UsageDigitalSignature, certificatesv1.UsageContentCommitment,
	certificatesv1.UsageKeyEncipherment, certificatesv1.UsageKeyAgreement, certificatesv1.UsageDataEncipherment,
	certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign, certificatesv1.UsageEncipherOnly, certificatesv1.UsageDecipherOnly,
	certificatesv1.UsageAny, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning,
	certificatesv1.UsageEmailProtection, certificatesv1.UsageSMIME, certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel,
	certificatesv1.UsageIPsecUser, certificatesv1.UsageTimestamping, certificatesv1.UsageOCSPSigning,
	certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC,
}

func validateCSR(c *certificatesv1.CertificateSigningRequest) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	if err := checkRequest(c.Spec.Request); err != nil {
		errs = append(errs, field.Invalid(spec.Child("request"), c.Spec.Request, err.Error()))
	}
	if len(c.Spec.Usages) == 0 {
		errs = append(errs, field.Required(spec.Child("usages"), ""))
	}
	for i, usage := range c.Spec.Usages {
		at := spec.Child("usages").Index(i)
		if !slices.Contains(usages, usage) {
			errs = append(errs, field.NotSupported(at, usage, usages))
		}
		if slices.Contains(c.Spec.Usages[:i], usage) {
			errs = append(errs, field.Duplicate(at, usage))
		}
	}
	if c.Spec.SignerName == certificatesv1.SchemeGroupVersion.Group+"/legacy-unknown" || c.Spec.SignerName == "kubernetes.io/legacy-unknown" {
		errs = append(errs, field.Invalid(spec.Child("signerName"), c.Spec.SignerName, "the legacy signerName is not allowed via this API version"))
	} else {
		errs = append(errs, validateSignerName(c.Spec.SignerName, spec.Child("signerName"))...)
	}
	if seconds := c.Spec.ExpirationSeconds; seconds != nil && *seconds < minCertificateSeconds {
		errs = append(errs, field.Invalid(spec.Child("expirationSeconds"), *seconds, "may not specify a duration less than 600 seconds (10 minutes)"))
	}
	return append(errs, validateConditions(c, nil, field.NewPath("status", "conditions"))...)
}

// checkRequest wants one PEM block with a request that its key has signed.
func checkRequest(request []byte) error {
	block, rest := pem.Decode(request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return errors.New("must contain exactly one PEM block")
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return fmt.Errorf("parse certificate request: %w", err)
	}
	if err := parsed.CheckSignature(); err != nil {
		return fmt.Errorf("check signature: %w", err)
	}
	return nil
}

// validateSignerName wants "<domain>/<path>", the domain with a dot in it.
func validateSignerName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	domain, rest, ok := strings.Cut(name, "/")
	if !ok || rest == "" {
		return field.ErrorList{field.Invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	var errs field.ErrorList
	for _, msg := range validation.IsDNS1123Subdomain(domain) {
		errs = append(errs, field.Invalid(path, domain, "validating label: "+msg))
	}
	if !strings.Contains(domain, ".") {
		errs = append(errs, field.Invalid(path, domain, "should be a domain with at least two segments separated by dots"))
	}
	for _, msg := range validation.IsDNS1123Subdomain(rest) {
		errs = append(errs, field.Invalid(path, rest, "validating label: "+msg))
	}
	// 571: what fits the name of the object that rights are given on.
	if len(name) > 571 {
		errs = append(errs, field.TooLong(path, name, 571))
	}
	return errs
}

func validateCSRUpdate(c, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	if equality.Semantic.DeepEqual(c.Spec, old.Spec) {
		return nil
	}
	return validateCSR(c)
}

func validateCSRApproval(c, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return validateConditions(c, old, field.NewPath("status", "conditions"))
}

func validateCSRStatus(c, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	errs := validateConditions(c, old, field.NewPath("status", "conditions"))
	at := field.NewPath("status", "certificate")
	issued := len(old.Status.Certificate) > 0
	switch {
	case issued && !bytes.Equal(c.Status.Certificate, old.Status.Certificate):
		errs = append(errs, field.Invalid(at, c.Status.Certificate, "field is immutable"))
	case !issued && len(c.Status.Certificate) > 0:
		if err := checkCertificates(c.Status.Certificate); err != nil {
			errs = append(errs, field.Invalid(at, "<certificate data>", err.Error()))
		}
	}
	return errs
}

// checkCertificates wants PEM blocks of certificates only; what stands
// between them is ignored, as TLS clients do.
func checkCertificates(data []byte) error {
	found := 0
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("only CERTIFICATE PEM blocks are allowed, found %q", block.Type)
		}
		if len(block.Headers) > 0 {
			return errors.New("no PEM block headers are permitted")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("parse certificate: %w", err)
		}
		found++
		data = rest
	}
	if found == 0 {
		return errors.New("must contain at least one CERTIFICATE PEM block")
	}
	return nil
}

func validateConditions(c, old *certificatesv1.CertificateSigningRequest, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[certificatesv1.RequestConditionType]bool{}
	for i, condition := range c.Status.Conditions {
		at := path.Index(i)
		switch {
		case condition.Type == "":
			errs = append(errs, field.Required(at.Child("type"), ""))
		case seen[condition.Type]:
			errs = append(errs, field.Duplicate(at.Child("type"), condition.Type))
		}
		seen[condition.Type] = true
		errs = append(errs, validateConditionStatus(condition, at.Child("status"))...)
	}
	if seen[certificatesv1.CertificateApproved] && seen[certificatesv1.CertificateDenied] {
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "Approved and Denied conditions are mutually exclusive"))
	}
	if old == nil {
		return errs
	}
	for _, before := range old.Status.Conditions {
		if (decides(before.Type) || before.Type == certificatesv1.CertificateFailed) && !seen[before.Type] {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not remove a condition of type %q", before.Type)))
		}
	}
	return errs
}

// validateConditionStatus: a decision is made or not there at all.
func validateConditionStatus(c certificatesv1.CertificateSigningRequestCondition, path *field.Path) field.ErrorList {
	all := []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}
	if decides(c.Type) || c.Type == certificatesv1.CertificateFailed {
		all = []corev1.ConditionStatus{corev1.ConditionTrue}
	}
	switch {
	case c.Status == "":
		return field.ErrorList{field.Required(path, "")}
	case !slices.Contains(all, c.Status):
		return field.ErrorList{field.NotSupported(path, c.Status, all)}
	}
	return nil
}

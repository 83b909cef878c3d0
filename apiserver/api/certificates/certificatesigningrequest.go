package certificates

import (
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// CertificateSigningRequest defines the kind.
func CertificateSigningRequest() *resource.Definition {
	kind := certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest")
	return &resource.Definition{
		Kind:                     kind,
		Resource:                 "certificatesigningrequests",
		ShortNames:               []string{"csr"},
		New:                      func() runtime.Object { return &certificatesv1.CertificateSigningRequest{} },
		NewList:                  func() runtime.Object { return &certificatesv1.CertificateSigningRequestList{} },
		Default:                  typed.Do(defaultCSR),
		PrepareCreate:            typed.Do(createCSR),
		PrepareUpdate:            typed.Do2(updateCSR),
		Validate:                 typed.Check(validateCSR),
		ValidateUpdate:           typed.Check2(validateCSRUpdate),
		AllowUnconditionalUpdate: true,
		Fields: typed.Fields(func(c *certificatesv1.CertificateSigningRequest) map[string]string {
			return map[string]string{"spec.signerName": c.Spec.SignerName}
		}),
		Columns: csrColumns(),
		Row:     typed.Row(csrRow),
		Status: &resource.StatusUpdate{
			Prepare:  typed.Do2(prepareCSRStatus),
			Validate: typed.Check2(validateCSRStatus),
		},
		Subresources: []resource.Subresource{{
			Name:     "approval",
			Kind:     kind,
			New:      func() runtime.Object { return &certificatesv1.CertificateSigningRequest{} },
			Verbs:    []string{"get", "patch", "update"},
			Set:      setApproval,
			Validate: typed.Check2(validateCSRApproval),
		}},
	}
}

func defaultCSR(c *certificatesv1.CertificateSigningRequest) {
	for i := range c.Status.Conditions {
		if c.Status.Conditions[i].Status == "" {
			c.Status.Conditions[i].Status = corev1.ConditionTrue
		}
	}
}

func createCSR(c *certificatesv1.CertificateSigningRequest) {
	c.Status = certificatesv1.CertificateSigningRequestStatus{}
}

// updateCSR leaves only metadata to the main endpoint.
func updateCSR(c, old *certificatesv1.CertificateSigningRequest) {
	c.Spec = old.Spec
	c.Status = old.Status
}

// prepareCSRStatus leaves the certificate and other conditions to a signer,
// and approval to those who may approve.
func prepareCSRStatus(c, old *certificatesv1.CertificateSigningRequest) {
	c.Spec = old.Spec
	conditions := keepConditions(c.Status.Conditions, func(k certificatesv1.RequestConditionType) bool { return !decides(k) })
	conditions = append(conditions, keepConditions(old.Status.Conditions, decides)...)
	c.Status.Conditions = stampConditions(conditions, old.Status.Conditions)
}

// setApproval takes the decision over and nothing else.
func setApproval(parent, body runtime.Object) error {
	c := parent.(*certificatesv1.CertificateSigningRequest)
	wanted, ok := body.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return apierrors.NewBadRequest("expected a CertificateSigningRequest")
	}
	defaultCSR(wanted)
	c.Status.Conditions = stampConditions(wanted.Status.Conditions, c.Status.Conditions)
	return nil
}

func decides(kind certificatesv1.RequestConditionType) bool {
	return kind == certificatesv1.CertificateApproved || kind == certificatesv1.CertificateDenied
}

func keepConditions(all []certificatesv1.CertificateSigningRequestCondition, keep func(certificatesv1.RequestConditionType) bool) []certificatesv1.CertificateSigningRequestCondition {
	var kept []certificatesv1.CertificateSigningRequestCondition
	for _, c := range all {
		if keep(c.Type) {
			kept = append(kept, c)
		}
	}
	return kept
}

// stampConditions sets the times that a client leaves out.
func stampConditions(conditions, old []certificatesv1.CertificateSigningRequestCondition) []certificatesv1.CertificateSigningRequestCondition {
	now := metav1.Now()
	for i := range conditions {
		c := &conditions[i]
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = now
		}
		if !c.LastTransitionTime.IsZero() {
			continue
		}
		c.LastTransitionTime = now
		for _, before := range old {
			if before.Type == c.Type && before.Status == c.Status && !before.LastTransitionTime.IsZero() {
				c.LastTransitionTime = before.LastTransitionTime
			}
		}
	}
	return conditions
}

func csrColumns() []column.Definition {
	spec := certificatesv1.CertificateSigningRequestSpec{}.SwaggerDoc()
	return []column.Definition{
		column.Name(),
		column.Age(),
		column.Text("SignerName", spec["signerName"]),
		column.Text("Requestor", spec["request"]),
		column.Text("RequestedDuration", spec["expirationSeconds"]),
		column.Text("Condition", certificatesv1.CertificateSigningRequestStatus{}.SwaggerDoc()["conditions"]),
	}
}

func csrRow(c *certificatesv1.CertificateSigningRequest, now metav1.Time) []any {
	requested, signer := column.None, c.Spec.SignerName
	if c.Spec.ExpirationSeconds != nil {
		requested = duration.HumanDuration(time.Duration(*c.Spec.ExpirationSeconds) * time.Second)
	}
	if signer == "" {
		signer = column.None
	}
	return []any{c.Name, column.Since(c.CreationTimestamp, now), signer, c.Spec.Username, requested, csrState(c)}
}

func csrState(c *certificatesv1.CertificateSigningRequest) string {
	var approved, denied, failed bool
	for _, condition := range c.Status.Conditions {
		switch condition.Type {
		case certificatesv1.CertificateApproved:
			approved = true
		case certificatesv1.CertificateDenied:
			denied = true
		case certificatesv1.CertificateFailed:
			failed = true
		}
	}
	state := "Pending"
	switch {
	case denied:
		state = "Denied"
	case approved:
		state = "Approved"
	}
	if failed {
		state += ",Failed"
	}
	if len(c.Status.Certificate) > 0 {
		state += ",Issued"
	}
	return state
}

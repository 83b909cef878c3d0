// Package certsigner issues the certificates of approved requests for the
// built-in signers kube-apiserver-client, kube-apiserver-client-kubelet and
// kubelet-serving. Requests that a signer does not accept are marked Failed.
// legacy-unknown is not served. app/ lists it; it starts no goroutines.
package certsigner

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	certificateslisters "k8s.io/client-go/listers/certificates/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/skeg-dev/skeg/controller-manager/csr"
	"github.com/skeg-dev/skeg/controller-manager/reconcile"
	"github.com/skeg-dev/skeg/internal/pki"
)

// checks says what each signer accepts.
var checks = map[string]func(*x509.CertificateRequest, []certificatesv1.KeyUsage) error{
	certificatesv1.KubeAPIServerClientSignerName:        csr.CheckClient,
	certificatesv1.KubeAPIServerClientKubeletSignerName: csr.CheckNodeClient,
	certificatesv1.KubeletServingSignerName:             csr.CheckNodeServing,
}

// Authority returns the CA that signs for a signer. It is called for every
// certificate, so that renewed files are used at once.
type Authority func(signer string) (*pki.Pair, error)

// Controller reconciles approved CertificateSigningRequests.
type Controller struct {
	client    kubernetes.Interface
	authority Authority
	longest   time.Duration
	requests  cache.SharedIndexInformer
	lister    certificateslisters.CertificateSigningRequestLister
}

// New returns the controller. longest is the lifetime of a certificate that
// does not ask for a shorter one (--cluster-signing-duration).
func New(env reconcile.Env, authority Authority, longest time.Duration) *Controller {
	found := env.Informers.Certificates().V1().CertificateSigningRequests()
	return &Controller{client: env.Client, authority: authority, longest: longest, requests: found.Informer(), lister: found.Lister()}
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "certificatesigningrequest-signing-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{reconcile.Self(c.requests)}
}

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	request, err := c.lister.Get(key)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	check, ours := checks[request.Spec.SignerName]
	if !ours || len(request.Status.Certificate) > 0 || !csr.Has(request, certificatesv1.CertificateApproved) ||
		csr.Has(request, certificatesv1.CertificateDenied) || csr.Has(request, certificatesv1.CertificateFailed) {
		return reconcile.Result{}, nil
	}
	parsed, err := pki.ParseCSR(request.Spec.Request)
	if err == nil {
		err = check(parsed, request.Spec.Usages)
	}
	if err != nil {
		return reconcile.Result{}, c.fail(ctx, request, err)
	}
	authority, err := c.authority(request.Spec.SignerName)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("load authority of %s: %w", request.Spec.SignerName, err)
	}
	certificate, err := pki.SignCSR(authority, request.Spec.Request, request.Spec.Usages, lifetime(request.Spec.ExpirationSeconds, c.longest))
	if err != nil {
		return reconcile.Result{}, err
	}
	next := request.DeepCopy()
	next.Status.Certificate = certificate
	if _, err := c.client.CertificatesV1().CertificateSigningRequests().UpdateStatus(ctx, next, metav1.UpdateOptions{}); err != nil {
		return reconcile.Result{}, fmt.Errorf("write certificate: %w", err)
	}
	slog.Info("certificate issued", "csr", request.Name, "subject", parsed.Subject.CommonName, "signer", request.Spec.SignerName)
	return reconcile.Result{}, nil
}

// shortest is the least lifetime the API allows to ask for.
const shortest = 10 * time.Minute

// lifetime is what was asked for, within bounds.
func lifetime(seconds *int32, longest time.Duration) time.Duration {
	if seconds == nil {
		return longest
	}
	return min(max(time.Duration(*seconds)*time.Second, shortest), longest)
}

// fail says on the request why it will never be signed.
func (c *Controller) fail(ctx context.Context, request *certificatesv1.CertificateSigningRequest, why error) error {
	next := request.DeepCopy()
	now := metav1.Now()
	next.Status.Conditions = append(next.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue,
		Reason: "SignerValidationFailure", Message: why.Error(), LastUpdateTime: now, LastTransitionTime: now,
	})
	if _, err := c.client.CertificatesV1().CertificateSigningRequests().UpdateStatus(ctx, next, metav1.UpdateOptions{}); err != nil {
		return errors.Join(why, fmt.Errorf("mark certificate request failed: %w", err))
	}
	return nil
}

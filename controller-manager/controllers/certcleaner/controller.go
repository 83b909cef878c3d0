// Package certcleaner deletes CertificateSigningRequests that have served
// their purpose, were refused, wait in vain, or whose certificate has expired.
// app/ lists it; it starts no goroutines of its own.
package certcleaner

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	certificateslisters "k8s.io/client-go/listers/certificates/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/skeg-dev/skeg/controller-manager/csr"
	"github.com/skeg-dev/skeg/controller-manager/reconcile"
	"github.com/skeg-dev/skeg/internal/pki"
)

// How long requests are kept, as upstream keeps them.
const (
	keepDecided = time.Hour
	keepPending = 24 * time.Hour
)

// Controller reconciles CertificateSigningRequests by their age.
type Controller struct {
	client   kubernetes.Interface
	requests cache.SharedIndexInformer
	lister   certificateslisters.CertificateSigningRequestLister
}

// New returns the controller.
func New(env reconcile.Env) *Controller {
	found := env.Informers.Certificates().V1().CertificateSigningRequests()
	return &Controller{client: env.Client, requests: found.Informer(), lister: found.Lister()}
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "certificatesigningrequest-cleaner-controller" }

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
	end := keptUntil(request)
	if wait := time.Until(end); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	slog.Info("certificate request cleaned up", "csr", key, "keptUntil", end)
	err = c.client.CertificatesV1().CertificateSigningRequests().Delete(ctx, key, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &request.UID}})
	if err != nil && !apierrors.IsNotFound(err) {
		return reconcile.Result{}, fmt.Errorf("delete certificate request: %w", err)
	}
	return reconcile.Result{}, nil
}

// keptUntil is when the request may go.
func keptUntil(request *certificatesv1.CertificateSigningRequest) time.Time {
	decided := time.Time{}
	for _, c := range request.Status.Conditions {
		if c.LastUpdateTime.After(decided) {
			decided = c.LastUpdateTime.Time
		}
	}
	var end time.Time
	switch {
	case decided.IsZero() && !csr.Has(request, certificatesv1.CertificateApproved):
		end = request.CreationTimestamp.Add(keepPending)
	case decided.IsZero():
		end = request.CreationTimestamp.Add(keepDecided)
	case csr.Has(request, certificatesv1.CertificateApproved) && len(request.Status.Certificate) == 0 && !csr.Has(request, certificatesv1.CertificateFailed):
		end = decided.Add(keepPending) // approved, waiting for its signer
	default:
		end = decided.Add(keepDecided)
	}
	if certs, err := pki.ParseCerts(request.Status.Certificate); err == nil && len(certs) > 0 && certs[0].NotAfter.Before(end) {
		end = certs[0].NotAfter
	}
	return end
}

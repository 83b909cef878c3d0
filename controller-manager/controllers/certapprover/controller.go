// Package certapprover approves the certificate requests of kubelets: the first
// one made with a bootstrap token, the renewals a node makes for itself, and
// the serving certificate of a node whose addresses are those it asks for.
// Anything else waits for a person. app/ lists it; it starts no goroutines.
package certapprover

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	certificateslisters "k8s.io/client-go/listers/certificates/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/skeg-dev/skeg/controller-manager/csr"
	"github.com/skeg-dev/skeg/controller-manager/reconcile"
	"github.com/skeg-dev/skeg/internal/pki"
)

// nodeWait is when to look again for a node that has not registered or not
// reported its addresses yet; a serving request comes with the first start.
const nodeWait = 2 * time.Second

// Controller reconciles CertificateSigningRequests that nobody decided about.
type Controller struct {
	client          kubernetes.Interface
	serving         bool
	requests, nodes cache.SharedIndexInformer
	lister          certificateslisters.CertificateSigningRequestLister
	nodeLister      corelisters.NodeLister
}

// New returns the controller. serving says whether serving certificates of
// kubelets are approved too; upstream leaves those to others.
func New(env reconcile.Env, serving bool) *Controller {
	found, nodes := env.Informers.Certificates().V1().CertificateSigningRequests(), env.Informers.Core().V1().Nodes()
	return &Controller{
		client: env.Client, serving: serving,
		requests: found.Informer(), lister: found.Lister(), nodes: nodes.Informer(), nodeLister: nodes.Lister(),
	}
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "certificatesigningrequest-approving-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{reconcile.Self(c.requests), reconcile.Reads(c.nodes)}
}

// rule is one kind of request that is approved when the requestor may do the
// verb "create" on this subresource of certificatesigningrequests.
type rule struct {
	matches     func(*certificatesv1.CertificateSigningRequest, *x509.CertificateRequest) bool
	subresource string
	message     string
}

// rules in the order they are tried; the more specific permission first.
var rules = []rule{
	{
		func(r *certificatesv1.CertificateSigningRequest, x *x509.CertificateRequest) bool {
			return nodeClient(r, x) && r.Spec.Username == x.Subject.CommonName
		},
		"selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.",
	},
	{nodeClient, "nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."},
}

func nodeClient(r *certificatesv1.CertificateSigningRequest, x *x509.CertificateRequest) bool {
	return r.Spec.SignerName == certificatesv1.KubeAPIServerClientKubeletSignerName && csr.CheckNodeClient(x, r.Spec.Usages) == nil
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
	if len(request.Status.Certificate) > 0 || csr.Has(request, certificatesv1.CertificateApproved) || csr.Has(request, certificatesv1.CertificateDenied) {
		return reconcile.Result{}, nil
	}
	parsed, err := pki.ParseCSR(request.Spec.Request)
	if err != nil {
		slog.Debug("certificate request is not readable", "csr", key, "err", err)
		return reconcile.Result{}, nil
	}
	if c.serving && request.Spec.SignerName == certificatesv1.KubeletServingSignerName {
		return c.decideServing(ctx, request, parsed)
	}
	matched := false
	for _, r := range rules {
		if !r.matches(request, parsed) {
			continue
		}
		matched = true
		allowed, err := c.allowed(ctx, request, r.subresource)
		if err != nil {
			return reconcile.Result{}, err
		}
		if allowed {
			return reconcile.Result{}, c.approve(ctx, request, r.message)
		}
	}
	if matched {
		return reconcile.Result{}, fmt.Errorf("approve %s: its requestor %q is not permitted", key, request.Spec.Username)
	}
	return reconcile.Result{}, nil
}

func (c *Controller) allowed(ctx context.Context, request *certificatesv1.CertificateSigningRequest, subresource string) (bool, error) {
	extra := map[string]authorizationv1.ExtraValue{}
	for k, v := range request.Spec.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	review, err := c.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: request.Spec.Username, UID: request.Spec.UID, Groups: request.Spec.Groups, Extra: extra,
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Group: certificatesv1.GroupName, Resource: "certificatesigningrequests", Verb: "create", Subresource: subresource, Version: "*",
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("ask whether %q may request: %w", request.Spec.Username, err)
	}
	return review.Status.Allowed, nil
}

// decideServing approves a node's own request for names and addresses that
// its Node object has.
func (c *Controller) decideServing(ctx context.Context, request *certificatesv1.CertificateSigningRequest, parsed *x509.CertificateRequest) (reconcile.Result, error) {
	if csr.CheckNodeServing(parsed, request.Spec.Usages) != nil || request.Spec.Username != parsed.Subject.CommonName ||
		!slices.Contains(request.Spec.Groups, csr.NodesGroup) {
		return reconcile.Result{}, nil
	}
	name := strings.TrimPrefix(parsed.Subject.CommonName, csr.NodeUserPrefix)
	node, err := c.nodeLister.Get(name)
	if err != nil && !apierrors.IsNotFound(err) {
		return reconcile.Result{}, err
	}
	if err != nil || !covers(node, parsed) {
		if time.Since(request.CreationTimestamp.Time) > time.Hour {
			return reconcile.Result{}, nil // a person decides
		}
		return reconcile.Result{RequeueAfter: nodeWait}, nil
	}
	return reconcile.Result{}, c.approve(ctx, request, "Auto approving kubelet serving certificate: its names are those of the node.")
}

// covers reports whether the node has every name and address of the request.
func covers(node *corev1.Node, parsed *x509.CertificateRequest) bool {
	names := map[string]bool{node.Name: true}
	for _, a := range node.Status.Addresses {
		names[a.Address] = true
		if ip, err := netip.ParseAddr(a.Address); err == nil {
			names[ip.String()] = true
		}
	}
	for _, name := range parsed.DNSNames {
		if !names[name] {
			return false
		}
	}
	for _, ip := range parsed.IPAddresses {
		if !names[ip.String()] {
			return false
		}
	}
	return true
}

func (c *Controller) approve(ctx context.Context, request *certificatesv1.CertificateSigningRequest, message string) error {
	next := request.DeepCopy()
	next.Status.Conditions = append(next.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue,
		Reason: "AutoApproved", Message: message, LastUpdateTime: metav1.Now(),
	})
	if _, err := c.client.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, next.Name, next, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("approve certificate request: %w", err)
	}
	slog.Info("certificate request approved", "csr", request.Name, "user", request.Spec.Username, "signer", request.Spec.SignerName)
	return nil
}

// Package tokencleaner deletes bootstrap tokens that have expired. app/ lists
// it; it starts no goroutines.
package tokencleaner

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// expirationKey is where a token's Secret says when it ends (RFC 3339).
const expirationKey = "expiration"

// Controller reconciles Secrets of bootstrap tokens.
type Controller struct {
	client  kubernetes.Interface
	secrets cache.SharedIndexInformer
	lister  corelisters.SecretLister
}

// New returns the controller.
func New(env reconcile.Env) *Controller {
	secrets := env.Informers.Core().V1().Secrets()
	return &Controller{client: env.Client, secrets: secrets.Informer(), lister: secrets.Lister()}
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "token-cleaner-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{reconcile.On(c.secrets, func(q reconcile.Queue, _, now *corev1.Secret) {
		if now != nil && isToken(now) {
			q.Add(reconcile.KeyOf(now))
		}
	})}
}

func isToken(secret *corev1.Secret) bool {
	return secret.Namespace == metav1.NamespaceSystem && secret.Type == corev1.SecretTypeBootstrapToken
}

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read key: %w", err)
	}
	secret, err := c.lister.Secrets(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	text, expires := secret.Data[expirationKey]
	if !isToken(secret) || !expires || len(text) == 0 {
		return reconcile.Result{}, nil
	}
	// One that cannot be read is treated as over: a typo must not make a
	// password for ever.
	if end, err := time.Parse(time.RFC3339, string(text)); err == nil {
		if wait := time.Until(end); wait > 0 {
			return reconcile.Result{RequeueAfter: wait}, nil
		}
	}
	slog.Info("expired bootstrap token deleted", "secret", key)
	err = c.client.CoreV1().Secrets(namespace).Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &secret.UID}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return reconcile.Result{}, fmt.Errorf("delete bootstrap token: %w", err)
	}
	return reconcile.Result{}, nil
}

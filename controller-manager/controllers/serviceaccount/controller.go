// Package serviceaccount keeps the ServiceAccount "default" in every active
// Namespace. app/ lists it; it starts no goroutines of its own.
package serviceaccount

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

const defaultAccount = "default"

// Controller reconciles the default account, by key of the Namespace.
type Controller struct {
	client               kubernetes.Interface
	namespaces, accounts cache.SharedIndexInformer
	namespaceLister      corelisters.NamespaceLister
	accountLister        corelisters.ServiceAccountLister
}

// New returns the controller.
func New(env reconcile.Env) *Controller {
	core := env.Informers.Core().V1()
	return &Controller{
		client:     env.Client,
		namespaces: core.Namespaces().Informer(), namespaceLister: core.Namespaces().Lister(),
		accounts: core.ServiceAccounts().Informer(), accountLister: core.ServiceAccounts().Lister(),
	}
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "serviceaccount-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{
		reconcile.Self(c.namespaces),
		reconcile.On(c.accounts, func(q reconcile.Queue, old, now *corev1.ServiceAccount) {
			if now == nil && old.Name == defaultAccount {
				q.Add(old.Namespace)
			}
		}),
	}
}

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	namespace, err := c.namespaceLister.Get(key)
	if apierrors.IsNotFound(err) || (err == nil && namespace.Status.Phase == corev1.NamespaceTerminating) || (err == nil && namespace.DeletionTimestamp != nil) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	if _, err := c.accountLister.ServiceAccounts(key).Get(defaultAccount); !apierrors.IsNotFound(err) {
		return reconcile.Result{}, err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: defaultAccount, Namespace: key}}
	_, err = c.client.CoreV1().ServiceAccounts(key).Create(ctx, account, metav1.CreateOptions{})
	if err == nil || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{}, fmt.Errorf("create service account: %w", err)
}

// Package rootca publishes the certificate authority of the API server as the
// ConfigMap kube-root-ca.crt in every active Namespace, for pods to trust.
// app/ lists it; it starts no goroutines of its own.
package rootca

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// Name and content of the ConfigMap, as pods' projected volumes expect them.
const (
	configMapName = "kube-root-ca.crt"
	dataKey       = "ca.crt"
	// annotation explains the ConfigMap to its reader.
	annotation     = "kubernetes.io/description"
	annotationText = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
		"No other usage is guaranteed across distributions of Kubernetes clusters."
)

// Controller reconciles the ConfigMap, by key of the Namespace.
type Controller struct {
	client           kubernetes.Interface
	bundle           func() ([]byte, error)
	namespaces, maps cache.SharedIndexInformer
	namespaceLister  corelisters.NamespaceLister
	configMapLister  corelisters.ConfigMapLister
}

// New returns the controller. bundle reads the CA certificates in PEM; it is
// called at every look, so that a renewed file is published.
func New(env reconcile.Env, bundle func() ([]byte, error)) *Controller {
	core := env.Informers.Core().V1()
	return &Controller{
		client: env.Client, bundle: bundle,
		namespaces: core.Namespaces().Informer(), namespaceLister: core.Namespaces().Lister(),
		maps: core.ConfigMaps().Informer(), configMapLister: core.ConfigMaps().Lister(),
	}
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "root-ca-certificate-publisher-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{
		reconcile.Self(c.namespaces),
		reconcile.On(c.maps, func(q reconcile.Queue, old, now *corev1.ConfigMap) {
			if m := old; m != nil && m.Name == configMapName {
				q.Add(m.Namespace)
			}
		}),
	}
}

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	namespace, err := c.namespaceLister.Get(key)
	if apierrors.IsNotFound(err) || (err == nil && (namespace.Status.Phase == corev1.NamespaceTerminating || namespace.DeletionTimestamp != nil)) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	bundle, err := c.bundle()
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read root certificates: %w", err)
	}
	want := map[string]string{dataKey: string(bundle)}
	current, err := c.configMapLister.ConfigMaps(key).Get(configMapName)
	if apierrors.IsNotFound(err) {
		made := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: configMapName, Namespace: key, Annotations: map[string]string{annotation: annotationText}},
			Data:       want,
		}
		_, err := c.client.CoreV1().ConfigMaps(key).Create(ctx, made, metav1.CreateOptions{})
		if err == nil || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("create config map: %w", err)
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	if maps.Equal(current.Data, want) && len(current.BinaryData) == 0 && current.Annotations[annotation] != "" {
		return reconcile.Result{}, nil
	}
	next := current.DeepCopy()
	next.Data, next.BinaryData = want, nil
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, annotation, annotationText)
	if _, err := c.client.CoreV1().ConfigMaps(key).Update(ctx, next, metav1.UpdateOptions{}); err != nil {
		return reconcile.Result{}, fmt.Errorf("update config map: %w", err)
	}
	return reconcile.Result{}, nil
}

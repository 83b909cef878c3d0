// Package endpoints mirrors what is behind every Service with a selector into
// an Endpoints object of the same name, for clients that still read that API.
// app/ lists it; it starts no goroutines of its own.
package endpoints

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/skeg-dev/skeg/controller-manager/reconcile"
	"github.com/skeg-dev/skeg/controller-manager/servicepods"
)

// Labels and values of Endpoints written here, as upstream sets them.
const (
	labelManagedBy = "endpoints.kubernetes.io/managed-by"
	managedBy      = "endpoint-controller"
)

// Controller reconciles Endpoints of Services.
type Controller struct {
	client                    kubernetes.Interface
	events                    record.EventRecorder
	services, pods, endpoints cache.SharedIndexInformer
	serviceLister             corelisters.ServiceLister
	podLister                 corelisters.PodLister
	endpointsLister           corelisters.EndpointsLister
}

// New returns the controller.
func New(env reconcile.Env) *Controller {
	core := env.Informers.Core().V1()
	return &Controller{
		client: env.Client, events: env.Events("endpoint-controller"),
		services: core.Services().Informer(), serviceLister: core.Services().Lister(),
		pods: core.Pods().Informer(), podLister: core.Pods().Lister(),
		endpoints: core.Endpoints().Informer(), endpointsLister: core.Endpoints().Lister(),
	}
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "endpoints-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{
		reconcile.Self(c.services),
		reconcile.On(c.pods, func(q reconcile.Queue, old, now *corev1.Pod) {
			for _, key := range servicepods.Affected(c.serviceLister, old, now) {
				q.Add(key)
			}
		}),
		reconcile.Self(c.endpoints),
	}
}

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read key: %w", err)
	}
	service, err := c.serviceLister.Services(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, c.removeLeft(ctx, namespace, name)
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	if service.Spec.Type == corev1.ServiceTypeExternalName || service.Spec.Selector == nil || service.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	pods, err := c.podLister.Pods(namespace).List(labels.SelectorFromSet(service.Spec.Selector))
	if err != nil {
		return reconcile.Result{}, err
	}
	subsets, over := build(service, pods)
	current, err := c.endpointsLister.Endpoints(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		current, err = &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, c.write(ctx, service, current, subsets, over)
}

// write brings the object to the wanted state, when it differs.
func (c *Controller) write(ctx context.Context, service *corev1.Service, current *corev1.Endpoints, subsets []corev1.EndpointSubset, over string) error {
	next := current.DeepCopy()
	next.Subsets = subsets
	next.Labels = maps.Clone(service.Labels)
	if next.Labels == nil {
		next.Labels = map[string]string{}
	}
	next.Labels[labelManagedBy] = managedBy
	delete(next.Labels, corev1.IsHeadlessService)
	if service.Spec.ClusterIP == corev1.ClusterIPNone {
		next.Labels[corev1.IsHeadlessService] = ""
	}
	if over != "" {
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, corev1.EndpointsOverCapacity, over)
	} else {
		delete(next.Annotations, corev1.EndpointsOverCapacity)
	}
	if current.ResourceVersion == "" {
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, corev1.EndpointsLastChangeTriggerTime, service.CreationTimestamp.UTC().Format(time.RFC3339Nano))
		_, err := c.client.CoreV1().Endpoints(next.Namespace).Create(ctx, next, metav1.CreateOptions{})
		return c.failed(service, "FailedToCreateEndpoint", err)
	}
	if equality.Semantic.DeepEqual(current.Subsets, next.Subsets) && equality.Semantic.DeepEqual(current.Labels, next.Labels) &&
		equality.Semantic.DeepEqual(current.Annotations, next.Annotations) {
		return nil
	}
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, corev1.EndpointsLastChangeTriggerTime, time.Now().UTC().Format(time.RFC3339Nano))
	_, err := c.client.CoreV1().Endpoints(next.Namespace).Update(ctx, next, metav1.UpdateOptions{})
	return c.failed(service, "FailedToUpdateEndpoint", err)
}

func (c *Controller) failed(service *corev1.Service, reason string, err error) error {
	if err == nil || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
		c.events.Eventf(service, corev1.EventTypeWarning, reason, "Failed to write endpoints of service %s: %v", reconcile.KeyOf(service), err)
	}
	return fmt.Errorf("write endpoints: %w", err)
}

// removeLeft deletes what we wrote for a service that is gone.
func (c *Controller) removeLeft(ctx context.Context, namespace, name string) error {
	left, err := c.endpointsLister.Endpoints(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if left.Labels[labelManagedBy] != managedBy {
		return nil // a leader election record, or made by hand
	}
	err = c.client.CoreV1().Endpoints(namespace).Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &left.UID}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete endpoints: %w", err)
	}
	return nil
}

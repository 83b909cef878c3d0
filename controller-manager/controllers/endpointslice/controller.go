// Package endpointslice lists the pods behind every Service with a selector in
// EndpointSlices: which addresses, on which ports, ready, serving or
// terminating, in which zone. endpoints.go turns pods into endpoints, hints.go
// decides who should use them, trigger.go dates the change; package slicing
// spreads them. app/ lists the controller; it starts no goroutines of its own.
package endpointslice

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/skeg-dev/skeg/controller-manager/reconcile"
	"github.com/skeg-dev/skeg/controller-manager/servicepods"
	"github.com/skeg-dev/skeg/controller-manager/slicing"
)

// managedBy marks our slices, with the value upstream's controller uses.
const managedBy = "endpointslice-controller.k8s.io"

var kindService = corev1.SchemeGroupVersion.WithKind("Service")

// Controller reconciles the slices of Services.
type Controller struct {
	writer   *slicing.Writer
	events   record.EventRecorder
	triggers triggers
	max      int

	services, pods, nodes, slices cache.SharedIndexInformer
	serviceLister                 corelisters.ServiceLister
	podLister                     corelisters.PodLister
	nodeLister                    corelisters.NodeLister
	sliceLister                   discoverylisters.EndpointSliceLister
}

// New returns the controller; max is the number of endpoints in a slice
// (--max-endpoints-per-slice), 0 for the default.
func New(env reconcile.Env, max int) *Controller {
	core := env.Informers.Core().V1()
	found := env.Informers.Discovery().V1().EndpointSlices()
	return &Controller{
		writer: &slicing.Writer{Client: env.Client.DiscoveryV1()},
		events: env.Events("endpoint-slice-controller"), max: max,
		services: core.Services().Informer(), serviceLister: core.Services().Lister(),
		pods: core.Pods().Informer(), podLister: core.Pods().Lister(),
		nodes: core.Nodes().Informer(), nodeLister: core.Nodes().Lister(),
		slices: found.Informer(), sliceLister: found.Lister(),
	}
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "endpointslice-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{
		reconcile.Self(c.services),
		reconcile.On(c.pods, func(q reconcile.Queue, old, now *corev1.Pod) {
			for _, key := range servicepods.Affected(c.serviceLister, old, now) {
				q.Add(key)
			}
		}),
		reconcile.On(c.slices, c.sliceEvent),
		reconcile.On(c.nodes, c.nodeEvent),
	}
}

// sliceEvent looks again at the service of a slice of ours that was changed.
func (c *Controller) sliceEvent(q reconcile.Queue, old, now *discoveryv1.EndpointSlice) {
	for _, s := range []*discoveryv1.EndpointSlice{old, now} {
		if s != nil && s.Labels[discoveryv1.LabelManagedBy] == managedBy && s.Labels[discoveryv1.LabelServiceName] != "" {
			q.Add(reconcile.Key(s.Namespace, s.Labels[discoveryv1.LabelServiceName]))
		}
	}
}

// nodeEvent looks again at all services when a node comes or changes zone:
// endpoints of pods on it were left out or carry the old zone.
func (c *Controller) nodeEvent(q reconcile.Queue, old, now *corev1.Node) {
	if now == nil || (old != nil && old.Labels[corev1.LabelTopologyZone] == now.Labels[corev1.LabelTopologyZone]) {
		return
	}
	if old == nil && now.Labels[corev1.LabelTopologyZone] == "" && time.Since(now.CreationTimestamp.Time) > time.Minute {
		return // the initial list: every service is queued by its own event
	}
	all, err := c.serviceLister.List(labels.Everything())
	if err != nil {
		return
	}
	for _, s := range all {
		q.Add(reconcile.KeyOf(s))
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
		c.triggers.forget(key)
		c.writer.Forget(key)
		return reconcile.Result{}, nil // the garbage collector removes the slices
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	if service.Spec.Type == corev1.ServiceTypeExternalName || service.Spec.Selector == nil || service.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	existing, err := c.sliceLister.EndpointSlices(namespace).List(labels.SelectorFromSet(labels.Set{
		discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: managedBy,
	}))
	if err != nil {
		return reconcile.Result{}, err
	}
	if !c.writer.CaughtUp(key, existing) {
		return reconcile.Result{RequeueAfter: time.Second}, nil // the slice event comes first
	}
	pods, err := c.podLister.Pods(namespace).List(labels.SelectorFromSet(service.Spec.Selector))
	if err != nil {
		return reconcile.Result{}, err
	}
	groups, lost := build(service, pods, c.nodeLister)
	addHints(service, groups)
	wanted := slicing.Wanted{
		Meta: sliceMeta(service), Groups: groups, Max: c.max,
		Placeholders: servicepods.Families(service), TriggerTime: c.triggers.next(key, service, pods),
	}
	if err := c.writer.Apply(ctx, key, namespace, slicing.Diff(existing, wanted)); err != nil {
		if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) && !apierrors.IsConflict(err) {
			c.events.Eventf(service, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices",
				"Error updating Endpoint Slices for Service %s: %v", key, err)
		}
		return reconcile.Result{}, err
	}
	if lost {
		return reconcile.Result{RequeueAfter: 10 * time.Second}, nil // a pod's node is not in the cache
	}
	return reconcile.Result{}, nil
}

// sliceMeta is what all slices of the service have in common: its labels and ours.
func sliceMeta(service *corev1.Service) metav1.ObjectMeta {
	all := maps.Clone(service.Labels)
	if all == nil {
		all = map[string]string{}
	}
	delete(all, corev1.IsHeadlessService)
	all[discoveryv1.LabelServiceName] = service.Name
	all[discoveryv1.LabelManagedBy] = managedBy
	if service.Spec.ClusterIP == corev1.ClusterIPNone {
		all[corev1.IsHeadlessService] = ""
	}
	return metav1.ObjectMeta{
		Namespace: service.Namespace, GenerateName: servicepods.Prefix(service.Name), Labels: all,
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(service, kindService)},
	}
}

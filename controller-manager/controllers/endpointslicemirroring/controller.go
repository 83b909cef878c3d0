// Package endpointslicemirroring copies Endpoints that people write for
// Services without a selector into EndpointSlices, which is what proxies read.
// app/ lists it; it starts no goroutines of its own.
package endpointslicemirroring

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/controller-manager/reconcile"
	"github.com/skeg-dev/skeg/controller-manager/servicepods"
	"github.com/skeg-dev/skeg/controller-manager/slicing"
)

const (
	// managedBy marks mirrored slices, with upstream's value.
	managedBy = "endpointslicemirroring-controller.k8s.io"
	// leaderAnnotation marks Endpoints that only hold an election record.
	leaderAnnotation = "control-plane.alpha.kubernetes.io/leader"
	// maxPerSubset is --mirroring-max-endpoints-per-subset.
	maxPerSubset = 1000
)

var kindEndpoints = corev1.SchemeGroupVersion.WithKind("Endpoints")

// Controller reconciles mirrored slices, by key of Service and Endpoints.
type Controller struct {
	writer                      *slicing.Writer
	services, endpoints, slices cache.SharedIndexInformer
	serviceLister               corelisters.ServiceLister
	endpointsLister             corelisters.EndpointsLister
	sliceLister                 discoverylisters.EndpointSliceLister
}

// New returns the controller.
func New(env reconcile.Env) *Controller {
	core, found := env.Informers.Core().V1(), env.Informers.Discovery().V1().EndpointSlices()
	return &Controller{
		writer:   &slicing.Writer{Client: env.Client.DiscoveryV1()},
		services: core.Services().Informer(), serviceLister: core.Services().Lister(),
		endpoints: core.Endpoints().Informer(), endpointsLister: core.Endpoints().Lister(),
		slices: found.Informer(), sliceLister: found.Lister(),
	}
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "endpointslice-mirroring-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{
		reconcile.Self(c.endpoints),
		reconcile.On(c.services, func(q reconcile.Queue, old, now *corev1.Service) {
			if old == nil || now == nil || (old.Spec.Selector == nil) != (now.Spec.Selector == nil) {
				for _, s := range []*corev1.Service{old, now} {
					if s != nil {
						q.Add(reconcile.KeyOf(s))
					}
				}
			}
		}),
		reconcile.On(c.slices, func(q reconcile.Queue, old, now *discoveryv1.EndpointSlice) {
			for _, s := range []*discoveryv1.EndpointSlice{old, now} {
				if s != nil && s.Labels[discoveryv1.LabelManagedBy] == managedBy {
					q.Add(reconcile.Key(s.Namespace, s.Labels[discoveryv1.LabelServiceName]))
				}
			}
		}),
	}
}

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read key: %w", err)
	}
	existing, err := c.sliceLister.EndpointSlices(namespace).List(labels.SelectorFromSet(labels.Set{
		discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: managedBy,
	}))
	if err != nil {
		return reconcile.Result{}, err
	}
	if !c.writer.CaughtUp(key, existing) {
		return reconcile.Result{RequeueAfter: time.Second}, nil
	}
	source, err := c.source(namespace, name)
	if err != nil {
		return reconcile.Result{}, err
	}
	if source == nil {
		if len(existing) == 0 {
			c.writer.Forget(key)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, c.writer.Apply(ctx, key, namespace, slicing.Change{Delete: existing})
	}
	wanted := slicing.Wanted{
		Meta: sliceMeta(source), Groups: mirror(source), Max: maxPerSubset,
		TriggerTime: source.Annotations[corev1.EndpointsLastChangeTriggerTime],
	}
	return reconcile.Result{}, c.writer.Apply(ctx, key, namespace, slicing.Diff(existing, wanted))
}

// source returns the Endpoints to mirror, nil when there are none.
func (c *Controller) source(namespace, name string) (*corev1.Endpoints, error) {
	service, err := c.serviceLister.Services(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	endpoints, err := c.endpointsLister.Endpoints(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_, leader := endpoints.Annotations[leaderAnnotation]
	if service.Spec.Selector != nil || leader || endpoints.Labels[discoveryv1.LabelSkipMirror] == "true" || endpoints.DeletionTimestamp != nil {
		return nil, nil
	}
	return endpoints, nil
}

// mirror turns subsets into groups, one for each address family.
func mirror(source *corev1.Endpoints) []slicing.Group {
	var groups []slicing.Group
	for i := range source.Subsets {
		s := &source.Subsets[i]
		ports := []discoveryv1.EndpointPort{}
		for _, p := range s.Ports {
			ports = append(ports, discoveryv1.EndpointPort{
				Name: ptr.To(p.Name), Port: ptr.To(p.Port), Protocol: ptr.To(p.Protocol), AppProtocol: p.AppProtocol,
			})
		}
		for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
			g := slicing.Group{AddressType: family, Ports: ports}
			g.Endpoints = append(addresses(s.Addresses, family, true), addresses(s.NotReadyAddresses, family, false)...)
			if len(g.Endpoints) > maxPerSubset {
				g.Endpoints = g.Endpoints[:maxPerSubset]
			}
			if len(g.Endpoints) > 0 {
				groups = append(groups, g)
			}
		}
	}
	return groups
}

func addresses(all []corev1.EndpointAddress, family discoveryv1.AddressType, ready bool) []discoveryv1.Endpoint {
	var found []discoveryv1.Endpoint
	for _, a := range all {
		ip, err := netip.ParseAddr(a.IP)
		if err != nil || ip.Is4() != (family == discoveryv1.AddressTypeIPv4) {
			continue
		}
		e := discoveryv1.Endpoint{
			Addresses: []string{a.IP}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(ready)},
			TargetRef: a.TargetRef, NodeName: a.NodeName,
		}
		if a.Hostname != "" {
			e.Hostname = ptr.To(a.Hostname)
		}
		found = append(found, e)
	}
	return found
}

// sliceMeta is what all mirrored slices of the object have in common.
func sliceMeta(source *corev1.Endpoints) metav1.ObjectMeta {
	all := maps.Clone(source.Labels)
	if all == nil {
		all = map[string]string{}
	}
	all[discoveryv1.LabelServiceName] = source.Name
	all[discoveryv1.LabelManagedBy] = managedBy
	annotations := maps.Clone(source.Annotations)
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	delete(annotations, corev1.EndpointsLastChangeTriggerTime)
	return metav1.ObjectMeta{
		Namespace: source.Namespace, GenerateName: servicepods.Prefix(source.Name), Labels: all, Annotations: annotations,
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(source, kindEndpoints)},
	}
}

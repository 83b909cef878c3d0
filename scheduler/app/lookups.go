package app

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	policylisters "k8s.io/client-go/listers/policy/v1"
	"k8s.io/client-go/tools/cache"

	policyv1 "k8s.io/api/policy/v1"
)

// lookups answers the plugins' questions from informers.
type lookups struct {
	services     corelisters.ServiceLister
	controllers  corelisters.ReplicationControllerLister
	replicaSets  appslisters.ReplicaSetLister
	statefulSets appslisters.StatefulSetLister
	namespaces   corelisters.NamespaceLister
	budgets      budgets
	synced       []cache.InformerSynced
}

// budgets lists PodDisruptionBudgets by namespace.
type budgets struct {
	policylisters.PodDisruptionBudgetLister
}

// PodDisruptionBudgets of a namespace.
func (b budgets) PodDisruptionBudgets(namespace string) ([]*policyv1.PodDisruptionBudget, error) {
	return b.PodDisruptionBudgetLister.PodDisruptionBudgets(namespace).List(labels.Everything())
}

func newLookups(factory informers.SharedInformerFactory) *lookups {
	core, apps, policy := factory.Core().V1(), factory.Apps().V1(), factory.Policy().V1()
	k := &lookups{
		services: core.Services().Lister(), controllers: core.ReplicationControllers().Lister(), namespaces: core.Namespaces().Lister(),
		replicaSets: apps.ReplicaSets().Lister(), statefulSets: apps.StatefulSets().Lister(),
		budgets: budgets{policy.PodDisruptionBudgets().Lister()},
	}
	for _, informer := range []cache.SharedIndexInformer{
		core.Services().Informer(), core.ReplicationControllers().Informer(), core.Namespaces().Informer(),
		apps.ReplicaSets().Informer(), apps.StatefulSets().Informer(), policy.PodDisruptionBudgets().Informer(),
	} {
		k.synced = append(k.synced, informer.HasSynced)
	}
	return k
}

// namespaceLabels returns nil for a namespace that is not known (yet).
func (k *lookups) namespaceLabels(name string) labels.Set {
	namespace, err := k.namespaces.Get(name)
	if err != nil {
		return nil
	}
	return namespace.Labels
}

// SelectorOf joins the selectors of the Services that select the Pod, and
// narrows them by that of its owner.
func (k *lookups) SelectorOf(pod *corev1.Pod) labels.Selector {
	joined := labels.Set{}
	// Listing from an informer's store fails only for a broken selector.
	if services, err := k.services.Services(pod.Namespace).List(labels.Everything()); err == nil {
		for _, service := range services {
			if len(service.Spec.Selector) > 0 && labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) {
				maps.Copy(joined, service.Spec.Selector)
			}
		}
	}
	selector := labels.SelectorFromSet(joined)
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return selector
	}
	requirements, _ := k.selectorOfOwner(pod.Namespace, owner).Requirements()
	return selector.Add(requirements...)
}

func (k *lookups) selectorOfOwner(namespace string, owner *metav1.OwnerReference) labels.Selector {
	var selector *metav1.LabelSelector
	switch owner.APIVersion + " " + owner.Kind {
	case "v1 ReplicationController":
		if rc, err := k.controllers.ReplicationControllers(namespace).Get(owner.Name); err == nil {
			return labels.SelectorFromSet(rc.Spec.Selector)
		}
	case appsv1.SchemeGroupVersion.String() + " ReplicaSet":
		if rs, err := k.replicaSets.ReplicaSets(namespace).Get(owner.Name); err == nil {
			selector = rs.Spec.Selector
		}
	case appsv1.SchemeGroupVersion.String() + " StatefulSet":
		if ss, err := k.statefulSets.StatefulSets(namespace).Get(owner.Name); err == nil {
			selector = ss.Spec.Selector
		}
	}
	if s, err := metav1.LabelSelectorAsSelector(selector); err == nil {
		return s
	}
	return labels.Nothing() // refused by the API: cannot be
}

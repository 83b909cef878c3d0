package replicaset

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	appsclient "k8s.io/client-go/kubernetes/typed/apps/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
)

// kind is what differs between the two replicated kinds. Both are handled in
// the shape of a ReplicaSet.
type kind interface {
	name() string
	gvk() schema.GroupVersionKind
	watch() cache.SharedIndexInformer
	cached(namespace, name string) (*appsv1.ReplicaSet, error)
	fresh(ctx context.Context, rs *appsv1.ReplicaSet) (*appsv1.ReplicaSet, error)
	putStatus(ctx context.Context, rs *appsv1.ReplicaSet) error
	// owner is the object events are recorded on.
	owner(rs *appsv1.ReplicaSet) podcontrol.Owner
	// matching lists the sets whose selector takes the pod.
	matching(pod *corev1.Pod) []*appsv1.ReplicaSet
}

type replicaSets struct {
	client   appsclient.ReplicaSetsGetter
	informer cache.SharedIndexInformer
	lister   appslisters.ReplicaSetLister
}

func (replicaSets) name() string { return "replicaset-controller" }
func (replicaSets) gvk() schema.GroupVersionKind {
	return appsv1.SchemeGroupVersion.WithKind("ReplicaSet")
}
func (k replicaSets) watch() cache.SharedIndexInformer { return k.informer }

func (k replicaSets) cached(namespace, name string) (*appsv1.ReplicaSet, error) {
	return k.lister.ReplicaSets(namespace).Get(name)
}

func (k replicaSets) fresh(ctx context.Context, rs *appsv1.ReplicaSet) (*appsv1.ReplicaSet, error) {
	return k.client.ReplicaSets(rs.Namespace).Get(ctx, rs.Name, metav1.GetOptions{})
}

func (k replicaSets) putStatus(ctx context.Context, rs *appsv1.ReplicaSet) error {
	if _, err := k.client.ReplicaSets(rs.Namespace).UpdateStatus(ctx, rs, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

func (k replicaSets) owner(rs *appsv1.ReplicaSet) podcontrol.Owner { return rs }

func (k replicaSets) matching(pod *corev1.Pod) []*appsv1.ReplicaSet {
	all, err := k.lister.ReplicaSets(pod.Namespace).List(labels.Everything())
	if err != nil {
		return nil
	}
	return matching(all, pod)
}

type replicationControllers struct {
	client   coreclient.ReplicationControllersGetter
	informer cache.SharedIndexInformer
	lister   corelisters.ReplicationControllerLister
}

func (replicationControllers) name() string { return "replicationcontroller-controller" }
func (replicationControllers) gvk() schema.GroupVersionKind {
	return corev1.SchemeGroupVersion.WithKind("ReplicationController")
}
func (k replicationControllers) watch() cache.SharedIndexInformer { return k.informer }

func (k replicationControllers) cached(namespace, name string) (*appsv1.ReplicaSet, error) {
	rc, err := k.lister.ReplicationControllers(namespace).Get(name)
	if err != nil {
		return nil, err
	}
	return asReplicaSet(rc), nil
}

func (k replicationControllers) fresh(ctx context.Context, rs *appsv1.ReplicaSet) (*appsv1.ReplicaSet, error) {
	rc, err := k.client.ReplicationControllers(rs.Namespace).Get(ctx, rs.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return asReplicaSet(rc), nil
}

func (k replicationControllers) putStatus(ctx context.Context, rs *appsv1.ReplicaSet) error {
	rc := asReplicationController(rs)
	if _, err := k.client.ReplicationControllers(rc.Namespace).UpdateStatus(ctx, rc, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

func (k replicationControllers) owner(rs *appsv1.ReplicaSet) podcontrol.Owner {
	return asReplicationController(rs)
}

func (k replicationControllers) matching(pod *corev1.Pod) []*appsv1.ReplicaSet {
	all, err := k.lister.ReplicationControllers(pod.Namespace).List(labels.Everything())
	if err != nil {
		return nil
	}
	sets := make([]*appsv1.ReplicaSet, len(all))
	for i, rc := range all {
		sets[i] = asReplicaSet(rc)
	}
	return matching(sets, pod)
}

func matching(all []*appsv1.ReplicaSet, pod *corev1.Pod) []*appsv1.ReplicaSet {
	var found []*appsv1.ReplicaSet
	for _, rs := range all {
		selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
		if err == nil && !selector.Empty() && selector.Matches(labels.Set(pod.Labels)) {
			found = append(found, rs)
		}
	}
	return found
}

// asReplicaSet shares the template with rc: read only.
func asReplicaSet(rc *corev1.ReplicationController) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{
		ObjectMeta: rc.ObjectMeta,
		Spec: appsv1.ReplicaSetSpec{
			Replicas: rc.Spec.Replicas, MinReadySeconds: rc.Spec.MinReadySeconds,
			Selector: &metav1.LabelSelector{MatchLabels: rc.Spec.Selector},
		},
		Status: appsv1.ReplicaSetStatus{
			Replicas: rc.Status.Replicas, FullyLabeledReplicas: rc.Status.FullyLabeledReplicas,
			ReadyReplicas: rc.Status.ReadyReplicas, AvailableReplicas: rc.Status.AvailableReplicas,
			ObservedGeneration: rc.Status.ObservedGeneration,
		},
	}
	if rc.Spec.Template != nil {
		rs.Spec.Template = *rc.Spec.Template
	}
	for _, c := range rc.Status.Conditions {
		rs.Status.Conditions = append(rs.Status.Conditions, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetConditionType(c.Type), Status: c.Status,
			LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return rs
}

func asReplicationController(rs *appsv1.ReplicaSet) *corev1.ReplicationController {
	rc := &corev1.ReplicationController{
		ObjectMeta: rs.ObjectMeta,
		Spec: corev1.ReplicationControllerSpec{
			Replicas: rs.Spec.Replicas, MinReadySeconds: rs.Spec.MinReadySeconds, Template: &rs.Spec.Template,
		},
		Status: corev1.ReplicationControllerStatus{
			Replicas: rs.Status.Replicas, FullyLabeledReplicas: rs.Status.FullyLabeledReplicas,
			ReadyReplicas: rs.Status.ReadyReplicas, AvailableReplicas: rs.Status.AvailableReplicas,
			ObservedGeneration: rs.Status.ObservedGeneration,
		},
	}
	if rs.Spec.Selector != nil {
		rc.Spec.Selector = rs.Spec.Selector.MatchLabels
	}
	for _, c := range rs.Status.Conditions {
		rc.Status.Conditions = append(rc.Status.Conditions, corev1.ReplicationControllerCondition{
			Type: corev1.ReplicationControllerConditionType(c.Type), Status: c.Status,
			LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return rc
}

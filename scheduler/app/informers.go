package app

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	schedcache "github.com/skeg-dev/skeg/scheduler/cache"
	"github.com/skeg-dev/skeg/scheduler/framework"
	"github.com/skeg-dev/skeg/scheduler/queue"
)

// newInformers makes the factory; Pods that have ended are left out, as they
// take no room.
func newInformers(client kubernetes.Interface) (informers.SharedInformerFactory, cache.SharedIndexInformer) {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(strip))
	unfinished := fields.AndSelectors(
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)))
	pods := factory.InformerFor(&corev1.Pod{}, func(c kubernetes.Interface, resync time.Duration) cache.SharedIndexInformer {
		return coreinformers.NewFilteredPodInformer(c, metav1.NamespaceAll, resync, cache.Indexers{}, func(o *metav1.ListOptions) {
			o.FieldSelector = unfinished.String()
		})
	})
	return factory, pods
}

// strip drops what the scheduler never reads.
func strip(obj any) (any, error) {
	if m, err := meta.Accessor(obj); err == nil {
		m.SetManagedFields(nil)
	}
	return obj, nil
}

// feed carries changes from the informers to the cache and the queue.
type feed struct {
	cache *schedcache.Cache
	queue *queue.Queue
	// ours reports whether a Pod's spec.schedulerName is one of ours.
	ours func(*corev1.Pod) bool
}

func (f *feed) podHandler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { f.podChanged(nil, obj.(*corev1.Pod)) },
		UpdateFunc: func(old, obj any) { f.podChanged(old.(*corev1.Pod), obj.(*corev1.Pod)) },
		DeleteFunc: func(obj any) {
			if pod, ok := last[*corev1.Pod](obj); ok {
				f.podGone(pod)
			}
		},
	}
}

func (f *feed) podChanged(old, pod *corev1.Pod) {
	if old != nil && old.UID != pod.UID { // the deletion was missed
		f.podGone(old)
		old = nil
	}
	if pod.Spec.NodeName == "" {
		if f.ours(pod) {
			// One that counts on a node is being bound, or is and we see it late.
			f.queue.Update(pod, !f.cache.Has(pod.UID))
		}
		return
	}
	f.cache.SetPod(pod)
	if old == nil || old.Spec.NodeName == "" {
		f.queue.Delete(pod.UID) // somebody else may have bound it
		f.queue.Notify(framework.ClusterEvent{Kind: framework.AssignedPod, Action: framework.Add, Label: "AssignedPodAdd"}, nil, pod)
		return
	}
	if action := podAction(old, pod); action != 0 {
		f.queue.Notify(framework.ClusterEvent{Kind: framework.AssignedPod, Action: action, Label: "AssignedPodUpdate"}, old, pod)
	}
}

// podAction says which changes of an assigned Pod could help another.
func podAction(old, new *corev1.Pod) framework.Action {
	var action framework.Action
	if !equality.Semantic.DeepEqual(old.Labels, new.Labels) {
		action |= framework.UpdateLabel
	}
	a, b := framework.NewPodInfo(old).Requests, framework.NewPodInfo(new).Requests
	if b.MilliCPU < a.MilliCPU || b.MemoryBytes < a.MemoryBytes || b.EphemeralBytes < a.EphemeralBytes {
		action |= framework.ScaleDown
	}
	return action
}

func (f *feed) podGone(pod *corev1.Pod) {
	f.queue.Delete(pod.UID)
	f.cache.RemovePod(pod.UID)
	if pod.Spec.NodeName != "" {
		f.queue.Notify(framework.ClusterEvent{Kind: framework.AssignedPod, Action: framework.Delete, Label: "AssignedPodDelete"}, pod, nil)
	}
}

func (f *feed) nodeHandler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			node := obj.(*corev1.Node)
			f.cache.SetNode(node)
			f.queue.Notify(framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.Add, Label: "NodeAdd"}, nil, node)
		},
		UpdateFunc: func(oldObj, obj any) {
			old, node := oldObj.(*corev1.Node), obj.(*corev1.Node)
			action := nodeAction(old, node)
			if action == 0 && equality.Semantic.DeepEqual(old.Status.Images, node.Status.Images) {
				return // a heartbeat
			}
			f.cache.SetNode(node)
			if action != 0 {
				f.queue.Notify(framework.ClusterEvent{Kind: framework.NodeKind, Action: action, Label: "NodeUpdate"}, old, node)
			}
		},
		DeleteFunc: func(obj any) {
			if node, ok := last[*corev1.Node](obj); ok {
				f.cache.RemoveNode(node.Name)
				f.queue.Notify(framework.ClusterEvent{Kind: framework.NodeKind, Action: framework.Delete, Label: "NodeDelete"}, node, nil)
			}
		},
	}
}

func nodeAction(old, new *corev1.Node) framework.Action {
	var action framework.Action
	if !equality.Semantic.DeepEqual(old.Status.Allocatable, new.Status.Allocatable) {
		action |= framework.UpdateAllocatable
	}
	if !equality.Semantic.DeepEqual(old.Labels, new.Labels) {
		action |= framework.UpdateLabel
	}
	if old.Spec.Unschedulable != new.Spec.Unschedulable || !equality.Semantic.DeepEqual(old.Spec.Taints, new.Spec.Taints) {
		action |= framework.UpdateTaint
	}
	if !sameConditions(old.Status.Conditions, new.Status.Conditions) {
		action |= framework.UpdateCondition
	}
	return action
}

// sameConditions compares types and statuses: heartbeat times change all the time.
func sameConditions(a, b []corev1.NodeCondition) bool {
	statuses := map[corev1.NodeConditionType]corev1.ConditionStatus{}
	for _, c := range a {
		statuses[c.Type] = c.Status
	}
	for _, c := range b {
		if statuses[c.Type] != c.Status {
			return false
		}
	}
	return len(a) == len(b)
}

// last unwraps the object of a deletion that was seen late.
func last[T any](obj any) (T, bool) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	t, ok := obj.(T)
	return t, ok
}

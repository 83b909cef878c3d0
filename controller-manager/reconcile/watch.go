package reconcile

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// Watch is an informer and what its events mean for a reconciler.
type Watch struct {
	// Informer is shared; its objects are read-only.
	Informer cache.SharedIndexInformer
	// On maps one event to keys. old is nil for an object that is new, now is
	// nil for one that is gone. A nil On only waits for the informer to sync.
	On func(q Queue, old, now any)
}

// On is a Watch whose handler gets objects of type T. old is the zero T for an
// object that is new, now for one that is gone.
func On[T any](informer cache.SharedIndexInformer, handle func(q Queue, old, now T)) Watch {
	return Watch{Informer: informer, On: func(q Queue, old, now any) {
		o, okOld := old.(T)
		n, okNow := now.(T)
		if okOld || okNow {
			handle(q, o, n)
		}
	}}
}

// Reads is a Watch that wakes nobody: the reconciler reads the informer's store.
func Reads(informer cache.SharedIndexInformer) Watch { return Watch{Informer: informer} }

// Self is a Watch that queues the object's own key.
func Self(informer cache.SharedIndexInformer) Watch {
	return Watch{Informer: informer, On: func(q Queue, old, now any) {
		object := now
		if object == nil {
			object = old
		}
		if key, err := cache.MetaNamespaceKeyFunc(object); err == nil {
			q.Add(key)
		}
	}}
}

// OwnedBy is a Watch that queues the controlling owner of the object when that
// owner is of the given kind, before and after a change of owner.
func OwnedBy(informer cache.SharedIndexInformer, kind string) Watch {
	return Watch{Informer: informer, On: func(q Queue, old, now any) {
		for _, object := range []any{old, now} {
			if key := OwnerKey(object, kind); key != "" {
				q.Add(key)
			}
		}
	}}
}

// OwnerKey returns namespace/name of the object's controller if that is of the
// given kind, else "".
func OwnerKey(object any, kind string) string {
	meta, ok := object.(metav1.Object)
	if !ok {
		return ""
	}
	ref := metav1.GetControllerOfNoCopy(meta)
	if ref == nil || ref.Kind != kind {
		return ""
	}
	return Key(meta.GetNamespace(), ref.Name)
}

// Key returns the queue key of an object: namespace/name, or the name alone
// when there is no namespace.
func Key(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// KeyOf returns the queue key of an object.
func KeyOf(object metav1.Object) string { return Key(object.GetNamespace(), object.GetName()) }

// handler adapts a Watch to the informer's interface.
type handler struct {
	on func(q Queue, old, now any)
	q  Queue
}

// OnAdd implements cache.ResourceEventHandler.
func (h handler) OnAdd(object any, _ bool) { h.on(h.q, nil, object) }

// OnUpdate implements cache.ResourceEventHandler.
func (h handler) OnUpdate(old, now any) { h.on(h.q, old, now) }

// OnDelete implements cache.ResourceEventHandler. A deletion that the watch
// missed arrives as the last state known.
func (h handler) OnDelete(object any) {
	if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	h.on(h.q, object, nil)
}

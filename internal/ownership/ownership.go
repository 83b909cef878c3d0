// Package ownership reads and changes owner references and finalizers of
// objects. All functions are pure; those that change an object say so and need
// a private copy of it. Called by controllers, the garbage collector and the
// kubelet.
package ownership

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// ControllerOf returns a copy of the reference to obj's controller, or nil.
func ControllerOf(obj metav1.Object) *metav1.OwnerReference {
	return metav1.GetControllerOf(obj)
}

// IsControlledBy reports whether owner is obj's controller.
func IsControlledBy(obj, owner metav1.Object) bool {
	return metav1.IsControlledBy(obj, owner)
}

// NewControllerRef returns a reference that makes owner the controller and
// keeps it, in foreground deletion, until the owned object is gone.
func NewControllerRef(owner metav1.Object, kind schema.GroupVersionKind) *metav1.OwnerReference {
	return &metav1.OwnerReference{
		APIVersion: kind.GroupVersion().String(), Kind: kind.Kind, Name: owner.GetName(), UID: owner.GetUID(),
		Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
	}
}

// HasOwner reports whether one of obj's references has this UID.
func HasOwner(obj metav1.Object, uid types.UID) bool {
	return slices.ContainsFunc(obj.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == uid })
}

// RemoveOwner drops the references with this UID from obj, which it changes,
// and reports whether there were any.
func RemoveOwner(obj metav1.Object, uid types.UID) bool {
	before := obj.GetOwnerReferences()
	after := slices.DeleteFunc(slices.Clone(before), func(r metav1.OwnerReference) bool { return r.UID == uid })
	if len(after) == len(before) {
		return false
	}
	obj.SetOwnerReferences(after)
	return true
}

// HasFinalizer reports whether obj carries the finalizer.
func HasFinalizer(obj metav1.Object, name string) bool {
	return slices.Contains(obj.GetFinalizers(), name)
}

// AddFinalizer adds a finalizer to obj, which it changes, and reports whether
// it was missing.
func AddFinalizer(obj metav1.Object, name string) bool {
	if HasFinalizer(obj, name) {
		return false
	}
	obj.SetFinalizers(append(slices.Clone(obj.GetFinalizers()), name))
	return true
}

// RemoveFinalizer removes a finalizer from obj, which it changes, and reports
// whether it was there.
func RemoveFinalizer(obj metav1.Object, name string) bool {
	if !HasFinalizer(obj, name) {
		return false
	}
	obj.SetFinalizers(slices.DeleteFunc(slices.Clone(obj.GetFinalizers()), func(f string) bool { return f == name }))
	return true
}

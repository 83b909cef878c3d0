// Package condition finds and sets status conditions, whose Go types differ
// from kind to kind but whose rules are the same: one entry a type, and
// lastTransitionTime changes only when status does (API conventions, "Typical
// status properties"). All functions are pure but for the slice they are given.
// Called by controllers, kubelet and scheduler.
package condition

import (
	appsv1 "k8s.io/api/apps/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Access tells the generic functions where a condition type keeps its parts.
type Access[C any] struct {
	// Type and Status read the parts of a condition, as text.
	Type, Status func(c *C) string
	// Transition points at lastTransitionTime.
	Transition func(c *C) *metav1.Time
	// Equal compares all but times; nil means always set.
	Equal func(a, b *C) bool
}

// The condition types in use.
var (
	Pod = Access[corev1.PodCondition]{
		Type:       func(c *corev1.PodCondition) string { return string(c.Type) },
		Status:     func(c *corev1.PodCondition) string { return string(c.Status) },
		Transition: func(c *corev1.PodCondition) *metav1.Time { return &c.LastTransitionTime },
		Equal: func(a, b *corev1.PodCondition) bool {
			return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message && a.ObservedGeneration == b.ObservedGeneration
		},
	}
	// Node has no Equal: a heartbeat is a change.
	Node = Access[corev1.NodeCondition]{
		Type:       func(c *corev1.NodeCondition) string { return string(c.Type) },
		Status:     func(c *corev1.NodeCondition) string { return string(c.Status) },
		Transition: func(c *corev1.NodeCondition) *metav1.Time { return &c.LastTransitionTime },
	}
	Namespace = Access[corev1.NamespaceCondition]{
		Type:       func(c *corev1.NamespaceCondition) string { return string(c.Type) },
		Status:     func(c *corev1.NamespaceCondition) string { return string(c.Status) },
		Transition: func(c *corev1.NamespaceCondition) *metav1.Time { return &c.LastTransitionTime },
		Equal: func(a, b *corev1.NamespaceCondition) bool {
			return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
		},
	}
	Deployment = Access[appsv1.DeploymentCondition]{
		Type:       func(c *appsv1.DeploymentCondition) string { return string(c.Type) },
		Status:     func(c *appsv1.DeploymentCondition) string { return string(c.Status) },
		Transition: func(c *appsv1.DeploymentCondition) *metav1.Time { return &c.LastTransitionTime },
		Equal: func(a, b *appsv1.DeploymentCondition) bool {
			return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
		},
	}
	ReplicaSet = Access[appsv1.ReplicaSetCondition]{
		Type:       func(c *appsv1.ReplicaSetCondition) string { return string(c.Type) },
		Status:     func(c *appsv1.ReplicaSetCondition) string { return string(c.Status) },
		Transition: func(c *appsv1.ReplicaSetCondition) *metav1.Time { return &c.LastTransitionTime },
		Equal: func(a, b *appsv1.ReplicaSetCondition) bool {
			return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
		},
	}
	CertificateSigningRequest = Access[certificatesv1.CertificateSigningRequestCondition]{
		Type:       func(c *certificatesv1.CertificateSigningRequestCondition) string { return string(c.Type) },
		Status:     func(c *certificatesv1.CertificateSigningRequestCondition) string { return string(c.Status) },
		Transition: func(c *certificatesv1.CertificateSigningRequestCondition) *metav1.Time { return &c.LastTransitionTime },
		Equal: func(a, b *certificatesv1.CertificateSigningRequestCondition) bool {
			return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
		},
	}
	// Meta is for kinds with metav1.Condition.
	Meta = Access[metav1.Condition]{
		Type:       func(c *metav1.Condition) string { return c.Type },
		Status:     func(c *metav1.Condition) string { return string(c.Status) },
		Transition: func(c *metav1.Condition) *metav1.Time { return &c.LastTransitionTime },
		Equal: func(a, b *metav1.Condition) bool {
			return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message && a.ObservedGeneration == b.ObservedGeneration
		},
	}
)

// Find returns a pointer into list to the condition of a kind, or nil.
func (a Access[C]) Find(list []C, kind string) *C {
	for i := range list {
		if a.Type(&list[i]) == kind {
			return &list[i]
		}
	}
	return nil
}

// IsTrue reports whether the condition of a kind is there with status True.
func (a Access[C]) IsTrue(list []C, kind string) bool {
	c := a.Find(list, kind)
	return c != nil && a.Status(c) == string(metav1.ConditionTrue)
}

// Set puts c into *list, replacing the condition of its type. When status
// stays the same, so does lastTransitionTime; when it changes and c names no
// time, it is now. It reports whether anything but times changed.
func (a Access[C]) Set(list *[]C, c C, now metav1.Time) bool {
	old := a.Find(*list, a.Type(&c))
	at := a.Transition(&c)
	if old == nil {
		if at.IsZero() {
			*at = now
		}
		*list = append(*list, c)
		return true
	}
	if a.Equal != nil && a.Equal(old, &c) {
		return false
	}
	if a.Status(old) == a.Status(&c) {
		*at = *a.Transition(old)
	} else if at.IsZero() {
		*at = now
	}
	*old = c
	return true
}

// Remove drops the condition of a kind and reports whether it was there.
func (a Access[C]) Remove(list *[]C, kind string) bool {
	for i := range *list {
		if a.Type(&(*list)[i]) == kind {
			*list = append((*list)[:i:i], (*list)[i+1:]...)
			return true
		}
	}
	return false
}

package namespace

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// findings are what one attempt to empty a namespace came to.
type findings struct {
	discovery, content []error
	// remaining counts objects by resource, finalizers objects by finalizer.
	remaining, finalizers map[string]int
}

func (f *findings) left() bool { return len(f.remaining) > 0 }

// err joins what went wrong; content that is merely still there is no error.
func (f *findings) err() error {
	return errors.Join(append(slices.Clone(f.discovery), f.content...)...)
}

// conditions describes the findings; each type is always there, so that what
// was a problem is seen to be none any more.
func (f *findings) conditions() []corev1.NamespaceCondition {
	return []corev1.NamespaceCondition{
		verdict(corev1.NamespaceDeletionDiscoveryFailure, len(f.discovery) > 0, "DiscoveryFailed", "ResourcesDiscovered",
			fmt.Sprintf("Discovery failed for some groups, %d failing: %v", len(f.discovery), errors.Join(f.discovery...)),
			"All resources successfully discovered"),
		verdict(corev1.NamespaceDeletionGVParsingFailure, false, "GroupVersionParsingFailed", "ParsedGroupVersions",
			"", "All legacy kube types successfully parsed"),
		verdict(corev1.NamespaceDeletionContentFailure, len(f.content) > 0, "ContentDeletionFailed", "ContentDeleted",
			fmt.Sprintf("Failed to delete all resource types, %d remaining: %v", len(f.content), errors.Join(f.content...)),
			"All content successfully deleted, may be waiting on finalization"),
		verdict(corev1.NamespaceContentRemaining, len(f.remaining) > 0, "SomeResourcesRemain", "ContentRemoved",
			"Some resources are remaining: "+counts(f.remaining, "%s has %d resource instances"), "All content successfully removed"),
		verdict(corev1.NamespaceFinalizersRemaining, len(f.finalizers) > 0, "SomeFinalizersRemain", "ContentHasNoFinalizers",
			"Some content in the namespace has finalizers remaining: "+counts(f.finalizers, "%s in %d resource instances"),
			"All content-preserving finalizers finished"),
	}
}

func verdict(kind corev1.NamespaceConditionType, bad bool, badReason, goodReason, badMessage, goodMessage string) corev1.NamespaceCondition {
	if bad {
		return corev1.NamespaceCondition{Type: kind, Status: corev1.ConditionTrue, Reason: badReason, Message: badMessage}
	}
	return corev1.NamespaceCondition{Type: kind, Status: corev1.ConditionFalse, Reason: goodReason, Message: goodMessage}
}

func counts(by map[string]int, format string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(by)) {
		parts = append(parts, fmt.Sprintf(format, name, by[name]))
	}
	return strings.Join(parts, ", ")
}

// report writes the findings to the namespace's status when they are news.
func (c *Controller) report(ctx context.Context, ns *corev1.Namespace, f *findings) error {
	next := ns.DeepCopy()
	next.Status.Phase = corev1.NamespaceTerminating
	for _, condition := range f.conditions() {
		setCondition(next, condition, time.Now())
	}
	if equality.Semantic.DeepEqual(ns.Status, next.Status) {
		return nil
	}
	_, err := c.client.CoreV1().Namespaces().UpdateStatus(ctx, next, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write namespace status: %w", err)
	}
	return nil
}

func setCondition(ns *corev1.Namespace, c corev1.NamespaceCondition, now time.Time) {
	c.LastTransitionTime = metav1.NewTime(now)
	for i := range ns.Status.Conditions {
		old := &ns.Status.Conditions[i]
		if old.Type != c.Type {
			continue
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		*old = c
		return
	}
	ns.Status.Conditions = append(ns.Status.Conditions, c)
}

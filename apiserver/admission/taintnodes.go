package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
)

// TaintNodesByCondition gives a new Node the taint not-ready, so that nothing
// is scheduled there until the node lifecycle controller has seen it ready.
type TaintNodesByCondition struct{}

// NewTaintNodesByCondition makes the plugin.
func NewTaintNodesByCondition() *TaintNodesByCondition { return &TaintNodesByCondition{} }

// Name is the plugin's name in flags and metrics.
func (*TaintNodesByCondition) Name() string { return "TaintNodesByCondition" }

// Mutate adds the taint.
func (*TaintNodesByCondition) Mutate(_ context.Context, a *Attributes) error {
	node, ok := a.Object.(*corev1.Node)
	if !ok || a.Operation != Create || a.Subresource != "" {
		return nil
	}
	taint := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}
	for i := range node.Spec.Taints {
		if node.Spec.Taints[i].MatchTaint(&taint) {
			return nil
		}
	}
	node.Spec.Taints = append(node.Spec.Taints, taint)
	return nil
}

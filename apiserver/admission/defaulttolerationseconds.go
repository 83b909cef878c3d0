package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// tolerationSeconds is how long a Pod stays on a node that does not answer,
// unless it says otherwise (kube-apiserver --default-not-ready-toleration-seconds
// and --default-unreachable-toleration-seconds).
const tolerationSeconds int64 = 300

// DefaultTolerationSeconds bounds how long Pods tolerate a lost node.
type DefaultTolerationSeconds struct{}

// NewDefaultTolerationSeconds makes the plugin.
func NewDefaultTolerationSeconds() *DefaultTolerationSeconds { return &DefaultTolerationSeconds{} }

// Name is the plugin's name in flags and metrics.
func (*DefaultTolerationSeconds) Name() string { return "DefaultTolerationSeconds" }

// Mutate adds the tolerations that are missing.
func (*DefaultTolerationSeconds) Mutate(_ context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || !isResource(a, "", "pods", "") || a.Operation != Create && a.Operation != Update {
		return nil
	}
	for _, taint := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if tolerates(pod, taint) {
			continue
		}
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
			Key:               taint,
			Operator:          corev1.TolerationOpExists,
			Effect:            corev1.TaintEffectNoExecute,
			TolerationSeconds: ptr.To(tolerationSeconds),
		})
	}
	return nil
}

func tolerates(pod *corev1.Pod, taint string) bool {
	for _, t := range pod.Spec.Tolerations {
		if (t.Key == taint || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return true
		}
	}
	return false
}

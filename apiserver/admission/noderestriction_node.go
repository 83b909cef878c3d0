package admission

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// kubeletLabels are the labels of Kubernetes' own domains that a kubelet sets
// (kubelet --node-labels).
var kubeletLabels = []string{
	corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyRegion,
	corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion,
	corev1.LabelInstanceType, corev1.LabelInstanceTypeStable,
	corev1.LabelOSStable, corev1.LabelArchStable, "beta.kubernetes.io/os", "beta.kubernetes.io/arch",
}

// admitNode lets a node write its own Node object, but not what decides where
// workloads go: taints, and labels others may rely on.
func admitNode(a *Attributes, node string) error {
	if name := objectName(a); name != node {
		return Forbidden(a, fmt.Errorf("node %q is not allowed to modify node %q", node, name))
	}
	obj, ok := a.Object.(*corev1.Node)
	if !ok {
		return nil // a deletion of itself
	}
	if a.Operation == Create {
		if forbidden := forbiddenLabels(nil, obj.Labels); len(forbidden) > 0 {
			return Forbidden(a, fmt.Errorf("node %q is not allowed to set the following labels: %s", node, strings.Join(forbidden, ", ")))
		}
		if obj.Spec.ConfigSource != nil {
			return Forbidden(a, fmt.Errorf("node %q is not allowed to create pods with a non-nil configSource", node))
		}
		return nil
	}
	old, ok := a.Old.(*corev1.Node)
	if !ok {
		return nil
	}
	if obj.Spec.ConfigSource != nil && !equality.Semantic.DeepEqual(obj.Spec.ConfigSource, old.Spec.ConfigSource) {
		return Forbidden(a, fmt.Errorf("node %q is not allowed to update configSource to a new non-nil configSource", node))
	}
	if !equality.Semantic.DeepEqual(obj.Spec.Taints, old.Spec.Taints) {
		return Forbidden(a, fmt.Errorf("node %q is not allowed to modify taints", node))
	}
	if forbidden := forbiddenLabels(old.Labels, obj.Labels); len(forbidden) > 0 {
		return Forbidden(a, fmt.Errorf("is not allowed to modify labels: %s", strings.Join(forbidden, ", ")))
	}
	if !equality.Semantic.DeepEqual(obj.OwnerReferences, old.OwnerReferences) {
		return Forbidden(a, fmt.Errorf("node %q is not allowed to modify ownerReferences", node))
	}
	return nil
}

// forbiddenLabels lists the labels that changed and are not the kubelet's.
func forbiddenLabels(before, after map[string]string) []string {
	var forbidden []string
	for key, value := range after {
		if old, ok := before[key]; (!ok || old != value) && !kubeletMaySet(key) {
			forbidden = append(forbidden, key)
		}
	}
	for key := range before {
		if _, ok := after[key]; !ok && !kubeletMaySet(key) {
			forbidden = append(forbidden, key)
		}
	}
	slices.Sort(forbidden)
	return forbidden
}

func kubeletMaySet(key string) bool {
	domain, _, qualified := strings.Cut(key, "/")
	if !qualified {
		return true
	}
	within := func(parent string) bool { return domain == parent || strings.HasSuffix(domain, "."+parent) }
	switch {
	case within("node-restriction.kubernetes.io"):
		return false
	case !within("kubernetes.io") && !within("k8s.io"):
		return true
	case slices.Contains(kubeletLabels, key):
		return true
	}
	return within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

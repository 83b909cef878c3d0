package core

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/podspec"
)

func validateNode(n *corev1.Node) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateTaints(n.Spec.Taints, spec.Child("taints"))
	errs = append(errs, validateNodeResources(n)...)
	errs = append(errs, validatePodCIDRs(n, spec)...)
	return errs
}

func validateTaints(taints []corev1.Taint, path *field.Path) field.ErrorList {
	type key struct {
		key    string
		effect corev1.TaintEffect
	}
	var errs field.ErrorList
	seen := map[key]bool{}
	for i, taint := range taints {
		at := path.Index(i)
		errs = append(errs, metavalidation.ValidateLabelName(taint.Key, at.Child("key"))...)
		for _, msg := range validation.IsValidLabelValue(taint.Value) {
			errs = append(errs, field.Invalid(at.Child("value"), taint.Value, msg))
		}
		errs = append(errs, podspec.ValidateTaintEffect(taint.Effect, at.Child("effect"))...)
		if seen[key{taint.Key, taint.Effect}] {
			errs = append(errs, field.Duplicate(at, taint))
		}
		seen[key{taint.Key, taint.Effect}] = true
	}
	return errs
}

func validateNodeResources(n *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	status := field.NewPath("status")
	for name, list := range map[string]corev1.ResourceList{"capacity": n.Status.Capacity, "allocatable": n.Status.Allocatable} {
		for resource, quantity := range list {
			at := status.Child(name)
			errs = append(errs, podspec.ValidateResourceName(resource, at)...)
			errs = append(errs, podspec.ValidateQuantity(resource, quantity, at.Key(string(resource)))...)
		}
	}
	return errs
}

func validatePodCIDRs(n *corev1.Node, spec *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := spec.Child("podCIDRs")
	families := map[bool]bool{}
	for i, text := range n.Spec.PodCIDRs {
		errs = append(errs, validation.IsValidCIDRForLegacyField(at.Index(i), text, false, nil)...)
		if prefix, err := netip.ParsePrefix(text); err == nil {
			families[prefix.Addr().Is4()] = true
		}
	}
	if len(n.Spec.PodCIDRs) > 2 || len(n.Spec.PodCIDRs) == 2 && len(errs) == 0 && len(families) != 2 {
		errs = append(errs, field.Invalid(at, n.Spec.PodCIDRs, "may specify no more than one CIDR for each IP family"))
	}
	if len(n.Spec.PodCIDRs) > 0 && n.Spec.PodCIDR != "" && n.Spec.PodCIDR != n.Spec.PodCIDRs[0] {
		errs = append(errs, field.Invalid(at, n.Spec.PodCIDRs, "must contain podCIDR as its first element"))
	}
	return errs
}

func validateNodeUpdate(n, old *corev1.Node) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateNode(n)
	if len(old.Spec.PodCIDRs) > 0 && !slices.Equal(n.Spec.PodCIDRs, old.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(spec.Child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid"))
	}
	if old.Spec.ProviderID != "" && n.Spec.ProviderID != old.Spec.ProviderID {
		errs = append(errs, field.Forbidden(spec.Child("providerID"), "node updates may not change providerID except from \"\" to valid"))
	}
	if n.Spec.ConfigSource != nil && !equality.Semantic.DeepEqual(n.Spec.ConfigSource, old.Spec.ConfigSource) {
		errs = append(errs, field.Forbidden(spec.Child("configSource"), "configSource may not be set"))
	}
	seen := map[corev1.NodeAddress]bool{}
	for i, address := range n.Status.Addresses {
		if seen[address] {
			errs = append(errs, field.Duplicate(field.NewPath("status", "addresses").Index(i), address))
		}
		seen[address] = true
	}
	return errs
}

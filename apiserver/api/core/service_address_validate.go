package core

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// validateServiceAddresses checks what is given. What is left out is allocated
// later, so nothing is required here.
func validateServiceAddresses(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	errs := validateExternalIPs(spec.ExternalIPs, path.Child("externalIPs"))
	if !needsClusterIP(spec) {
		return errs
	}
	errs = append(errs, validateFamilies(spec, path)...)
	return append(errs, validateClusterIPs(spec, path)...)
}

func validateExternalIPs(ips []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, ip := range ips {
		at := path.Index(i)
		if bad := validation.IsValidIPForLegacyField(at, ip, false, nil); len(bad) > 0 {
			errs = append(errs, bad...)
			continue
		}
		errs = append(errs, validateReachable(ip, at)...)
	}
	return errs
}

// validateReachable refuses addresses that no packet from elsewhere carries.
func validateReachable(ip string, at *field.Path) field.ErrorList {
	address, err := netip.ParseAddr(ip)
	if err != nil {
		return nil // legacy forms, reported or accepted before
	}
	reason := ""
	switch {
	case address.IsUnspecified():
		reason = fmt.Sprintf("may not be unspecified (%v)", ip)
	case address.IsLoopback():
		reason = "may not be in the loopback range (127.0.0.0/8, ::1/128)"
	case address.IsLinkLocalUnicast():
		reason = "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
	case address.IsLinkLocalMulticast():
		reason = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
	default:
		return nil
	}
	return field.ErrorList{field.Invalid(at, ip, reason)}
}

func validateFamilies(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	known := []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	for i, family := range spec.IPFamilies {
		at := path.Child("ipFamilies").Index(i)
		switch {
		case !slices.Contains(known, family):
			errs = append(errs, field.NotSupported(at, family, known))
		case slices.Contains(spec.IPFamilies[:i], family):
			errs = append(errs, field.Duplicate(at, family))
		}
	}
	policies := []corev1.IPFamilyPolicy{corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack}
	if policy := spec.IPFamilyPolicy; policy != nil && !slices.Contains(policies, *policy) {
		errs = append(errs, field.NotSupported(path.Child("ipFamilyPolicy"), *policy, policies))
	}
	single := ptr.Deref(spec.IPFamilyPolicy, corev1.IPFamilyPolicySingleStack) == corev1.IPFamilyPolicySingleStack
	if spec.IPFamilyPolicy != nil && single && len(spec.ClusterIPs) > 1 {
		errs = append(errs, field.Invalid(path.Child("ipFamilyPolicy"), *spec.IPFamilyPolicy, "must be RequireDualStack or PreferDualStack when multiple 'clusterIPs' are specified"))
	}
	if spec.IPFamilyPolicy != nil && single && len(spec.IPFamilies) > 1 {
		errs = append(errs, field.Invalid(path.Child("ipFamilyPolicy"), *spec.IPFamilyPolicy, "must be RequireDualStack or PreferDualStack when multiple 'ipFamilies' are specified"))
	}
	return errs
}

func validateClusterIPs(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("clusterIPs")
	switch {
	case spec.ClusterIP == "" && len(spec.ClusterIPs) > 0:
		return field.ErrorList{field.Required(path.Child("clusterIP"), "must be set when `clusterIPs` is specified")}
	case len(spec.ClusterIPs) > 0 && spec.ClusterIP != spec.ClusterIPs[0]:
		return field.ErrorList{field.Invalid(at, spec.ClusterIPs, "first value must match `clusterIP`")}
	case len(spec.ClusterIPs) > 2:
		return field.ErrorList{field.Invalid(at, spec.ClusterIPs, "may only hold up to 2 values")}
	}
	seen := map[bool]bool{}
	for i, ip := range spec.ClusterIPs {
		if ip == corev1.ClusterIPNone {
			if len(spec.ClusterIPs) > 1 {
				errs = append(errs, field.Invalid(at.Index(i), ip, "'None' must be the first and only value"))
			}
			continue
		}
		if bad := validation.IsValidIPForLegacyField(at.Index(i), ip, false, nil); len(bad) > 0 {
			errs = append(errs, bad...)
			continue
		}
		address, err := netip.ParseAddr(ip)
		if err != nil {
			continue // a legacy form that is still accepted
		}
		if seen[address.Is4()] {
			errs = append(errs, field.Invalid(at, spec.ClusterIPs, "may specify no more than one IP for each IP family"))
		}
		seen[address.Is4()] = true
		if i < len(spec.IPFamilies) && (spec.IPFamilies[i] == corev1.IPv4Protocol) != address.Is4() {
			errs = append(errs, field.Invalid(at.Index(i), ip, fmt.Sprintf("expected an %v value as indicated by `ipFamilies[%v]`", spec.IPFamilies[i], i)))
		}
	}
	return errs
}

func validateServiceStatus(s, _ *corev1.Service) field.ErrorList {
	path := field.NewPath("status", "loadBalancer", "ingress")
	var errs field.ErrorList
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer && len(s.Status.LoadBalancer.Ingress) > 0 {
		return field.ErrorList{field.Forbidden(path, "may only be used when `spec.type` is LoadBalancer")}
	}
	for i, ingress := range s.Status.LoadBalancer.Ingress {
		at := path.Index(i)
		if ingress.IP != "" {
			errs = append(errs, validation.IsValidIPForLegacyField(at.Child("ip"), ingress.IP, false, nil)...)
		}
		if ingress.IP == "" && ingress.IPMode != nil {
			errs = append(errs, field.Forbidden(at.Child("ipMode"), "may not be specified when `ip` is not set"))
		}
		if ingress.Hostname == "" {
			continue
		}
		for _, msg := range validation.IsDNS1123Subdomain(ingress.Hostname) {
			errs = append(errs, field.Invalid(at.Child("hostname"), ingress.Hostname, msg))
		}
		if _, err := netip.ParseAddr(ingress.Hostname); err == nil {
			errs = append(errs, field.Invalid(at.Child("hostname"), ingress.Hostname, "must be a DNS name, not an IP address"))
		}
	}
	return errs
}

// serviceWarnings names what is accepted but on its way out.
func serviceWarnings(s, old *corev1.Service) []string {
	var warnings []string
	if s.Spec.LoadBalancerIP != "" && (old == nil || old.Spec.LoadBalancerIP != s.Spec.LoadBalancerIP) {
		warnings = append(warnings, "spec.loadBalancerIP: this field is deprecated")
	}
	if len(s.Spec.ExternalIPs) > 0 && (old == nil || !slices.Equal(old.Spec.ExternalIPs, s.Spec.ExternalIPs)) {
		warnings = append(warnings, "spec.externalIPs: this field is deprecated as of v1.36")
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName && len(s.Spec.ExternalIPs) > 0 {
		warnings = append(warnings, "spec.externalIPs: is ignored when spec.type is \"ExternalName\"")
	}
	if s.Spec.ClusterIP == corev1.ClusterIPNone && s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		warnings = append(warnings, "spec.SessionAffinity: is ignored for headless services")
	}
	return warnings
}

package networking

import (
	"net/netip"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateIngressClass(c *networkingv1.IngressClass) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	if len(c.Spec.Controller) > 250 {
		errs = append(errs, field.TooLong(spec.Child("controller"), "", 250))
	}
	errs = append(errs, validation.IsDomainPrefixedPath(spec.Child("controller"), c.Spec.Controller)...)
	if c.Spec.Parameters != nil {
		errs = append(errs, validateParameters(c.Spec.Parameters, spec.Child("parameters"))...)
	}
	return errs
}

func validateParameters(p *networkingv1.IngressClassParametersReference, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.APIGroup != nil {
		for _, msg := range validation.IsDNS1123Subdomain(*p.APIGroup) {
			errs = append(errs, field.Invalid(at.Child("apiGroup"), *p.APIGroup, msg))
		}
	}
	errs = append(errs, requiredSegment(p.Kind, at.Child("kind"))...)
	errs = append(errs, requiredSegment(p.Name, at.Child("name"))...)
	scopes := []string{networkingv1.IngressClassParametersReferenceScopeCluster, networkingv1.IngressClassParametersReferenceScopeNamespace}
	hasNamespace := p.Namespace != nil && *p.Namespace != ""
	switch {
	case p.Scope == nil:
		errs = append(errs, field.Required(at.Child("scope"), ""))
	case *p.Scope == scopes[0]:
		if p.Namespace != nil {
			errs = append(errs, field.Forbidden(at.Child("namespace"), "parameters.scope is set to 'Cluster'"))
		}
	case *p.Scope == scopes[1]:
		if !hasNamespace {
			errs = append(errs, field.Required(at.Child("namespace"), "parameters.scope is set to 'Namespace'"))
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("scope"), *p.Scope, scopes))
	}
	if hasNamespace {
		for _, msg := range validation.IsDNS1123Label(*p.Namespace) {
			errs = append(errs, field.Invalid(at.Child("namespace"), *p.Namespace, msg))
		}
	}
	return errs
}

func requiredSegment(value string, at *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	for _, msg := range path.IsValidPathSegmentName(value) {
		errs = append(errs, field.Invalid(at, value, msg))
	}
	return errs
}

func validateIngressClassUpdate(c, old *networkingv1.IngressClass) field.ErrorList {
	errs := validateIngressClass(c)
	return append(errs, apivalidation.ValidateImmutableField(c.Spec.Controller, old.Spec.Controller, field.NewPath("spec", "controller"))...)
}

// addressName is the canonical text of an IP address.
func addressName(name string, _ bool) []string {
	address, err := netip.ParseAddr(name)
	switch {
	case err != nil:
		return []string{"must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"}
	case address.String() != name || address.Is4In6():
		return []string{"must be in canonical form"}
	}
	return nil
}

func validateIPAddress(a *networkingv1.IPAddress) field.ErrorList {
	at := field.NewPath("spec", "parentRef")
	ref := a.Spec.ParentRef
	if ref == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	if ref.Group != "" {
		for _, msg := range validation.IsDNS1123Subdomain(ref.Group) {
			errs = append(errs, field.Invalid(at.Child("group"), ref.Group, msg))
		}
	}
	errs = append(errs, requiredSegment(ref.Resource, at.Child("resource"))...)
	errs = append(errs, requiredSegment(ref.Name, at.Child("name"))...)
	if ref.Namespace != "" {
		for _, msg := range path.IsValidPathSegmentName(ref.Namespace) {
			errs = append(errs, field.Invalid(at.Child("namespace"), ref.Namespace, msg))
		}
	}
	return errs
}

func validateIPAddressUpdate(a, old *networkingv1.IPAddress) field.ErrorList {
	return apivalidation.ValidateImmutableField(a.Spec.ParentRef, old.Spec.ParentRef, field.NewPath("spec", "parentRef"))
}

func validateServiceCIDR(c *networkingv1.ServiceCIDR) field.ErrorList {
	at := field.NewPath("spec", "cidrs")
	var errs field.ErrorList
	switch len(c.Spec.CIDRs) {
	case 0:
		return field.ErrorList{field.Required(at, "at least one CIDR required")}
	case 1, 2:
	default:
		return field.ErrorList{field.Invalid(at, c.Spec.CIDRs, "may only hold up to 2 values")}
	}
	families := map[bool]bool{}
	for i, text := range c.Spec.CIDRs {
		bad := validation.IsValidCIDR(at.Index(i), text)
		errs = append(errs, bad...)
		if prefix, err := netip.ParsePrefix(text); err == nil && len(bad) == 0 {
			families[prefix.Addr().Is4()] = true
		}
	}
	if len(errs) == 0 && len(c.Spec.CIDRs) == 2 && len(families) != 2 {
		errs = append(errs, field.Invalid(at, c.Spec.CIDRs, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"))
	}
	return errs
}

// validateServiceCIDRUpdate allows to add the second family, nothing else.
func validateServiceCIDRUpdate(c, old *networkingv1.ServiceCIDR) field.ErrorList {
	at := field.NewPath("spec", "cidrs")
	if equality.Semantic.DeepEqual(c.Spec.CIDRs, old.Spec.CIDRs) {
		return nil
	}
	upgraded := len(old.Spec.CIDRs) == 1 && len(c.Spec.CIDRs) == 2 && c.Spec.CIDRs[0] == old.Spec.CIDRs[0]
	if !upgraded {
		return field.ErrorList{field.Invalid(at, c.Spec.CIDRs, apivalidation.FieldImmutableErrorMsg)}
	}
	return validateServiceCIDR(c)
}

func validateLabelSelector(selector *networkingv1.NetworkPolicyPeer, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	options := metavalidation.LabelSelectorValidationOptions{}
	if selector.PodSelector != nil {
		errs = append(errs, metavalidation.ValidateLabelSelector(selector.PodSelector, options, at.Child("podSelector"))...)
	}
	if selector.NamespaceSelector != nil {
		errs = append(errs, metavalidation.ValidateLabelSelector(selector.NamespaceSelector, options, at.Child("namespaceSelector"))...)
	}
	return errs
}

package discovery

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// Bounds of the discovery/v1 API reference.
const (
	maxEndpoints = 1000
	maxAddresses = 100
	maxPorts     = 20000
	maxZoneHints = 8
	maxNodeHints = 8
)

func validateEndpointSlice(s *discoveryv1.EndpointSlice) field.ErrorList {
	var errs field.ErrorList
	types := []discoveryv1.AddressType{discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}
	at := field.NewPath("addressType")
	switch {
	case s.AddressType == "":
		errs = append(errs, field.Required(at, ""))
	case !slices.Contains(types, s.AddressType):
		errs = append(errs, field.NotSupported(at, s.AddressType, types))
	}
	endpoints := field.NewPath("endpoints")
	if len(s.Endpoints) > maxEndpoints {
		return append(errs, field.TooMany(endpoints, len(s.Endpoints), maxEndpoints))
	}
	for i := range s.Endpoints {
		errs = append(errs, validateEndpoint(&s.Endpoints[i], s.AddressType, endpoints.Index(i))...)
	}
	return append(errs, validatePorts(s.Ports, field.NewPath("ports"))...)
}

func validateEndpoint(e *discoveryv1.Endpoint, kind discoveryv1.AddressType, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("addresses")
	switch {
	case len(e.Addresses) == 0:
		errs = append(errs, field.Required(at, "must contain at least 1 address"))
	case len(e.Addresses) > maxAddresses:
		errs = append(errs, field.TooMany(at, len(e.Addresses), maxAddresses))
	}
	for i, address := range e.Addresses {
		errs = append(errs, validateAddress(address, kind, at.Index(i))...)
	}
	if e.NodeName != nil {
		for _, msg := range validation.IsDNS1123Subdomain(*e.NodeName) {
			errs = append(errs, field.Invalid(path.Child("nodeName"), *e.NodeName, msg))
		}
	}
	if e.Hostname != nil {
		for _, msg := range validation.IsDNS1123Label(*e.Hostname) {
			errs = append(errs, field.Invalid(path.Child("hostname"), *e.Hostname, msg))
		}
	}
	if topology := e.DeprecatedTopology; topology != nil {
		for key := range topology {
			errs = append(errs, field.Invalid(path.Child("deprecatedTopology"), key, "cannot be set"))
		}
	}
	if e.Hints != nil {
		errs = append(errs, validateHints(e.Hints, path.Child("hints"))...)
	}
	return errs
}

func validateAddress(address string, kind discoveryv1.AddressType, path *field.Path) field.ErrorList {
	if kind == discoveryv1.AddressTypeFQDN {
		return validation.IsFullyQualifiedDomainName(path, address)
	}
	errs := validation.IsValidIPForLegacyField(path, address, true, nil)
	parsed, err := netip.ParseAddr(address)
	if len(errs) > 0 || err != nil {
		return errs
	}
	if parsed.Is4() != (kind == discoveryv1.AddressTypeIPv4) {
		return field.ErrorList{field.Invalid(path, address, fmt.Sprintf("must be an %s address", kind))}
	}
	switch {
	case parsed.IsUnspecified():
		return field.ErrorList{field.Invalid(path, address, fmt.Sprintf("may not be unspecified (%v)", address))}
	case parsed.IsLoopback():
		return field.ErrorList{field.Invalid(path, address, "may not be in the loopback range (127.0.0.0/8, ::1/128)")}
	case parsed.IsLinkLocalUnicast():
		return field.ErrorList{field.Invalid(path, address, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")}
	case parsed.IsLinkLocalMulticast():
		return field.ErrorList{field.Invalid(path, address, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")}
	}
	return nil
}

func validateHints(h *discoveryv1.EndpointHints, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(h.ForZones) > maxZoneHints {
		return field.ErrorList{field.TooMany(path.Child("forZones"), len(h.ForZones), maxZoneHints)}
	}
	if len(h.ForNodes) > maxNodeHints {
		return field.ErrorList{field.TooMany(path.Child("forNodes"), len(h.ForNodes), maxNodeHints)}
	}
	zones, nodes := map[string]bool{}, map[string]bool{}
	for i, zone := range h.ForZones {
		at := path.Child("forZones").Index(i).Child("name")
		if zones[zone.Name] {
			errs = append(errs, field.Duplicate(at, zone.Name))
		}
		zones[zone.Name] = true
		for _, msg := range validation.IsValidLabelValue(zone.Name) {
			errs = append(errs, field.Invalid(at, zone.Name, msg))
		}
	}
	for i, node := range h.ForNodes {
		at := path.Child("forNodes").Index(i).Child("name")
		if nodes[node.Name] {
			errs = append(errs, field.Duplicate(at, node.Name))
		}
		nodes[node.Name] = true
		for _, msg := range validation.IsDNS1123Subdomain(node.Name) {
			errs = append(errs, field.Invalid(at, node.Name, msg))
		}
	}
	return errs
}

func validatePorts(ports []discoveryv1.EndpointPort, path *field.Path) field.ErrorList {
	if len(ports) > maxPorts {
		return field.ErrorList{field.TooMany(path, len(ports), maxPorts)}
	}
	var errs field.ErrorList
	names := map[string]bool{}
	protocols := []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP}
	for i, port := range ports {
		at, name := path.Index(i), ptr.Deref(port.Name, "")
		if name != "" {
			for _, msg := range validation.IsDNS1123Label(name) {
				errs = append(errs, field.Invalid(at.Child("name"), name, msg))
			}
		}
		if names[name] {
			errs = append(errs, field.Duplicate(at.Child("name"), name))
		}
		names[name] = true
		switch {
		case port.Protocol == nil:
			errs = append(errs, field.Required(at.Child("protocol"), ""))
		case !slices.Contains(protocols, *port.Protocol):
			errs = append(errs, field.NotSupported(at.Child("protocol"), *port.Protocol, protocols))
		}
		if port.Port != nil {
			for _, msg := range validation.IsValidPortNum(int(*port.Port)) {
				errs = append(errs, field.Invalid(at.Child("port"), *port.Port, msg))
			}
		}
		if port.AppProtocol != nil {
			for _, msg := range validation.IsQualifiedName(*port.AppProtocol) {
				errs = append(errs, field.Invalid(at.Child("appProtocol"), *port.AppProtocol, msg))
			}
		}
	}
	return errs
}

func validateEndpointSliceUpdate(s, old *discoveryv1.EndpointSlice) field.ErrorList {
	errs := validateEndpointSlice(s)
	return append(errs, apivalidation.ValidateImmutableField(s.AddressType, old.AddressType, field.NewPath("addressType"))...)
}

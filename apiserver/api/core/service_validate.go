package core

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/podspec"
)

// serviceName is one DNS label; since v1.37 it may begin with a digit
// (KEP-5311).
func serviceName(name string, prefix bool) []string {
	return apivalidation.NameIsDNSLabel(name, prefix)
}

// kubeletPort must not be opened to the world by a load balancer.
const kubeletPort = 10250

func validateService(s *corev1.Service) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateServiceType(s, path)
	errs = append(errs, validateServicePorts(&s.Spec, path.Child("ports"))...)
	errs = append(errs, metavalidation.ValidateLabels(s.Spec.Selector, path.Child("selector"))...)
	errs = append(errs, validateAffinity(&s.Spec, path)...)
	errs = append(errs, validateServiceAddresses(&s.Spec, path)...)
	errs = append(errs, validateLoadBalancer(&s.Spec, path)...)
	errs = append(errs, validateTrafficPolicies(&s.Spec, path)...)
	return errs
}

func validateServiceType(s *corev1.Service, path *field.Path) field.ErrorList {
	types := []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort}
	spec := &s.Spec
	switch {
	case spec.Type == "":
		return field.ErrorList{field.Required(path.Child("type"), "")}
	case !slices.Contains(types, spec.Type):
		return field.ErrorList{field.NotSupported(path.Child("type"), spec.Type, types)}
	case spec.Type == corev1.ServiceTypeExternalName:
		return validateExternalName(spec, path)
	}
	if len(spec.Ports) == 0 && spec.ClusterIP != corev1.ClusterIPNone {
		return field.ErrorList{field.Required(path.Child("ports"), "")}
	}
	if spec.ClusterIP == corev1.ClusterIPNone && spec.Type != corev1.ServiceTypeClusterIP {
		return field.ErrorList{field.Invalid(path.Child("clusterIPs").Index(0), spec.ClusterIP, fmt.Sprintf("may not be set to 'None' for %s services", spec.Type))}
	}
	return nil
}

func validateExternalName(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	forbidden := "may not be set for ExternalName services"
	if spec.ClusterIP != "" || len(spec.ClusterIPs) > 0 {
		errs = append(errs, field.Forbidden(path.Child("clusterIPs"), forbidden))
	}
	if len(spec.IPFamilies) > 0 {
		errs = append(errs, field.Forbidden(path.Child("ipFamilies"), forbidden))
	}
	if spec.IPFamilyPolicy != nil {
		errs = append(errs, field.Forbidden(path.Child("ipFamilyPolicy"), forbidden))
	}
	name := strings.TrimSuffix(spec.ExternalName, ".")
	if name == "" {
		return append(errs, field.Required(path.Child("externalName"), ""))
	}
	for _, msg := range validation.IsDNS1123Subdomain(name) {
		errs = append(errs, field.Invalid(path.Child("externalName"), name, msg))
	}
	return errs
}

func validateServicePorts(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names, ports, taken := map[string]bool{}, map[portKey]bool{}, map[portKey]bool{}
	for i := range spec.Ports {
		port, at := &spec.Ports[i], path.Index(i)
		errs = append(errs, validateServicePort(port, len(spec.Ports) > 1, names, at)...)
		if spec.Type == corev1.ServiceTypeLoadBalancer && port.Port == kubeletPort {
			errs = append(errs, field.Invalid(at.Child("port"), port.Port, fmt.Sprintf("may not expose port %v externally since it is used by kubelet", kubeletPort)))
		}
		key := portKey{port.Protocol, port.Port}
		if ports[key] {
			errs = append(errs, field.Duplicate(at, corev1.ServicePort{Protocol: port.Protocol, Port: port.Port}))
		}
		ports[key] = true
		if port.NodePort == 0 {
			continue
		}
		if spec.Type == corev1.ServiceTypeClusterIP || spec.Type == corev1.ServiceTypeExternalName {
			errs = append(errs, field.Forbidden(at.Child("nodePort"), fmt.Sprintf("may not be used when `type` is '%s'", spec.Type)))
		}
		for _, msg := range validation.IsValidPortNum(int(port.NodePort)) {
			errs = append(errs, field.Invalid(at.Child("nodePort"), port.NodePort, msg))
		}
		key = portKey{port.Protocol, port.NodePort}
		if taken[key] {
			errs = append(errs, field.Duplicate(at.Child("nodePort"), port.NodePort))
		}
		taken[key] = true
	}
	return errs
}

func validateServicePort(port *corev1.ServicePort, nameRequired bool, names map[string]bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case port.Name == "" && nameRequired:
		errs = append(errs, field.Required(at.Child("name"), ""))
	case port.Name == "":
	case names[port.Name]:
		errs = append(errs, field.Duplicate(at.Child("name"), port.Name))
	default:
		for _, msg := range validation.IsDNS1123Label(port.Name) {
			errs = append(errs, field.Invalid(at.Child("name"), port.Name, msg))
		}
	}
	names[port.Name] = true
	for _, msg := range validation.IsValidPortNum(int(port.Port)) {
		errs = append(errs, field.Invalid(at.Child("port"), port.Port, msg))
	}
	errs = append(errs, podspec.ValidateProtocol(port.Protocol, at.Child("protocol"))...)
	errs = append(errs, podspec.ValidatePortNumOrName(port.TargetPort, at.Child("targetPort"))...)
	if port.AppProtocol != nil {
		for _, msg := range validation.IsQualifiedName(*port.AppProtocol) {
			errs = append(errs, field.Invalid(at.Child("appProtocol"), *port.AppProtocol, msg))
		}
	}
	return errs
}

// maxAffinitySeconds is a day (core/v1 ClientIPConfig).
const maxAffinitySeconds = 86400

func validateAffinity(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	switch spec.SessionAffinity {
	case "":
		return field.ErrorList{field.Required(path.Child("sessionAffinity"), "")}
	case corev1.ServiceAffinityNone:
		if spec.SessionAffinityConfig != nil {
			return field.ErrorList{field.Forbidden(path.Child("sessionAffinityConfig"), fmt.Sprintf("must not be set when session affinity is %s", corev1.ServiceAffinityNone))}
		}
		return nil
	case corev1.ServiceAffinityClientIP:
		at := path.Child("sessionAffinityConfig")
		config := spec.SessionAffinityConfig
		if config == nil || config.ClientIP == nil || config.ClientIP.TimeoutSeconds == nil {
			return field.ErrorList{field.Required(at, fmt.Sprintf("when session affinity type is %s", corev1.ServiceAffinityClientIP))}
		}
		if seconds := *config.ClientIP.TimeoutSeconds; seconds <= 0 || seconds > maxAffinitySeconds {
			return field.ErrorList{field.Invalid(at.Child("clientIP", "timeoutSeconds"), seconds, fmt.Sprintf("must be greater than 0 and less than %d", maxAffinitySeconds))}
		}
		return nil
	}
	return field.ErrorList{field.NotSupported(path.Child("sessionAffinity"), spec.SessionAffinity, []corev1.ServiceAffinity{corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone})}
}

func validateLoadBalancer(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	balanced := spec.Type == corev1.ServiceTypeLoadBalancer
	only := "may only be used when `type` is 'LoadBalancer'"
	if !balanced && len(spec.LoadBalancerSourceRanges) > 0 {
		errs = append(errs, field.Forbidden(path.Child("loadBalancerSourceRanges"), only))
	}
	if balanced {
		for i, cidr := range spec.LoadBalancerSourceRanges {
			errs = append(errs, validation.IsValidCIDRForLegacyField(path.Child("loadBalancerSourceRanges").Index(i), strings.TrimSpace(cidr), false, nil)...)
		}
		if spec.AllocateLoadBalancerNodePorts == nil {
			errs = append(errs, field.Required(path.Child("allocateLoadBalancerNodePorts"), ""))
		}
	} else if spec.AllocateLoadBalancerNodePorts != nil {
		errs = append(errs, field.Forbidden(path.Child("allocateLoadBalancerNodePorts"), only))
	}
	if class := spec.LoadBalancerClass; class != nil {
		if !balanced {
			errs = append(errs, field.Forbidden(path.Child("loadBalancerClass"), only))
		}
		for _, msg := range validation.IsQualifiedName(*class) {
			errs = append(errs, field.Invalid(path.Child("loadBalancerClass"), *class, msg))
		}
	}
	return errs
}

func validateTrafficPolicies(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	errs := validateExternalPolicy(spec, path)
	at := path.Child("internalTrafficPolicy")
	policies := []corev1.ServiceInternalTrafficPolicy{corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal}
	switch policy := spec.InternalTrafficPolicy; {
	case policy == nil && needsClusterIP(spec):
		errs = append(errs, field.Required(at, ""))
	case policy != nil && !slices.Contains(policies, *policy):
		errs = append(errs, field.NotSupported(at, *policy, policies))
	}
	known := []string{corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameNode, corev1.ServiceTrafficDistributionPreferSameZone}
	if d := spec.TrafficDistribution; d != nil && !slices.Contains(known, *d) {
		errs = append(errs, field.NotSupported(path.Child("trafficDistribution"), *d, known))
	}
	return errs
}

func validateExternalPolicy(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("externalTrafficPolicy")
	policies := []corev1.ServiceExternalTrafficPolicy{corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal}
	switch {
	case !externallyAccessible(spec):
		if spec.ExternalTrafficPolicy != "" {
			errs = append(errs, field.Invalid(at, spec.ExternalTrafficPolicy, "may only be set for externally-accessible services"))
		}
	case spec.ExternalTrafficPolicy == "":
		errs = append(errs, field.Required(at, "externalTrafficPolicy must be set for externally-accessible services"))
	case !slices.Contains(policies, spec.ExternalTrafficPolicy):
		errs = append(errs, field.NotSupported(at, spec.ExternalTrafficPolicy, policies))
	}
	if spec.HealthCheckNodePort == 0 {
		return errs
	}
	check := path.Child("healthCheckNodePort")
	if !needsHealthCheckPort(spec) {
		return append(errs, field.Invalid(check, spec.HealthCheckNodePort, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
	}
	for _, msg := range validation.IsValidPortNum(int(spec.HealthCheckNodePort)) {
		errs = append(errs, field.Invalid(check, spec.HealthCheckNodePort, msg))
	}
	return errs
}

func validateServiceUpdate(s, old *corev1.Service) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	if needsClusterIP(&s.Spec) && needsClusterIP(&old.Spec) {
		errs = append(errs, keepsPrimary(&s.Spec, &old.Spec, spec)...)
	}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer && old.Spec.Type == corev1.ServiceTypeLoadBalancer && !ptr.Equal(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
		errs = append(errs, field.Invalid(spec.Child("loadBalancerClass"), s.Spec.LoadBalancerClass, "may not change once set"))
	}
	return append(errs, validateService(s)...)
}

// keepsPrimary: the first address and family of a Service are for life; what
// comes second may be added and removed with the family policy.
func keepsPrimary(spec, old *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	const fixed = "may not change once set"
	if len(old.ClusterIPs) > 0 && old.ClusterIPs[0] != "" {
		switch {
		case len(spec.ClusterIPs) == 0:
			errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(0), spec.ClusterIPs, "primary clusterIP can not be unset"))
		case spec.ClusterIPs[0] != old.ClusterIPs[0]:
			errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(0), spec.ClusterIPs, fixed))
		}
	}
	if len(old.IPFamilies) > 0 {
		switch {
		case len(spec.IPFamilies) == 0:
			errs = append(errs, field.Invalid(path.Child("ipFamilies").Index(0), spec.IPFamilies, "primary ipFamily can not be unset"))
		case spec.IPFamilies[0] != old.IPFamilies[0]:
			errs = append(errs, field.Invalid(path.Child("ipFamilies").Index(0), spec.IPFamilies, fixed))
		}
	}
	single := ptr.Deref(spec.IPFamilyPolicy, corev1.IPFamilyPolicySingleStack) == corev1.IPFamilyPolicySingleStack
	if len(old.ClusterIPs) > 1 && len(spec.ClusterIPs) > 1 && spec.ClusterIPs[1] != old.ClusterIPs[1] && !single {
		errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(1), spec.ClusterIPs, fixed))
	}
	return errs
}

package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	resourcehelper "k8s.io/component-helpers/resource"
)

// containerResources are the unqualified resources a container may ask for.
var containerResources = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}

// IsHugePages reports a resource like hugepages-2Mi.
func IsHugePages(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// IsExtended reports a resource outside Kubernetes' own names (device plugins).
func IsExtended(name corev1.ResourceName) bool {
	domain, _, qualified := strings.Cut(string(name), "/")
	if !qualified || domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") || strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+string(name))) == 0
}

// overcommits reports whether the limit of a resource may exceed its request.
func overcommits(name corev1.ResourceName) bool {
	return !IsExtended(name) && !IsHugePages(name)
}

func validateContainerResources(r *corev1.ResourceRequirements, claims map[string]bool, path *field.Path) field.ErrorList {
	errs := validateRequirements(r, path, validateContainerResourceName)
	for i, claim := range r.Claims {
		at := path.Child("claims").Index(i)
		switch {
		case claim.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case !claims[claim.Name]:
			errs = append(errs, field.NotFound(at, claim.Name))
		case slices.Contains(r.Claims[:i], claim):
			errs = append(errs, field.Duplicate(at, claim.Name))
		}
	}
	return errs
}

func validateRequirements(r *corev1.ResourceRequirements, path *field.Path, validName func(corev1.ResourceName, *field.Path) field.ErrorList) field.ErrorList {
	var errs field.ErrorList
	limits, requests := path.Child("limits"), path.Child("requests")
	huge, compute := false, false
	inspect := func(list corev1.ResourceList, at *field.Path) {
		for name, quantity := range list {
			errs = append(errs, validName(name, at)...)
			errs = append(errs, ValidateQuantity(name, quantity, at.Key(string(name)))...)
			huge = huge || IsHugePages(name)
			compute = compute || name == corev1.ResourceCPU || name == corev1.ResourceMemory
		}
	}
	inspect(r.Limits, limits)
	inspect(r.Requests, requests)
	for name, request := range r.Requests {
		limit, limited := r.Limits[name]
		switch {
		case limited && request.Cmp(limit) != 0 && !overcommits(name):
			errs = append(errs, field.Invalid(requests, request.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case limited && request.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(requests, request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		case !limited && !overcommits(name):
			errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
		}
	}
	if huge && !compute {
		errs = append(errs, field.Forbidden(path, "HugePages require cpu or memory"))
	}
	return errs
}

func validateContainerResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	errs := ValidateResourceName(name, path)
	if strings.Contains(string(name), "/") {
		if !IsExtended(name) && !strings.HasPrefix(string(name), corev1.ResourceDefaultNamespacePrefix) {
			errs = append(errs, field.Invalid(path, name, "doesn't follow extended resource name standard"))
		}
		return errs
	}
	if len(errs) == 0 && !slices.Contains(containerResources, name) && !IsHugePages(name) {
		errs = append(errs, field.Invalid(path, name, "must be a standard resource for containers"))
	}
	return errs
}

// standardResources are the unqualified names known to the API at all.
var standardResources = []corev1.ResourceName{
	corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourceStorage,
	corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage, corev1.ResourceRequestsStorage,
	corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage,
	corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers,
	corev1.ResourceSecrets, corev1.ResourcePersistentVolumeClaims, corev1.ResourceConfigMaps,
	corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers,
}

// ValidateResourceName checks a resource's name in general.
func ValidateResourceName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	errs := invalidAll(path, name, validation.IsQualifiedName(string(name)))
	if len(errs) > 0 || strings.Contains(string(name), "/") {
		return errs
	}
	if slices.Contains(standardResources, name) || IsHugePages(name) || strings.HasPrefix(string(name), corev1.ResourceRequestsHugePagesPrefix) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, name, "must be a standard resource type or fully qualified")}
}

// wholeResources are counted, not measured.
var wholeResources = []corev1.ResourceName{
	corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers,
	corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims,
	corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers,
}

// ValidateQuantity checks an amount of a resource.
func ValidateQuantity(name corev1.ResourceName, quantity resource.Quantity, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if quantity.Sign() < 0 {
		errs = append(errs, field.Invalid(path, quantity.String(), notNegative))
	}
	whole := slices.Contains(wholeResources, name) || IsExtended(name)
	if whole && quantity.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(path, quantity.String(), "must be an integer"))
	}
	if !IsHugePages(name) {
		return errs
	}
	size, err := resource.ParseQuantity(strings.TrimPrefix(string(name), corev1.ResourceHugePagesPrefix))
	if err == nil && size.Value() > 0 && quantity.Value()%size.Value() != 0 {
		errs = append(errs, field.Invalid(path, quantity.String(), fmt.Sprintf("must be a multiple of %s", size.String())))
	}
	return errs
}

// ValidateOverhead checks what a runtime class adds to each Pod.
func ValidateOverhead(overhead corev1.ResourceList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for name, quantity := range overhead {
		errs = append(errs, validateContainerResourceName(name, path)...)
		errs = append(errs, ValidateQuantity(name, quantity, path.Key(string(name)))...)
	}
	return errs
}

// validatePodResources checks resources of the Pod as a whole (KEP-2837).
func validatePodResources(spec *corev1.PodSpec, specPath *field.Path) field.ErrorList {
	r, path := spec.Resources, specPath.Child("resources")
	validName := func(name corev1.ResourceName, at *field.Path) field.ErrorList {
		if resourcehelper.IsSupportedPodLevelResource(name) {
			return nil
		}
		known := resourcehelper.SupportedPodLevelResources().UnsortedList()
		slices.Sort(known)
		return field.ErrorList{field.NotSupported(at, name, known)}
	}
	errs := validateRequirements(r, path, validName)
	if len(r.Claims) > 0 {
		errs = append(errs, field.Forbidden(path.Child("claims"), "claims may not be set for pod level resources"))
	}
	sums := resourcehelper.AggregateContainerRequests(&corev1.Pod{Spec: *spec}, resourcehelper.PodResourcesOptions{})
	for name, request := range r.Requests {
		if sum, ok := sums[name]; ok && sum.Cmp(request) > 0 {
			errs = append(errs, field.Invalid(path.Child("requests").Key(string(name)), request.String(), fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", sum.String())))
		}
	}
	for i := range spec.Containers {
		for name, limit := range spec.Containers[i].Resources.Limits {
			if whole, ok := r.Limits[name]; ok && limit.Cmp(whole) > 0 {
				at := specPath.Child("containers").Index(i).Child("resources", "limits")
				errs = append(errs, field.Invalid(at, limit.String(), fmt.Sprintf("must be less than or equal to pod limits of %s", whole.String())))
			}
		}
	}
	return errs
}

func validateClaims(list []corev1.PodResourceClaim, path *field.Path) (map[string]bool, field.ErrorList) {
	var errs field.ErrorList
	names := map[string]bool{}
	for i, claim := range list {
		at := path.Index(i)
		if claim.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
			continue
		}
		errs = append(errs, invalidAll(at.Child("name"), claim.Name, validation.IsDNS1123Label(claim.Name))...)
		if names[claim.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), claim.Name))
		}
		names[claim.Name] = true
		named, templated := claim.ResourceClaimName != nil, claim.ResourceClaimTemplateName != nil
		switch {
		case named && templated:
			errs = append(errs, field.Invalid(at, claim, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		case !named && !templated:
			errs = append(errs, field.Invalid(at, claim, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		}
	}
	return names, errs
}

// ValidateQuotaName checks what a quota may count: standard resources, and
// objects of any kind ("count/deployments.apps").
func ValidateQuotaName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	if _, counted, ok := strings.Cut(string(name), "/"); ok {
		if strings.HasPrefix(string(name), "count/") && counted == "" {
			return field.ErrorList{field.Invalid(path, name, "must name a resource to count")}
		}
		return invalidAll(path, name, validation.IsQualifiedName(string(name)))
	}
	// "<class>.storageclass.storage.k8s.io/..." and the like have a slash too,
	// so what is left are plain names.
	return ValidateResourceName(name, path)
}

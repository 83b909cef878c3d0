// Package podspec defaults and validates Pod specifications: the one inside a
// Pod, and the templates inside Deployments, Jobs and the like. It follows
// the API reference of core/v1 field by field. Called by apiserver/api/*;
// calls apimachinery's validation only. Pure; starts no goroutines.
package podspec

import (
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	notNegative  = apivalidation.IsNegativeErrorMsg
	notPositive  = "must be greater than 0"
	mustBeUnique = "must be unique"
)

// ValidatePod checks a Pod to be created.
func ValidatePod(pod *corev1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	errs := ValidateSpec(&pod.Spec, path)
	if len(pod.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(path.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if pod.Spec.NodeName != "" && len(pod.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(path.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return append(errs, validateMirror(pod)...)
}

// validateMirror checks the annotation by which kubelets mark static Pods.
func validateMirror(pod *corev1.Pod) field.ErrorList {
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror || pod.Spec.NodeName != "" {
		return nil
	}
	path := field.NewPath("metadata", "annotations").Key(corev1.MirrorPodAnnotationKey)
	return field.ErrorList{field.Invalid(path, "", "must set spec.nodeName if mirror pod annotation is set")}
}

// ValidateTemplate checks a template. What holds only for a certain kind (its
// restart policies, say) is checked by that kind.
func ValidateTemplate(template *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	metadata := path.Child("metadata")
	errs := metavalidation.ValidateLabels(template.Labels, path.Child("labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(template.Annotations, path.Child("annotations"))...)
	for i, name := range template.Finalizers {
		errs = append(errs, apivalidation.ValidateFinalizerName(name, metadata.Child("finalizers").Index(i))...)
	}
	errs = append(errs, ValidateSpec(&template.Spec, path.Child("spec"))...)
	if len(template.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(path.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

// ValidateSpec checks what holds for Pods and templates alike.
func ValidateSpec(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	volumes, errs := validateVolumes(spec.Volumes, path.Child("volumes"))
	claims, claimErrs := validateClaims(spec.ResourceClaims, path.Child("resourceClaims"))
	errs = append(errs, claimErrs...)
	scope := containerScope{spec: spec, volumes: volumes, claims: claims}
	errs = append(errs, validateContainers(scope, path)...)
	errs = append(errs, validatePolicies(spec, path)...)
	errs = append(errs, validateNames(spec, path)...)
	errs = append(errs, validateDNS(spec, path)...)
	errs = append(errs, validatePlacement(spec, path)...)
	errs = append(errs, validatePodSecurity(spec, path)...)
	errs = append(errs, ValidateOverhead(spec.Overhead, path.Child("overhead"))...)
	if spec.Resources != nil {
		errs = append(errs, validatePodResources(spec, path)...)
	}
	return errs
}

func validatePolicies(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	errs := oneOf(spec.RestartPolicy, path.Child("restartPolicy"), corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	if deadline := spec.ActiveDeadlineSeconds; deadline != nil && (*deadline < 1 || *deadline > math.MaxInt32) {
		errs = append(errs, field.Invalid(path.Child("activeDeadlineSeconds"), *deadline, validation.InclusiveRangeError(1, math.MaxInt32)))
	}
	if spec.PreemptionPolicy != nil {
		errs = append(errs, oneOf(*spec.PreemptionPolicy, path.Child("preemptionPolicy"), corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	for i, gate := range spec.ReadinessGates {
		at := path.Child("readinessGates").Index(i).Child("conditionType")
		for _, msg := range validation.IsQualifiedName(string(gate.ConditionType)) {
			errs = append(errs, field.Invalid(at, string(gate.ConditionType), msg))
		}
	}
	seen := map[string]bool{}
	for i, gate := range spec.SchedulingGates {
		at := path.Child("schedulingGates").Index(i)
		for _, msg := range validation.IsQualifiedName(gate.Name) {
			errs = append(errs, field.Invalid(at, gate.Name, msg))
		}
		if seen[gate.Name] {
			errs = append(errs, field.Duplicate(at, gate.Name))
		}
		seen[gate.Name] = true
	}
	return errs
}

func validateNames(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	check := func(value, name string, valid func(string) []string) {
		if value == "" {
			return
		}
		for _, msg := range valid(value) {
			errs = append(errs, field.Invalid(path.Child(name), value, msg))
		}
	}
	check(spec.ServiceAccountName, "serviceAccountName", validation.IsDNS1123Subdomain)
	check(spec.NodeName, "nodeName", validation.IsDNS1123Subdomain)
	check(spec.Hostname, "hostname", validation.IsDNS1123Label)
	check(spec.Subdomain, "subdomain", validation.IsDNS1123Label)
	check(spec.PriorityClassName, "priorityClassName", validation.IsDNS1123Subdomain)
	if spec.RuntimeClassName != nil {
		check(*spec.RuntimeClassName, "runtimeClassName", validation.IsDNS1123Subdomain)
	}
	errs = append(errs, validateHostnameOverride(spec, path)...)
	for i, secret := range spec.ImagePullSecrets {
		if secret.Name == "" {
			errs = append(errs, field.Required(path.Child("imagePullSecrets").Index(i), "name"))
		}
	}
	for i, alias := range spec.HostAliases {
		at := path.Child("hostAliases").Index(i)
		errs = append(errs, validateIP(alias.IP, at.Child("ip"))...)
		for j, name := range alias.Hostnames {
			for _, msg := range validation.IsDNS1123Subdomain(name) {
				errs = append(errs, field.Invalid(at.Child("hostnames").Index(j), name, msg))
			}
		}
	}
	return errs
}

// validateHostnameOverride checks the host name that is used as it is
// (KEP-4762); the kernel takes 64 characters.
func validateHostnameOverride(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	if spec.HostnameOverride == nil {
		return nil
	}
	var errs field.ErrorList
	at, name := path.Child("hostnameOverride"), *spec.HostnameOverride
	for _, msg := range validation.IsDNS1123Subdomain(name) {
		errs = append(errs, field.Invalid(at, name, msg))
	}
	if len(name) > 64 {
		errs = append(errs, field.TooLongMaxLength(at, name, 64))
	}
	if spec.HostNetwork {
		errs = append(errs, field.Forbidden(at, "cannot be set when `hostNetwork` is true"))
	}
	if spec.SetHostnameAsFQDN != nil && *spec.SetHostnameAsFQDN {
		errs = append(errs, field.Invalid(path.Child("setHostnameAsFQDN"), *spec.SetHostnameAsFQDN, "setHostnameAsFQDN and hostnameOverride cannot both be set"))
	}
	return errs
}

// Bounds of what goes into resolv.conf (core/v1 PodDNSConfig).
const (
	maxNameservers  = 3
	maxSearches     = 32
	maxSearchLength = 2048
)

func validateDNS(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	errs := oneOf(spec.DNSPolicy, path.Child("dnsPolicy"), corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)
	at, config := path.Child("dnsConfig"), spec.DNSConfig
	if spec.DNSPolicy == corev1.DNSNone {
		if config == nil {
			return append(errs, field.Required(at, "must provide `dnsConfig` when `dnsPolicy` is None"))
		}
		if len(config.Nameservers) == 0 {
			return append(errs, field.Required(at.Child("nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is None"))
		}
	}
	if config == nil {
		return errs
	}
	if len(config.Nameservers) > maxNameservers {
		errs = append(errs, field.Invalid(at.Child("nameservers"), config.Nameservers, fmt.Sprintf("must not have more than %v nameservers", maxNameservers)))
	}
	for i, server := range config.Nameservers {
		errs = append(errs, validateIP(server, at.Child("nameservers").Index(i))...)
	}
	if len(config.Searches) > maxSearches {
		errs = append(errs, field.Invalid(at.Child("searches"), config.Searches, fmt.Sprintf("must not have more than %v search paths", maxSearches)))
	}
	if len(strings.Join(config.Searches, " ")) > maxSearchLength {
		errs = append(errs, field.Invalid(at.Child("searches"), config.Searches, fmt.Sprintf("must not have more than %v characters (including spaces) in the search list", maxSearchLength)))
	}
	for i, search := range config.Searches {
		// A single dot stands for the root; a trailing one is allowed.
		if name := strings.TrimSuffix(search, "."); name != "" {
			errs = append(errs, invalidAll(at.Child("searches").Index(i), search, validation.IsDNS1123SubdomainWithUnderscore(name))...)
		}
	}
	for i, option := range config.Options {
		if option.Name == "" {
			errs = append(errs, field.Required(at.Child("options").Index(i), "must not be empty"))
		}
	}
	return errs
}

// ValidateIntOrPercent checks a count: a number that is not negative, or a
// percentage.
func ValidateIntOrPercent(value intstr.IntOrString, path *field.Path) field.ErrorList {
	if value.Type == intstr.Int {
		return apivalidation.ValidateNonnegativeField(int64(value.IntVal), path)
	}
	var errs field.ErrorList
	for _, msg := range validation.IsValidPercent(value.StrVal) {
		errs = append(errs, field.Invalid(path, value, msg))
	}
	return errs
}

// oneOf checks a required choice.
func oneOf[T ~string](value T, path *field.Path, known ...T) field.ErrorList {
	switch {
	case value == "":
		return field.ErrorList{field.Required(path, "")}
	case !slices.Contains(known, value):
		return field.ErrorList{field.NotSupported(path, value, known)}
	}
	return nil
}

func validateIP(address string, path *field.Path) field.ErrorList {
	return validation.IsValidIPForLegacyField(path, address, true, nil)
}

// RunsForEver checks a template whose Pods are replaced when they end: they
// must restart by themselves, and no deadline makes sense.
func RunsForEver(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if spec.RestartPolicy != corev1.RestartPolicyAlways && spec.RestartPolicy != "" {
		errs = append(errs, field.NotSupported(path.Child("restartPolicy"), spec.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(path.Child("activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicaSet is not Supported"))
	}
	return errs
}

// ReplicaStatus is what the statuses of replicated kinds have in common.
type ReplicaStatus struct {
	Replicas, FullyLabeled, Ready, Available int32
	ObservedGeneration                       int64
}

// ValidateReplicaStatus checks that the counts can be true together.
func ValidateReplicaStatus(s ReplicaStatus, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"replicas", int64(s.Replicas)}, {"fullyLabeledReplicas", int64(s.FullyLabeled)}, {"readyReplicas", int64(s.Ready)},
		{"availableReplicas", int64(s.Available)}, {"observedGeneration", s.ObservedGeneration},
	} {
		errs = append(errs, apivalidation.ValidateNonnegativeField(f.value, path.Child(f.name))...)
	}
	if s.FullyLabeled > s.Replicas {
		errs = append(errs, field.Invalid(path.Child("fullyLabeledReplicas"), s.FullyLabeled, "cannot be greater than status.replicas"))
	}
	if s.Ready > s.Replicas {
		errs = append(errs, field.Invalid(path.Child("readyReplicas"), s.Ready, "cannot be greater than status.replicas"))
	}
	if s.Available > s.Replicas {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), s.Available, "cannot be greater than status.replicas"))
	}
	if s.Available > s.Ready {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), s.Available, "cannot be greater than readyReplicas"))
	}
	return errs
}

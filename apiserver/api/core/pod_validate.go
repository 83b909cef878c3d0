package core

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/podspec"
)

// updatableDetail lists what may change in a Pod's spec.
const updatableDetail = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

func validatePodUpdate(pod, old *corev1.Pod) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	errs = append(errs, sameContainers(pod.Spec.Containers, old.Spec.Containers, spec.Child("containers"))...)
	errs = append(errs, sameContainers(pod.Spec.InitContainers, old.Spec.InitContainers, spec.Child("initContainers"))...)
	if len(errs) > 0 {
		return errs
	}
	errs = append(errs, validateDeadlineUpdate(pod.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds, spec.Child("activeDeadlineSeconds"))...)
	errs = append(errs, onlyAddedTolerations(pod.Spec.Tolerations, old.Spec.Tolerations, spec.Child("tolerations"))...)
	errs = append(errs, onlyRemovedGates(pod.Spec.SchedulingGates, old.Spec.SchedulingGates, spec.Child("schedulingGates"))...)
	allowed := allowedPodSpec(&pod.Spec, &old.Spec)
	if !equality.Semantic.DeepEqual(allowed, &old.Spec) {
		errs = append(errs, podSpecForbidden(allowed, &old.Spec, spec))
	}
	return append(errs, podspec.ValidateSpec(&pod.Spec, spec)...)
}

// allowedPodSpec is the new spec with everything that may change set back to
// what it was: what then still differs may not.
func allowedPodSpec(spec, old *corev1.PodSpec) *corev1.PodSpec {
	spec = spec.DeepCopy()
	restoreImages(spec.Containers, old.Containers)
	restoreImages(spec.InitContainers, old.InitContainers)
	spec.ActiveDeadlineSeconds = old.ActiveDeadlineSeconds
	spec.Tolerations = old.Tolerations
	spec.SchedulingGates = old.SchedulingGates
	// The signal of a Pod that was created with negative grace is 1 second.
	if grace := old.TerminationGracePeriodSeconds; grace != nil && *grace < 0 && ptr.Deref(spec.TerminationGracePeriodSeconds, 0) == 1 {
		spec.TerminationGracePeriodSeconds = grace
	}
	if len(old.SchedulingGates) > 0 {
		allowGatedChanges(spec, old)
	}
	// Fields that defaulting fills in where older writers left them empty.
	if old.EnableServiceLinks == nil {
		spec.EnableServiceLinks = nil
	}
	return spec
}

func restoreImages(containers, old []corev1.Container) {
	for i := range containers {
		containers[i].Image = old[i].Image
	}
}

// allowGatedChanges: while a Pod has gates its placement may be narrowed
// (KEP-3838).
func allowGatedChanges(spec, old *corev1.PodSpec) {
	narrowed := true
	for key, value := range old.NodeSelector {
		if spec.NodeSelector[key] != value {
			narrowed = false
		}
	}
	if narrowed {
		spec.NodeSelector = old.NodeSelector
	}
	if nodeAffinityNarrowed(spec.Affinity, old.Affinity) {
		switch {
		case old.Affinity == nil && spec.Affinity != nil && spec.Affinity.PodAffinity == nil && spec.Affinity.PodAntiAffinity == nil:
			spec.Affinity = nil
		case spec.Affinity != nil && old.Affinity != nil:
			spec.Affinity.NodeAffinity = old.Affinity.NodeAffinity
		}
	}
}

// nodeAffinityNarrowed reports whether required terms were only added to:
// each term keeps its requirements and may gain some.
func nodeAffinityNarrowed(affinity, old *corev1.Affinity) bool {
	terms, before := requiredNodeTerms(affinity), requiredNodeTerms(old)
	if len(before) == 0 {
		return true
	}
	if len(terms) != len(before) {
		return false
	}
	for i := range before {
		if len(terms[i].MatchExpressions) < len(before[i].MatchExpressions) || len(terms[i].MatchFields) < len(before[i].MatchFields) {
			return false
		}
		if !equality.Semantic.DeepEqual(terms[i].MatchExpressions[:len(before[i].MatchExpressions)], before[i].MatchExpressions) ||
			!equality.Semantic.DeepEqual(terms[i].MatchFields[:len(before[i].MatchFields)], before[i].MatchFields) {
			return false
		}
	}
	return true
}

func requiredNodeTerms(affinity *corev1.Affinity) []corev1.NodeSelectorTerm {
	if affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	return affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
}

func podSpecForbidden(spec, old *corev1.PodSpec, path *field.Path) *field.Error {
	return field.Forbidden(path, fmt.Sprintf("%s\n%s", updatableDetail, differingFields(spec, old)))
}

func sameContainers(containers, old []corev1.Container, path *field.Path) field.ErrorList {
	if len(containers) != len(old) {
		return field.ErrorList{field.Forbidden(path, "pod updates may not add or remove containers")}
	}
	return nil
}

// validateDeadlineUpdate: a deadline may be set and shortened.
func validateDeadlineUpdate(deadline, old *int64, path *field.Path) field.ErrorList {
	switch {
	case deadline != nil && (*deadline < 0 || *deadline > 1<<31-1):
		return field.ErrorList{field.Invalid(path, *deadline, validation.InclusiveRangeError(0, 1<<31-1))}
	case deadline != nil && old != nil && *old < *deadline:
		return field.ErrorList{field.Invalid(path, *deadline, "must be less than or equal to previous value")}
	case deadline == nil && old != nil:
		return field.ErrorList{field.Invalid(path, deadline, "must not update from a positive integer to nil value")}
	}
	return nil
}

func onlyAddedTolerations(tolerations, old []corev1.Toleration, path *field.Path) field.ErrorList {
	for _, before := range old {
		kept := slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool {
			// The time may change, the rest not.
			t.TolerationSeconds = before.TolerationSeconds
			return equality.Semantic.DeepEqual(t, before)
		})
		if !kept {
			return field.ErrorList{field.Forbidden(path, "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return nil
}

func onlyRemovedGates(gates, old []corev1.PodSchedulingGate, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, gate := range gates {
		if !slices.Contains(old, gate) {
			errs = append(errs, field.Forbidden(path.Index(i), "only deletion is allowed, but found new scheduling gate '"+gate.Name+"'"))
		}
	}
	return errs
}

func validatePodStatus(pod, old *corev1.Pod) field.ErrorList {
	status := field.NewPath("status")
	var errs field.ErrorList
	if pod.Spec.NodeName != old.Spec.NodeName {
		errs = append(errs, field.Forbidden(status.Child("nodeName"), "may not be changed directly"))
	}
	if name := pod.Status.NominatedNodeName; name != "" {
		for _, msg := range validation.IsDNS1123Subdomain(name) {
			errs = append(errs, field.Invalid(status.Child("nominatedNodeName"), name, msg))
		}
	}
	if pod.Status.ObservedGeneration < 0 {
		errs = append(errs, field.Invalid(status.Child("observedGeneration"), pod.Status.ObservedGeneration, "must be greater than or equal to 0"))
	}
	for i, condition := range pod.Status.Conditions {
		for _, msg := range validation.IsQualifiedName(string(condition.Type)) {
			errs = append(errs, field.Invalid(status.Child("conditions").Index(i).Child("type"), condition.Type, msg))
		}
	}
	if pod.Status.QOSClass != old.Status.QOSClass && old.Status.QOSClass != "" {
		errs = append(errs, field.Invalid(status.Child("qosClass"), pod.Status.QOSClass, "field is immutable"))
	}
	errs = append(errs, noRevival(pod.Status.ContainerStatuses, old, old.Status.ContainerStatuses, status.Child("containerStatuses"))...)
	errs = append(errs, noInitRevival(pod, old, status.Child("initContainerStatuses"))...)
	return append(errs, validatePodIPs(&pod.Status, status)...)
}

// noRevival: where the restart policy says a container runs once, its status
// may not go from terminated to anything else.
func noRevival(statuses []corev1.ContainerStatus, old *corev1.Pod, before []corev1.ContainerStatus, path *field.Path) field.ErrorList {
	policy := old.Spec.RestartPolicy
	if policy == corev1.RestartPolicyAlways {
		return nil
	}
	var errs field.ErrorList
	for i := range before {
		ended := before[i].State.Terminated
		if ended == nil || ended.ExitCode != 0 && policy == corev1.RestartPolicyOnFailure || mayRestart(old.Spec.Containers, before[i].Name) {
			continue
		}
		for j := range statuses {
			if statuses[j].Name == before[i].Name && statuses[j].State.Terminated == nil {
				errs = append(errs, field.Forbidden(path.Index(j).Child("state"), "may not be transitioned to non-terminated state"))
			}
		}
	}
	return errs
}

// mayRestart reports a container with a restart policy of its own.
func mayRestart(containers []corev1.Container, name string) bool {
	for i := range containers {
		if containers[i].Name == name {
			return containers[i].RestartPolicy != nil && *containers[i].RestartPolicy != corev1.ContainerRestartPolicyNever
		}
	}
	return false
}

func noInitRevival(pod, old *corev1.Pod, path *field.Path) field.ErrorList {
	if old.Spec.RestartPolicy != corev1.RestartPolicyNever {
		return nil
	}
	var errs field.ErrorList
	for _, before := range old.Status.InitContainerStatuses {
		if before.State.Terminated == nil || before.State.Terminated.ExitCode == 0 || mayRestart(old.Spec.InitContainers, before.Name) {
			continue
		}
		for j := range pod.Status.InitContainerStatuses {
			status := &pod.Status.InitContainerStatuses[j]
			if status.Name == before.Name && status.State.Terminated == nil {
				errs = append(errs, field.Forbidden(path.Index(j).Child("state"), "may not be transitioned to non-terminated state"))
			}
		}
	}
	return errs
}

func validatePodIPs(status *corev1.PodStatus, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, ip := range status.PodIPs {
		errs = append(errs, validation.IsValidIPForLegacyField(path.Child("podIPs").Index(i), ip.IP, true, nil)...)
	}
	if len(status.PodIPs) > 2 {
		errs = append(errs, field.Invalid(path.Child("podIPs"), status.PodIPs, "may specify no more than one IP for each IP family"))
	}
	if len(status.PodIPs) > 0 && status.PodIP != "" && status.PodIP != status.PodIPs[0].IP {
		errs = append(errs, field.Invalid(path.Child("podIPs"), status.PodIPs, "podIPs[0] must be equal to podIP"))
	}
	return errs
}

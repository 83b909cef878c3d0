package core

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/podspec"
)

// differingFields shows where two specs differ, as the answer to a refused
// update does.
func differingFields(spec, old *corev1.PodSpec) string {
	return diff.Diff(old, spec)
}

// validateEphemeralContainersUpdate: containers may be added, never changed
// or removed.
func validateEphemeralContainersUpdate(pod, old *corev1.Pod) field.ErrorList {
	path := field.NewPath("spec", "ephemeralContainers")
	errs := podspec.ValidateSpec(&pod.Spec, field.NewPath("spec"))
	if _, static := old.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return append(errs, field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers"))
	}
	added := map[string]*corev1.EphemeralContainer{}
	for i := range pod.Spec.EphemeralContainers {
		added[pod.Spec.EphemeralContainers[i].Name] = &pod.Spec.EphemeralContainers[i]
	}
	for i := range old.Spec.EphemeralContainers {
		before := &old.Spec.EphemeralContainers[i]
		now := added[before.Name]
		switch {
		case now == nil:
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", before.Name)))
		case !equality.Semantic.DeepEqual(before, now):
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be changed\n", before.Name)))
		}
	}
	return errs
}

// validatePodResize checks new resources of a running Pod (KEP-1287).
func validatePodResize(pod, old *corev1.Pod) field.ErrorList {
	spec := field.NewPath("spec")
	errs := podspec.ValidateSpec(&pod.Spec, spec)
	if _, static := old.Annotations[corev1.MirrorPodAnnotationKey]; static {
		errs = append(errs, field.Forbidden(field.NewPath(""), "static pods cannot be resized"))
	}
	if class := podspec.QOSClass(pod); class != old.Status.QOSClass && old.Status.QOSClass != "" {
		errs = append(errs, field.Invalid(spec, class, "Pod QOS Class may not change as a result of resizing"))
	}
	errs = append(errs, validateResized(pod.Spec.Containers, old.Spec.Containers, spec.Child("containers"))...)
	return append(errs, validateResized(pod.Spec.InitContainers, old.Spec.InitContainers, spec.Child("initContainers"))...)
}

func validateResized(containers, old []corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range containers {
		if i >= len(old) || equality.Semantic.DeepEqual(containers[i].Resources, old[i].Resources) {
			continue
		}
		at := path.Index(i)
		for _, list := range []struct {
			name        string
			now, before corev1.ResourceList
		}{
			{"limits", containers[i].Resources.Limits, old[i].Resources.Limits},
			{"requests", containers[i].Resources.Requests, old[i].Resources.Requests},
		} {
			errs = append(errs, onlyComputeResized(list.now, list.before, at.Child("resources", list.name))...)
		}
		if !equality.Semantic.DeepEqual(containers[i].ResizePolicy, old[i].ResizePolicy) {
			errs = append(errs, field.Forbidden(at.Child("resizePolicy"), "resize policy may not be changed"))
		}
	}
	return errs
}

func onlyComputeResized(now, before corev1.ResourceList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for name := range before {
		if _, ok := now[name]; !ok {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("resource %s cannot be removed", name)))
		}
	}
	for name, quantity := range now {
		was, ok := before[name]
		if name != corev1.ResourceCPU && name != corev1.ResourceMemory && (!ok || was.Cmp(quantity) != 0) {
			errs = append(errs, field.Forbidden(path.Key(string(name)), "only cpu and memory resources are mutable"))
		}
	}
	return errs
}

// deprecatedLabels are node labels with a stable successor.
var deprecatedLabels = map[string]string{
	corev1.LabelFailureDomainBetaZone:   "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
	corev1.LabelFailureDomainBetaRegion: "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
	corev1.LabelInstanceType:            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
	"beta.kubernetes.io/os":             "deprecated since v1.14; use \"kubernetes.io/os\" instead",
	"beta.kubernetes.io/arch":           "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
}

// podWarnings names what is accepted but will not do what it seems to.
func podWarnings(pod, old *corev1.Pod) []string {
	var warnings []string
	if old == nil {
		warnings = append(warnings, podNameWarnings(pod)...)
	}
	for key := range pod.Spec.NodeSelector {
		if text, ok := deprecatedLabels[key]; ok {
			warnings = append(warnings, fmt.Sprintf("spec.nodeSelector[%s]: %s", key, text))
		}
	}
	if pod.Spec.TerminationGracePeriodSeconds != nil && *pod.Spec.TerminationGracePeriodSeconds < 0 {
		warnings = append(warnings, "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1")
	}
	for i := range pod.Spec.Containers {
		warnings = append(warnings, containerWarnings(&pod.Spec.Containers[i], fmt.Sprintf("spec.containers[%d]", i))...)
	}
	for i := range pod.Spec.InitContainers {
		warnings = append(warnings, containerWarnings(&pod.Spec.InitContainers[i], fmt.Sprintf("spec.initContainers[%d]", i))...)
	}
	for i, volume := range pod.Spec.Volumes {
		if volume.GitRepo != nil {
			warnings = append(warnings, fmt.Sprintf("spec.volumes[%d].gitRepo: deprecated in v1.11", i))
		}
	}
	return warnings
}

// podNameWarnings: a Pod's name becomes its host name, which must be one label.
func podNameWarnings(pod *corev1.Pod) []string {
	if strings.Contains(pod.Name, ".") && pod.Spec.Hostname == "" {
		return []string{"metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]"}
	}
	return nil
}

func containerWarnings(c *corev1.Container, path string) []string {
	var warnings []string
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		for listName, list := range map[string]corev1.ResourceList{"requests": c.Resources.Requests, "limits": c.Resources.Limits} {
			if quantity, ok := list[name]; ok && quantity.MilliValue()%1000 != 0 {
				warnings = append(warnings, fmt.Sprintf("%s.resources.%s[%s]: fractional byte value %q is invalid, must be an integer", path, listName, name, quantity.String()))
			}
		}
	}
	names := map[string]bool{}
	for i, env := range c.Env {
		if names[env.Name] {
			warnings = append(warnings, fmt.Sprintf("%s.env[%d]: hides previous definition of %q, which may be dropped when using apply", path, i, env.Name))
		}
		names[env.Name] = true
	}
	if c.SecurityContext != nil && ptr.Deref(c.SecurityContext.Privileged, false) && c.SecurityContext.ProcMount != nil && *c.SecurityContext.ProcMount == corev1.UnmaskedProcMount {
		warnings = append(warnings, path+".securityContext.procMount: has no effect in a privileged container")
	}
	return warnings
}

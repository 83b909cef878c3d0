package podspec

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// sysctlName allows segments of lower-case letters, digits, "-" and "_",
// separated by dots or slashes (core/v1 Sysctl).
var sysctlName = regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9]$`)

// maxSysctlName is the longest name of a sysctl.
const maxSysctlName = 253

func validatePodSecurity(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	sc := spec.SecurityContext
	if sc == nil {
		sc = &corev1.PodSecurityContext{}
	}
	at := path.Child("securityContext")
	errs = append(errs, validateIDs(at, sc.RunAsUser, sc.RunAsGroup)...)
	if sc.FSGroup != nil {
		errs = append(errs, invalidAll(at.Child("fsGroup"), *sc.FSGroup, validation.IsValidGroupID(*sc.FSGroup))...)
	}
	for i, group := range sc.SupplementalGroups {
		errs = append(errs, invalidAll(at.Child("supplementalGroups").Index(i), group, validation.IsValidGroupID(group))...)
	}
	if sc.FSGroupChangePolicy != nil {
		errs = append(errs, oneOf(*sc.FSGroupChangePolicy, at.Child("fsGroupChangePolicy"), corev1.FSGroupChangeOnRootMismatch, corev1.FSGroupChangeAlways)...)
	}
	if sc.SupplementalGroupsPolicy != nil {
		errs = append(errs, oneOf(*sc.SupplementalGroupsPolicy, at.Child("supplementalGroupsPolicy"), corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)...)
	}
	errs = append(errs, validateSysctls(spec, sc.Sysctls, at.Child("sysctls"))...)
	errs = append(errs, validateSeccomp(sc.SeccompProfile, at.Child("seccompProfile"))...)
	errs = append(errs, validateAppArmor(sc.AppArmorProfile, at.Child("appArmorProfile"))...)
	if ptr.Deref(spec.ShareProcessNamespace, false) && spec.HostPID {
		errs = append(errs, field.Invalid(at.Child("shareProcessNamespace"), *spec.ShareProcessNamespace, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	return append(errs, validateHostUsers(spec, path)...)
}

// validateHostUsers: a user namespace of its own goes together with the other
// namespaces (KEP-127).
func validateHostUsers(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	if ptr.Deref(spec.HostUsers, true) {
		return nil
	}
	var errs field.ErrorList
	for name, shared := range map[string]bool{"hostNetwork": spec.HostNetwork, "hostPID": spec.HostPID, "hostIPC": spec.HostIPC} {
		if shared {
			errs = append(errs, field.Forbidden(path.Child(name), "when `hostUsers` is false"))
		}
	}
	return errs
}

func validateIDs(at *field.Path, user, group *int64) field.ErrorList {
	var errs field.ErrorList
	if user != nil {
		errs = append(errs, invalidAll(at.Child("runAsUser"), *user, validation.IsValidUserID(*user))...)
	}
	if group != nil {
		errs = append(errs, invalidAll(at.Child("runAsGroup"), *group, validation.IsValidGroupID(*group))...)
	}
	return errs
}

func invalidAll(at *field.Path, value any, messages []string) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range messages {
		errs = append(errs, field.Invalid(at, value, msg))
	}
	return errs
}

func validateSysctls(spec *corev1.PodSpec, sysctls []corev1.Sysctl, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, sysctl := range sysctls {
		name := at.Index(i).Child("name")
		normal := strings.ReplaceAll(sysctl.Name, "/", ".")
		switch {
		case sysctl.Name == "":
			errs = append(errs, field.Required(name, ""))
			continue
		case len(sysctl.Name) > maxSysctlName || !sysctlName.MatchString(sysctl.Name):
			errs = append(errs, field.Invalid(name, sysctl.Name, fmt.Sprintf("must have at most %d characters and match regex %s", maxSysctlName, sysctlName)))
		case seen[normal]:
			errs = append(errs, field.Duplicate(name, sysctl.Name))
		case spec.HostNetwork && strings.HasPrefix(normal, "net."):
			errs = append(errs, field.Invalid(name, sysctl.Name, "may not be specified when 'hostNetwork' is true"))
		case spec.HostIPC && (strings.HasPrefix(normal, "kernel.shm") || strings.HasPrefix(normal, "kernel.msg") || normal == "kernel.sem" || strings.HasPrefix(normal, "fs.mqueue.")):
			errs = append(errs, field.Invalid(name, sysctl.Name, "may not be specified when 'hostIPC' is true"))
		}
		seen[normal] = true
	}
	return errs
}

func validateSeccomp(profile *corev1.SeccompProfile, at *field.Path) field.ErrorList {
	if profile == nil {
		return nil
	}
	local := at.Child("localhostProfile")
	switch profile.Type {
	case corev1.SeccompProfileTypeLocalhost:
		if profile.LocalhostProfile == nil {
			return field.ErrorList{field.Required(local, "must be set when seccomp type is Localhost")}
		}
		return validateDescendingPath(*profile.LocalhostProfile, local)
	case corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined:
		if profile.LocalhostProfile != nil {
			return field.ErrorList{field.Invalid(local, profile.LocalhostProfile, "can only be set when seccomp type is Localhost")}
		}
		return nil
	case "":
		return field.ErrorList{field.Required(at.Child("type"), "type is required when seccompProfile is set")}
	}
	return field.ErrorList{field.NotSupported(at.Child("type"), profile.Type, []corev1.SeccompProfileType{
		corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined,
	})}
}

func validateAppArmor(profile *corev1.AppArmorProfile, at *field.Path) field.ErrorList {
	if profile == nil {
		return nil
	}
	local := at.Child("localhostProfile")
	switch profile.Type {
	case corev1.AppArmorProfileTypeLocalhost:
		name := ptr.Deref(profile.LocalhostProfile, "")
		switch {
		case profile.LocalhostProfile == nil:
			return field.ErrorList{field.Required(local, "must be set when AppArmor type is Localhost")}
		case strings.TrimSpace(name) != name:
			return field.ErrorList{field.Invalid(local, name, "must not be padded with whitespace")}
		case name == "":
			return field.ErrorList{field.Required(local, "must be set when AppArmor type is Localhost")}
		}
		return nil
	case corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined:
		if profile.LocalhostProfile != nil {
			return field.ErrorList{field.Invalid(local, profile.LocalhostProfile, "can only be set when AppArmor type is Localhost")}
		}
		return nil
	case "":
		return field.ErrorList{field.Required(at.Child("type"), "type is required when appArmorProfile is set")}
	}
	return field.ErrorList{field.NotSupported(at.Child("type"), profile.Type, []corev1.AppArmorProfileType{
		corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined,
	})}
}

func validateContainerSecurity(sc *corev1.SecurityContext, hostUsers bool, at *field.Path) field.ErrorList {
	if sc == nil {
		return nil
	}
	errs := validateIDs(at, sc.RunAsUser, sc.RunAsGroup)
	if sc.ProcMount != nil {
		errs = append(errs, oneOf(*sc.ProcMount, at.Child("procMount"), corev1.DefaultProcMount, corev1.UnmaskedProcMount)...)
		if hostUsers && *sc.ProcMount == corev1.UnmaskedProcMount {
			errs = append(errs, field.Invalid(at.Child("procMount"), *sc.ProcMount, "`hostUsers` must be false to use `Unmasked`"))
		}
	}
	errs = append(errs, validateSeccomp(sc.SeccompProfile, at.Child("seccompProfile"))...)
	errs = append(errs, validateAppArmor(sc.AppArmorProfile, at.Child("appArmorProfile"))...)
	if ptr.Deref(sc.AllowPrivilegeEscalation, true) {
		return errs
	}
	if ptr.Deref(sc.Privileged, false) {
		errs = append(errs, field.Invalid(at, sc, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
	}
	if sc.Capabilities != nil && slices.Contains(sc.Capabilities.Add, "CAP_SYS_ADMIN") {
		errs = append(errs, field.Invalid(at, sc, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
	}
	return errs
}

// validateDescendingPath allows relative paths that stay below where they start.
func validateDescendingPath(name string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if path.IsAbs(name) {
		errs = append(errs, field.Invalid(at, name, "must be a relative path"))
	}
	return append(errs, validateNoBacksteps(name, at)...)
}

func validateNoBacksteps(name string, at *field.Path) field.ErrorList {
	if slices.Contains(strings.Split(name, "/"), "..") {
		return field.ErrorList{field.Invalid(at, name, "must not contain '..'")}
	}
	return nil
}

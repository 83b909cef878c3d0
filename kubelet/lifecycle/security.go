package lifecycle

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// allCapabilities is every capability up to CAP_CHECKPOINT_RESTORE
// (include/uapi/linux/capability.h, Linux 5.9).
var allCapabilities = []string{
	"CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_AUDIT_WRITE", "CAP_BLOCK_SUSPEND", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
	"CAP_KILL", "CAP_LEASE", "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE", "CAP_MKNOD", "CAP_NET_ADMIN",
	"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_RAW", "CAP_PERFMON", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP",
	"CAP_SETUID", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_CHROOT", "CAP_SYS_MODULE", "CAP_SYS_NICE",
	"CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG",
	"CAP_WAKE_ALARM",
}

// security resolves a container's security context against the Pod's, without
// the user, which needs the image's files.
func (k *Containers) security(pod *corev1.Pod, c *corev1.Container) container.Security {
	sc := c.SecurityContext
	if sc == nil {
		sc = &corev1.SecurityContext{}
	}
	out := container.Security{
		Privileged:      ptr.Deref(sc.Privileged, false),
		ReadOnlyRoot:    ptr.Deref(sc.ReadOnlyRootFilesystem, false),
		NoNewPrivileges: !ptr.Deref(sc.AllowPrivilegeEscalation, true),
		Capabilities:    capabilities(sc),
	}
	if out.Privileged {
		out.NoNewPrivileges = false
		out.SeccompProfile = "unconfined"
		return out
	}
	out.SeccompProfile = k.seccomp(pod, sc)
	if ptr.Deref(sc.ProcMount, corev1.DefaultProcMount) != corev1.UnmaskedProcMount {
		out.MaskedPaths, out.ReadonlyPaths = container.DefaultMaskedPaths(), container.DefaultReadonlyPaths()
	}
	return out
}

func (k *Containers) seccomp(pod *corev1.Pod, sc *corev1.SecurityContext) string {
	profile := sc.SeccompProfile
	if profile == nil && pod.Spec.SecurityContext != nil {
		profile = pod.Spec.SecurityContext.SeccompProfile
	}
	if profile == nil {
		if k.SeccompDefault {
			return "runtime/default"
		}
		return "unconfined"
	}
	switch profile.Type {
	case corev1.SeccompProfileTypeRuntimeDefault:
		return "runtime/default"
	case corev1.SeccompProfileTypeLocalhost:
		// The API refuses absolute paths and ".."; Rel keeps it beneath anyway.
		return "localhost/" + filepath.Join(k.SeccompRoot, filepath.Join("/", ptr.Deref(profile.LocalhostProfile, "")))
	default:
		return "unconfined"
	}
}

func capabilities(sc *corev1.SecurityContext) []string {
	if ptr.Deref(sc.Privileged, false) {
		return slices.Clone(allCapabilities)
	}
	set := map[string]bool{}
	for _, name := range container.DefaultCapabilities() {
		set[name] = true
	}
	if sc.Capabilities != nil {
		add, drop := capabilityNames(sc.Capabilities.Add), capabilityNames(sc.Capabilities.Drop)
		if slices.Contains(drop, "CAP_ALL") {
			clear(set)
		}
		if slices.Contains(add, "CAP_ALL") {
			for _, name := range allCapabilities {
				set[name] = true
			}
		}
		for _, name := range drop {
			delete(set, name)
		}
		for _, name := range add {
			set[name] = true
		}
		delete(set, "CAP_ALL")
	}
	out := make([]string, 0, len(set))
	for name := range set {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func capabilityNames(in []corev1.Capability) []string {
	out := make([]string, 0, len(in))
	for _, c := range in {
		name := strings.ToUpper(string(c))
		if !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		out = append(out, name)
	}
	return out
}

// userOf is the "user[:group]" to resolve in the image: the image's own,
// overridden by the Pod and then the container.
func userOf(pod *corev1.Pod, c *corev1.Container, imageUser string) string {
	user, _, _ := strings.Cut(imageUser, ":")
	spec := imageUser
	uid, gid := effective(pod, c)
	switch {
	case uid != nil && gid != nil:
		spec = fmt.Sprintf("%d:%d", *uid, *gid)
	case uid != nil:
		spec = fmt.Sprintf("%d", *uid)
	case gid != nil:
		if user == "" {
			user = "0"
		}
		spec = fmt.Sprintf("%s:%d", user, *gid)
	}
	return spec
}

func effective(pod *corev1.Pod, c *corev1.Container) (uid, gid *int64) {
	if sc := pod.Spec.SecurityContext; sc != nil {
		uid, gid = sc.RunAsUser, sc.RunAsGroup
	}
	if sc := c.SecurityContext; sc != nil {
		if sc.RunAsUser != nil {
			uid = sc.RunAsUser
		}
		if sc.RunAsGroup != nil {
			gid = sc.RunAsGroup
		}
	}
	return uid, gid
}

// checkNonRoot enforces runAsNonRoot.
func checkNonRoot(pod *corev1.Pod, c *corev1.Container, imageUser string) error {
	var nonRoot *bool
	if sc := pod.Spec.SecurityContext; sc != nil {
		nonRoot = sc.RunAsNonRoot
	}
	if sc := c.SecurityContext; sc != nil && sc.RunAsNonRoot != nil {
		nonRoot = sc.RunAsNonRoot
	}
	if !ptr.Deref(nonRoot, false) {
		return nil
	}
	where := fmt.Sprintf("(pod: %q, container: %s)", FullName(pod), c.Name)
	if uid, _ := effective(pod, c); uid != nil {
		if *uid == 0 {
			return fmt.Errorf("container's runAsUser breaks non-root policy %s", where)
		}
		return nil
	}
	user, _, _ := strings.Cut(imageUser, ":")
	switch {
	case user == "" || user == "0":
		return fmt.Errorf("container has runAsNonRoot and image will run as root %s", where)
	case strings.Trim(user, "0123456789") != "":
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", user, where)
	}
	return nil
}

// groups are the supplementary groups of a container.
func groups(pod *corev1.Pod, user User) []int64 {
	set := []int64{}
	sc := pod.Spec.SecurityContext
	if sc == nil || ptr.Deref(sc.SupplementalGroupsPolicy, corev1.SupplementalGroupsPolicyMerge) == corev1.SupplementalGroupsPolicyMerge {
		set = append(set, user.Groups...)
	}
	if sc != nil {
		set = append(set, sc.SupplementalGroups...)
		if sc.FSGroup != nil {
			set = append(set, *sc.FSGroup)
		}
	}
	slices.Sort(set)
	return slices.Compact(set)
}

// FullName is "name_namespace(uid)", as texts for users name a Pod.
func FullName(pod *corev1.Pod) string {
	return fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID)
}

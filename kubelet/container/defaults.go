package container

import "context"

// LogReopener is what an implementation may do besides: open a container's log
// file anew after it was renamed, so that logs can be rotated. A container that
// is not running has no open log; that is a success.
type LogReopener interface {
	ReopenLog(ctx context.Context, id ID) error
}

// DefaultMaskedPaths are what a container that is neither privileged nor has
// procMount Unmasked must not read. Source: the OCI runtimes' common defaults
// (moby oci/defaults.go, containerd pkg/oci/spec.go).
func DefaultMaskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
		"/sys/firmware", "/sys/devices/virtual/powercap",
	}
}

// DefaultReadonlyPaths are what such a container must not write.
func DefaultReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// DefaultCapabilities are the capabilities of a container that neither adds nor
// drops any; the set every CRI runtime grants.
func DefaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

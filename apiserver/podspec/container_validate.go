package podspec

import (
	"fmt"
	"net"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// containerScope is what containers of one Pod may refer to.
type containerScope struct {
	spec    *corev1.PodSpec
	volumes map[string]*corev1.Volume
	claims  map[string]bool
}

// containerRole tells the three lists of containers apart.
type containerRole int

const (
	plainContainer containerRole = iota
	initContainer
	ephemeralContainer
)

func validateContainers(scope containerScope, path *field.Path) field.ErrorList {
	spec := scope.spec
	var errs field.ErrorList
	if len(spec.Containers) == 0 {
		errs = append(errs, field.Required(path.Child("containers"), ""))
	}
	names, hostPorts := map[string]bool{}, map[string]bool{}
	for i := range spec.Containers {
		c, at := &spec.Containers[i], path.Child("containers").Index(i)
		errs = append(errs, uniqueName(c.Name, names, at)...)
		errs = append(errs, scope.container(c, plainContainer, at)...)
		errs = append(errs, uniqueHostPorts(c.Ports, hostPorts, at.Child("ports"))...)
	}
	for i := range spec.InitContainers {
		c, at := &spec.InitContainers[i], path.Child("initContainers").Index(i)
		errs = append(errs, uniqueName(c.Name, names, at)...)
		errs = append(errs, scope.container(c, initContainer, at)...)
		if Restartable(c) {
			errs = append(errs, uniqueHostPorts(c.Ports, hostPorts, at.Child("ports"))...)
		}
	}
	return append(errs, scope.ephemeral(names, path.Child("ephemeralContainers"))...)
}

func uniqueName(name string, names map[string]bool, at *field.Path) field.ErrorList {
	if name == "" {
		return nil // reported as missing elsewhere
	}
	if names[name] {
		return field.ErrorList{field.Duplicate(at.Child("name"), name)}
	}
	names[name] = true
	return nil
}

func uniqueHostPorts(ports []corev1.ContainerPort, taken map[string]bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, port := range ports {
		if port.HostPort == 0 {
			continue
		}
		key := fmt.Sprintf("%s/%s/%d", port.Protocol, port.HostIP, port.HostPort)
		if taken[key] {
			errs = append(errs, field.Duplicate(path.Index(i).Child("hostPort"), key))
		}
		taken[key] = true
	}
	return errs
}

func (s containerScope) container(c *corev1.Container, role containerRole, path *field.Path) field.ErrorList {
	errs := validateContainerBasics(c, path)
	errs = append(errs, s.ports(c.Ports, path.Child("ports"))...)
	errs = append(errs, validateEnv(c, path)...)
	errs = append(errs, s.mounts(c, path)...)
	errs = append(errs, validateContainerResources(&c.Resources, s.claims, path.Child("resources"))...)
	errs = append(errs, validateContainerSecurity(c.SecurityContext, ptr.Deref(s.spec.HostUsers, true), path.Child("securityContext"))...)
	errs = append(errs, validateRestart(c, role, path)...)
	errs = append(errs, validateResizePolicy(c, path.Child("resizePolicy"))...)
	if role == initContainer && !Restartable(c) {
		return append(errs, forbidRuntimeFields(c, path)...)
	}
	errs = append(errs, validateLifecycle(c.Lifecycle, path.Child("lifecycle"))...)
	return append(errs, validateProbes(c, path)...)
}

func validateContainerBasics(c *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	} else {
		errs = append(errs, invalidAll(path.Child("name"), c.Name, validation.IsDNS1123Label(c.Name))...)
	}
	switch {
	case c.Image == "":
		errs = append(errs, field.Required(path.Child("image"), ""))
	case strings.TrimSpace(c.Image) != c.Image:
		errs = append(errs, field.Invalid(path.Child("image"), c.Image, "must not have leading or trailing whitespace"))
	}
	errs = append(errs, oneOf(c.TerminationMessagePolicy, path.Child("terminationMessagePolicy"), corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)...)
	return append(errs, oneOf(c.ImagePullPolicy, path.Child("imagePullPolicy"), corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
}

// validateRestart checks the policy of a single container (KEP-753, KEP-5307).
func validateRestart(c *corev1.Container, role containerRole, path *field.Path) field.ErrorList {
	if c.RestartPolicy == nil {
		if len(c.RestartPolicyRules) > 0 {
			return field.ErrorList{field.Required(path.Child("restartPolicy"), "must specify restartPolicy when restart rules are used")}
		}
		return nil
	}
	if role == ephemeralContainer {
		return field.ErrorList{field.Forbidden(path.Child("restartPolicy"), "may not be set for ephemeral containers")}
	}
	return oneOf(*c.RestartPolicy, path.Child("restartPolicy"),
		corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyOnFailure, corev1.ContainerRestartPolicyNever)
}

func validateResizePolicy(c *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[corev1.ResourceName]bool{}
	for i, policy := range c.ResizePolicy {
		if seen[policy.ResourceName] {
			errs = append(errs, field.Duplicate(path.Index(i), policy.ResourceName))
		}
		seen[policy.ResourceName] = true
		errs = append(errs, oneOf(policy.ResourceName, path, corev1.ResourceCPU, corev1.ResourceMemory)...)
		errs = append(errs, oneOf(policy.RestartPolicy, path, corev1.NotRequired, corev1.RestartContainer)...)
	}
	return errs
}

// forbidRuntimeFields: an init container that ends has no life in which
// probes or hooks could run.
func forbidRuntimeFields(c *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	forbid := func(set bool, name string) {
		if set {
			errs = append(errs, field.Forbidden(path.Child(name), "may not be set for init containers without restartPolicy=Always"))
		}
	}
	forbid(c.Lifecycle != nil, "lifecycle")
	forbid(c.LivenessProbe != nil, "livenessProbe")
	forbid(c.ReadinessProbe != nil, "readinessProbe")
	forbid(c.StartupProbe != nil, "startupProbe")
	return errs
}

func (s containerScope) ports(ports []corev1.ContainerPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i, port := range ports {
		at := path.Index(i)
		if port.Name != "" {
			messages := validation.IsValidPortName(port.Name)
			errs = append(errs, invalidAll(at.Child("name"), port.Name, messages)...)
			if len(messages) == 0 && names[port.Name] {
				errs = append(errs, field.Duplicate(at.Child("name"), port.Name))
			}
			names[port.Name] = true
		}
		if port.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, invalidAll(at.Child("containerPort"), port.ContainerPort, validation.IsValidPortNum(int(port.ContainerPort)))...)
		}
		if port.HostPort != 0 {
			errs = append(errs, invalidAll(at.Child("hostPort"), port.HostPort, validation.IsValidPortNum(int(port.HostPort)))...)
			if s.spec.HostNetwork && port.HostPort != port.ContainerPort {
				errs = append(errs, field.Invalid(at.Child("hostPort"), port.HostPort, "must match `containerPort` when `hostNetwork` is true"))
			}
		}
		if port.HostIP != "" && net.ParseIP(port.HostIP) == nil {
			errs = append(errs, validateIP(port.HostIP, at.Child("hostIP"))...)
		}
		errs = append(errs, ValidateProtocol(port.Protocol, at.Child("protocol"))...)
	}
	return errs
}

// ValidateProtocol checks the transport of a port.
func ValidateProtocol(protocol corev1.Protocol, path *field.Path) field.ErrorList {
	return oneOf(protocol, path, corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)
}

func (s containerScope) mounts(c *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	paths, devices := map[string]bool{}, map[string]bool{}
	for i := range c.VolumeDevices {
		device, at := &c.VolumeDevices[i], path.Child("volumeDevices").Index(i)
		errs = append(errs, s.device(device, devices, at)...)
	}
	for i := range c.VolumeMounts {
		m, at := &c.VolumeMounts[i], path.Child("volumeMounts").Index(i)
		switch {
		case m.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case s.volumes[m.Name] == nil:
			errs = append(errs, field.NotFound(at.Child("name"), m.Name))
		}
		switch {
		case m.MountPath == "":
			errs = append(errs, field.Required(at.Child("mountPath"), ""))
		case paths[m.MountPath]:
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, mustBeUnique))
		case devices[m.MountPath]:
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must not already exist as a path in volumeDevices"))
		}
		paths[m.MountPath] = true
		errs = append(errs, validateMount(m, c, at)...)
	}
	return errs
}

func (s containerScope) device(device *corev1.VolumeDevice, seen map[string]bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch volume := s.volumes[device.Name]; {
	case device.Name == "":
		errs = append(errs, field.Required(at.Child("name"), ""))
	case volume == nil:
		errs = append(errs, field.NotFound(at.Child("name"), device.Name))
	case volume.PersistentVolumeClaim == nil && volume.Ephemeral == nil:
		errs = append(errs, field.Invalid(at.Child("name"), device.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"))
	}
	switch {
	case device.DevicePath == "":
		errs = append(errs, field.Required(at.Child("devicePath"), ""))
	case seen[device.DevicePath]:
		errs = append(errs, field.Invalid(at.Child("devicePath"), device.DevicePath, mustBeUnique))
	default:
		errs = append(errs, validateNoBacksteps(device.DevicePath, at.Child("devicePath"))...)
	}
	seen[device.DevicePath] = true
	return errs
}

func validateMount(m *corev1.VolumeMount, c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if m.SubPath != "" {
		errs = append(errs, validateDescendingPath(m.SubPath, at.Child("subPath"))...)
	}
	if m.SubPathExpr != "" {
		if m.SubPath != "" {
			errs = append(errs, field.Invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
		}
		errs = append(errs, validateDescendingPath(m.SubPathExpr, at.Child("subPathExpr"))...)
	}
	if m.MountPropagation != nil {
		errs = append(errs, oneOf(*m.MountPropagation, at.Child("mountPropagation"),
			corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)...)
		privileged := c.SecurityContext != nil && ptr.Deref(c.SecurityContext.Privileged, false)
		if *m.MountPropagation == corev1.MountPropagationBidirectional && !privileged {
			errs = append(errs, field.Forbidden(at.Child("mountPropagation"), "Bidirectional mount propagation is available only to privileged containers"))
		}
	}
	return append(errs, validateRecursiveReadOnly(m, at.Child("recursiveReadOnly"))...)
}

func validateRecursiveReadOnly(m *corev1.VolumeMount, at *field.Path) field.ErrorList {
	if m.RecursiveReadOnly == nil {
		return nil
	}
	errs := oneOf(*m.RecursiveReadOnly, at, corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible)
	if *m.RecursiveReadOnly == corev1.RecursiveReadOnlyDisabled {
		return errs
	}
	if !m.ReadOnly {
		errs = append(errs, field.Forbidden(at, "may only be specified when readOnly is true"))
	}
	if ptr.Deref(m.MountPropagation, corev1.MountPropagationNone) != corev1.MountPropagationNone {
		errs = append(errs, field.Forbidden(at, "may only be specified when mountPropagation is None or not specified"))
	}
	return errs
}

// ephemeral checks the containers that are added to a running Pod.
func (s containerScope) ephemeral(names map[string]bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	targets := map[string]bool{}
	for i := range s.spec.Containers {
		targets[s.spec.Containers[i].Name] = true
	}
	for i := range s.spec.InitContainers {
		targets[s.spec.InitContainers[i].Name] = true
	}
	for i := range s.spec.EphemeralContainers {
		e, at := &s.spec.EphemeralContainers[i], path.Index(i)
		c := corev1.Container(e.EphemeralContainerCommon)
		errs = append(errs, uniqueName(c.Name, names, at)...)
		if e.TargetContainerName != "" && !targets[e.TargetContainerName] {
			errs = append(errs, field.NotFound(at.Child("targetContainerName"), e.TargetContainerName))
		}
		errs = append(errs, forbidEphemeralFields(&c, at)...)
		for j, mount := range c.VolumeMounts {
			if mount.SubPath != "" || mount.SubPathExpr != "" {
				errs = append(errs, field.Forbidden(at.Child("volumeMounts").Index(j).Child("subPath"), "cannot be set for an Ephemeral Container"))
			}
		}
		errs = append(errs, s.container(&c, ephemeralContainer, at)...)
	}
	return errs
}

func forbidEphemeralFields(c *corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"ports", len(c.Ports) > 0},
		{"livenessProbe", c.LivenessProbe != nil},
		{"readinessProbe", c.ReadinessProbe != nil},
		{"startupProbe", c.StartupProbe != nil},
		{"lifecycle", c.Lifecycle != nil},
		{"resources", len(c.Resources.Limits)+len(c.Resources.Requests)+len(c.Resources.Claims) > 0},
		{"resizePolicy", len(c.ResizePolicy) > 0},
	} {
		if f.set {
			errs = append(errs, field.Forbidden(path.Child(f.name), "cannot be set for an Ephemeral Container"))
		}
	}
	return errs
}

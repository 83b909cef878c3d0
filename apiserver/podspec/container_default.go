package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func defaultContainer(c *corev1.Container) {
	setString(&c.ImagePullPolicy, pullPolicy(c.Image))
	setString(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	setString(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	for i := range c.Ports {
		setString(&c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range c.Env {
		defaultEnv(&c.Env[i])
	}
	defaultProbe(c.LivenessProbe)
	defaultProbe(c.ReadinessProbe)
	defaultProbe(c.StartupProbe)
	if c.Lifecycle != nil {
		defaultHook(c.Lifecycle.PostStart)
		defaultHook(c.Lifecycle.PreStop)
	}
	roundResources(c.Resources.Limits)
	roundResources(c.Resources.Requests)
}

func defaultEphemeralContainer(c *corev1.EphemeralContainer) {
	// The common fields of the two types are the same, and convertible.
	common := corev1.Container(c.EphemeralContainerCommon)
	defaultContainer(&common)
	c.EphemeralContainerCommon = corev1.EphemeralContainerCommon(common)
}

func defaultEnv(env *corev1.EnvVar) {
	if env.ValueFrom == nil {
		return
	}
	defaultFieldRef(env.ValueFrom.FieldRef)
	if file := env.ValueFrom.FileKeyRef; file != nil && file.Optional == nil {
		file.Optional = ptr.To(false)
	}
}

func defaultFieldRef(ref *corev1.ObjectFieldSelector) {
	if ref != nil {
		setString(&ref.APIVersion, "v1")
	}
}

func defaultProbe(p *corev1.Probe) {
	if p == nil {
		return
	}
	setNumber(&p.TimeoutSeconds, 1)
	setNumber(&p.PeriodSeconds, 10)
	setNumber(&p.SuccessThreshold, 1)
	setNumber(&p.FailureThreshold, 3)
	defaultHTTPGet(p.HTTPGet)
	if p.GRPC != nil && p.GRPC.Service == nil {
		p.GRPC.Service = ptr.To("")
	}
}

func defaultHook(h *corev1.LifecycleHandler) {
	if h != nil {
		defaultHTTPGet(h.HTTPGet)
	}
}

func defaultHTTPGet(get *corev1.HTTPGetAction) {
	if get == nil {
		return
	}
	setString(&get.Path, "/")
	setString(&get.Scheme, corev1.URISchemeHTTP)
}

// pullPolicy is Always for images that move (no tag, or "latest"), else
// IfNotPresent. A missing reference has no tag to judge by.
func pullPolicy(image string) corev1.PullPolicy {
	if image == "" {
		return corev1.PullIfNotPresent
	}
	name, _, digested := strings.Cut(image, "@")
	// A colon before the last slash belongs to the registry's port.
	base := name[strings.LastIndex(name, "/")+1:]
	_, tag, tagged := strings.Cut(base, ":")
	switch {
	case tagged && tag == "latest":
		return corev1.PullAlways
	case tagged || digested:
		return corev1.PullIfNotPresent
	default:
		return corev1.PullAlways
	}
}

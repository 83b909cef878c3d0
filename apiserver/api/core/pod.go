package core

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/podspec"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Pod defines the kind.
func Pod() *resource.Definition {
	return &resource.Definition{
		Kind:                     corev1.SchemeGroupVersion.WithKind("Pod"),
		Resource:                 "pods",
		ShortNames:               []string{"po"},
		Categories:               []string{"all"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &corev1.Pod{} },
		NewList:                  func() runtime.Object { return &corev1.PodList{} },
		Default:                  typed.Do(defaultPod),
		PrepareCreate:            typed.Do(createPod),
		PrepareUpdate:            typed.Do2(updatePod),
		Validate:                 typed.Check(podspec.ValidatePod),
		ValidateUpdate:           typed.Check2(validatePodUpdate),
		Warnings:                 typed.Warnings(podWarnings),
		AllowUnconditionalUpdate: true,
		DeleteGrace:              podDeleteGrace,
		Fields:                   typed.Fields(podFields),
		Index:                    &resource.Index{Field: "spec.nodeName", Value: typed.Value(func(p *corev1.Pod) string { return p.Spec.NodeName })},
		Columns:                  podColumns(),
		Row:                      typed.Row(podRow),
		Status: &resource.StatusUpdate{
			Prepare:  typed.Do2(updatePodStatus),
			Validate: typed.Check2(validatePodStatus),
		},
		Subresources: podSubresources(),
	}
}

func podSubresources() []resource.Subresource {
	pod := corev1.SchemeGroupVersion.WithKind("Pod")
	newPod := func() runtime.Object { return &corev1.Pod{} }
	stream := []string{"create", "get"}
	return []resource.Subresource{
		{
			Name: "attach", Kind: corev1.SchemeGroupVersion.WithKind("PodAttachOptions"), Verbs: stream, Connect: true,
			New: func() runtime.Object { return &corev1.PodAttachOptions{} },
		},
		{
			Name: "binding", Kind: corev1.SchemeGroupVersion.WithKind("Binding"), Verbs: []string{"create"},
			New: func() runtime.Object { return &corev1.Binding{} }, Set: bindPod,
		},
		{
			Name: "ephemeralcontainers", Kind: pod, Verbs: []string{"get", "patch", "update"},
			New: newPod, Set: setEphemeralContainers, Validate: typed.Check2(validateEphemeralContainersUpdate),
		},
		{
			Name: "eviction", Kind: policyv1.SchemeGroupVersion.WithKind("Eviction"), Verbs: []string{"create"}, Connect: true,
			New: func() runtime.Object { return &policyv1.Eviction{} },
		},
		{
			Name: "exec", Kind: corev1.SchemeGroupVersion.WithKind("PodExecOptions"), Verbs: stream, Connect: true,
			New: func() runtime.Object { return &corev1.PodExecOptions{} },
		},
		{Name: "log", Kind: pod, Verbs: []string{"get"}, Connect: true, New: newPod},
		{
			Name: "portforward", Kind: corev1.SchemeGroupVersion.WithKind("PodPortForwardOptions"), Verbs: stream, Connect: true,
			New: func() runtime.Object { return &corev1.PodPortForwardOptions{} },
		},
		proxySubresource("PodProxyOptions", func() runtime.Object { return &corev1.PodProxyOptions{} }),
		{
			Name: "resize", Kind: pod, Verbs: []string{"get", "patch", "update"},
			New: newPod, Set: resizePod, Validate: typed.Check2(validatePodResize),
		},
	}
}

func defaultPod(p *corev1.Pod) {
	podspec.Default(&p.Spec)
	podspec.DefaultPod(p)
}

// gatedCondition says why the scheduler leaves a Pod with gates alone (KEP-3521).
var gatedCondition = corev1.PodCondition{
	Type:    corev1.PodScheduled,
	Status:  corev1.ConditionFalse,
	Reason:  corev1.PodReasonSchedulingGated,
	Message: "Scheduling is blocked due to non-empty scheduling gates",
}

func createPod(p *corev1.Pod) {
	p.Generation = 1
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: podspec.QOSClass(p)}
	if len(p.Spec.SchedulingGates) > 0 {
		p.Status.Conditions = []corev1.PodCondition{gatedCondition}
	}
}

func updatePod(p, old *corev1.Pod) {
	p.Status = old.Status
	typed.BumpGeneration(p, old, !equality.Semantic.DeepEqual(p.Spec, old.Spec))
}

// updatePodStatus keeps what the status endpoint may not change. Owner
// references count as spec here: a kubelet does not know all of them.
func updatePodStatus(p, old *corev1.Pod) {
	p.Spec = old.Spec
	p.Generation = old.Generation
	p.DeletionTimestamp = old.DeletionTimestamp
	p.OwnerReferences = old.OwnerReferences
	if p.Status.QOSClass == "" {
		p.Status.QOSClass = old.Status.QOSClass
	}
}

// podDeleteGrace is the time a Pod gets to end: what the client asks for, else
// what the spec says, and none when nothing runs.
func podDeleteGrace(obj runtime.Object, requested *int64) (seconds int64, graceful bool) {
	p := obj.(*corev1.Pod)
	switch {
	case requested != nil:
		seconds = *requested
	case p.Spec.TerminationGracePeriodSeconds != nil:
		seconds = *p.Spec.TerminationGracePeriodSeconds
	}
	finished := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	if p.Spec.NodeName == "" || finished {
		return 0, true
	}
	if seconds < 0 {
		// Negative grace is treated as one second (core/v1 PodSpec).
		seconds = 1
	}
	return seconds, true
}

func podFields(p *corev1.Pod) map[string]string {
	ip := p.Status.PodIP
	if ip == "" && len(p.Status.PodIPs) > 0 {
		ip = p.Status.PodIPs[0].IP
	}
	return map[string]string{
		"spec.nodeName":            p.Spec.NodeName,
		"spec.restartPolicy":       string(p.Spec.RestartPolicy),
		"spec.schedulerName":       p.Spec.SchedulerName,
		"spec.serviceAccountName":  p.Spec.ServiceAccountName,
		"spec.hostNetwork":         strconv.FormatBool(p.Spec.HostNetwork),
		"status.phase":             string(p.Status.Phase),
		"status.podIP":             ip,
		"status.nominatedNodeName": p.Status.NominatedNodeName,
	}
}

func setEphemeralContainers(parent, body runtime.Object) error {
	p, wanted := parent.(*corev1.Pod), body.(*corev1.Pod)
	defaultPod(wanted)
	if equality.Semantic.DeepEqual(p.Spec.EphemeralContainers, wanted.Spec.EphemeralContainers) {
		return nil
	}
	p.Spec.EphemeralContainers = wanted.Spec.EphemeralContainers
	p.Generation++
	return nil
}

// resizePod takes resources and resize policies over, container by container
// (KEP-1287); validatePodResize refuses any other difference, for which the
// body's containers must be kept as they are when their names do not match.
func resizePod(parent, body runtime.Object) error {
	p, wanted := parent.(*corev1.Pod), body.(*corev1.Pod)
	defaultPod(wanted)
	before := p.Spec.DeepCopy()
	resizeContainers(p.Spec.Containers, wanted.Spec.Containers)
	resizeContainers(p.Spec.InitContainers, wanted.Spec.InitContainers)
	if p.Spec.Resources != nil || wanted.Spec.Resources != nil {
		p.Spec.Resources = wanted.Spec.Resources
	}
	if !equality.Semantic.DeepEqual(before, &p.Spec) {
		p.Generation++
	}
	return nil
}

func resizeContainers(containers, wanted []corev1.Container) {
	for i := range containers {
		at := slices.IndexFunc(wanted, func(c corev1.Container) bool { return c.Name == containers[i].Name })
		if at < 0 {
			continue
		}
		containers[i].Resources = wanted[at].Resources
		containers[i].ResizePolicy = wanted[at].ResizePolicy
	}
}

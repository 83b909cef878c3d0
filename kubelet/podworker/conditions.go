package podworker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// IsTerminal tells phases that never change again.
func IsTerminal(p corev1.PodPhase) bool { return p == corev1.PodSucceeded || p == corev1.PodFailed }

// phase sums the containers up, as described in "Pod Lifecycle".
func phase(v View, r Report, status *corev1.PodStatus) corev1.PodPhase {
	switch {
	case IsTerminal(r.Old.Phase):
		return r.Old.Phase
	case v.Stop != nil && v.Stop.Phase != "":
		return v.Stop.Phase
	case r.Final:
		return finalPhase(v, status)
	}
	for i := range v.Pod.Spec.InitContainers {
		c := &v.Pod.Spec.InitContainers[i]
		if initialized(v) {
			break
		}
		last := latest(v, c.Name)
		switch {
		case last == nil || last.State == container.Created:
			return corev1.PodPending
		case IsSidecar(c):
			if last.State != container.Running || !v.Probes[last.ID].Started {
				return corev1.PodPending
			}
		case last.State == container.Running || last.ExitCode != 0:
			return corev1.PodPending
		}
	}
	for i := range v.Pod.Spec.Containers {
		// Ran at least once: running, ended, or waiting for another try.
		name := v.Pod.Spec.Containers[i].Name
		last := latest(v, name)
		if last == nil && v.FirstAttempt[name] == 0 || last != nil && last.State == container.Created && last.ID.Attempt == 0 {
			return corev1.PodPending
		}
	}
	return corev1.PodRunning
}

// finalPhase: Succeeded if every container ended well.
func finalPhase(v View, status *corev1.PodStatus) corev1.PodPhase {
	for i := range status.ContainerStatuses {
		ended := status.ContainerStatuses[i].State.Terminated
		if ended == nil || ended.ExitCode != 0 {
			return corev1.PodFailed
		}
	}
	if initialized(v) {
		return corev1.PodSucceeded
	}
	for i := range status.InitContainerStatuses {
		if ended := status.InitContainerStatuses[i].State.Terminated; ended == nil || ended.ExitCode != 0 {
			return corev1.PodFailed
		}
	}
	return corev1.PodSucceeded
}

// setConditions writes the kubelet's conditions and keeps everybody else's.
func setConditions(v View, r Report, status *corev1.PodStatus) {
	status.Conditions = slices.Clone(r.Old.Conditions)
	set := func(condition corev1.PodCondition) {
		condition.ObservedGeneration = v.Pod.Generation
		setCondition(status, condition, v.Now)
	}
	network := corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: boolStatus(v.Prepared && !r.NetworkGone)}
	set(network)
	set(initializedCondition(v, status))
	containersReady := containersReadyCondition(v.Pod, status)
	set(containersReady)
	set(readyCondition(v.Pod, status, containersReady))
	if findCondition(status.Conditions, corev1.PodScheduled) == nil {
		set(corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
	}
	setResize(v, status, set)
	if v.Stop != nil && v.Stop.Disruption != "" {
		set(corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
			Reason: corev1.PodReasonTerminationByKubelet, Message: v.Stop.Disruption,
		})
	}
}

func boolStatus(b bool) corev1.ConditionStatus {
	if b {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

func findCondition(list []corev1.PodCondition, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range list {
		if list[i].Type == kind {
			return &list[i]
		}
	}
	return nil
}

// setCondition puts a condition in the list; the transition time changes only
// with the status.
func setCondition(status *corev1.PodStatus, condition corev1.PodCondition, now time.Time) {
	condition.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	old := findCondition(status.Conditions, condition.Type)
	if old == nil {
		status.Conditions = append(status.Conditions, condition)
		return
	}
	if old.Status == condition.Status {
		condition.LastTransitionTime = old.LastTransitionTime
	}
	*old = condition
}

func initializedCondition(v View, status *corev1.PodStatus) corev1.PodCondition {
	condition := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	if status.Phase == corev1.PodSucceeded {
		condition.Reason = "PodCompleted"
		return condition
	}
	if initialized(v) {
		return condition
	}
	var incomplete []string
	for i := range v.Pod.Spec.InitContainers {
		c := &v.Pod.Spec.InitContainers[i]
		got := findStatus(status.InitContainerStatuses, c.Name)
		done := got != nil && got.Ready
		if got != nil && IsSidecar(c) {
			done = got.Started != nil && *got.Started
		}
		if !done {
			incomplete = append(incomplete, c.Name)
		}
	}
	if len(incomplete) > 0 {
		condition.Status, condition.Reason = corev1.ConditionFalse, "ContainersNotInitialized"
		condition.Message = fmt.Sprintf("containers with incomplete status: %v", incomplete)
	}
	return condition
}

func containersReadyCondition(pod *corev1.Pod, status *corev1.PodStatus) corev1.PodCondition {
	condition := corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionTrue}
	switch status.Phase {
	case corev1.PodSucceeded:
		condition.Status, condition.Reason = corev1.ConditionFalse, "PodCompleted"
		return condition
	case corev1.PodFailed:
		condition.Status, condition.Reason = corev1.ConditionFalse, "PodFailed"
		return condition
	}
	var unready []string
	for i := range pod.Spec.InitContainers {
		// A sidecar counts like a container.
		c := &pod.Spec.InitContainers[i]
		if got := findStatus(status.InitContainerStatuses, c.Name); IsSidecar(c) && (got == nil || !got.Ready) {
			unready = append(unready, c.Name)
		}
	}
	for i := range status.ContainerStatuses {
		if !status.ContainerStatuses[i].Ready {
			unready = append(unready, status.ContainerStatuses[i].Name)
		}
	}
	if len(unready) > 0 {
		condition.Status, condition.Reason = corev1.ConditionFalse, "ContainersNotReady"
		condition.Message = fmt.Sprintf("containers with unready status: %v", unready)
	}
	return condition
}

// readyCondition adds the readiness gates to the containers.
func readyCondition(pod *corev1.Pod, status *corev1.PodStatus, containers corev1.PodCondition) corev1.PodCondition {
	condition := containers
	condition.Type = corev1.PodReady
	if containers.Status != corev1.ConditionTrue {
		return condition
	}
	var missing []string
	for _, gate := range pod.Spec.ReadinessGates {
		got := findCondition(status.Conditions, gate.ConditionType)
		switch {
		case got == nil:
			missing = append(missing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		case got.Status != corev1.ConditionTrue:
			missing = append(missing, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", gate.ConditionType, got.Status))
		}
	}
	if len(missing) > 0 {
		condition.Status, condition.Reason = corev1.ConditionFalse, "ReadinessGatesNotReady"
		condition.Message = strings.Join(missing, ", ")
	}
	return condition
}

package core

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/podspec"
)

func podColumns() []column.Definition {
	spec, status := corev1.PodSpec{}.SwaggerDoc(), corev1.PodStatus{}.SwaggerDoc()
	return append([]column.Definition{
		column.Name(),
		column.Text("Ready", "The aggregate readiness state of this pod for accepting traffic."),
		column.Text("Status", "The aggregate status of the containers in this pod."),
		column.Text("Restarts", "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted."),
		column.Age(),
	}, column.Wide(
		column.Text("IP", status["podIP"]),
		column.Text("Node", spec["nodeName"]),
		column.Text("Nominated Node", status["nominatedNodeName"]),
		column.Text("Readiness Gates", spec["readinessGates"]),
	)...)
}

func podRow(p *corev1.Pod, now metav1.Time) []any {
	s := summarizePod(p)
	restarts := strconv.Itoa(s.restarts.count)
	if s.restarts.count != 0 && !s.restarts.last.IsZero() {
		restarts = fmt.Sprintf("%d (%s ago)", s.restarts.count, column.Since(s.restarts.last, now))
	}
	ip := p.Status.PodIP
	if len(p.Status.PodIPs) > 0 {
		ip = p.Status.PodIPs[0].IP
	}
	return []any{
		p.Name, fmt.Sprintf("%d/%d", s.ready, s.total), s.reason, restarts, column.Since(p.CreationTimestamp, now),
		column.OrNone(ip), column.OrNone(p.Spec.NodeName), column.OrNone(p.Status.NominatedNodeName), readinessGates(p),
	}
}

// restarts counts restarts and remembers the last one.
type restarts struct {
	count int
	last  metav1.Time
}

func (r *restarts) add(status *corev1.ContainerStatus) {
	r.count += int(status.RestartCount)
	if ended := status.LastTerminationState.Terminated; ended != nil && r.last.Before(&ended.FinishedAt) {
		r.last = ended.FinishedAt
	}
}

// podSummary is what the first columns say about a Pod.
type podSummary struct {
	ready, total int
	reason       string
	// restarts are those of the containers that matter now: of all init
	// containers while the Pod initializes, later of sidecars and containers.
	restarts restarts
	// sidecars are the restarts of restartable init containers alone.
	sidecars restarts
}

func summarizePod(p *corev1.Pod) podSummary {
	s := podSummary{total: len(p.Spec.Containers), reason: string(p.Status.Phase)}
	if p.Status.Reason != "" {
		s.reason = p.Status.Reason
	}
	if c := podCondition(p, corev1.PodScheduled); c != nil && c.Reason == corev1.PodReasonSchedulingGated {
		s.reason = corev1.PodReasonSchedulingGated
	}
	for i := range p.Spec.InitContainers {
		if podspec.Restartable(&p.Spec.InitContainers[i]) {
			s.total++
		}
	}
	initialized := podCondition(p, corev1.PodInitialized)
	if !s.readInit(p) || initialized != nil && initialized.Status == corev1.ConditionTrue {
		s.readContainers(p)
	}
	terminal := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	switch {
	case p.DeletionTimestamp != nil && p.Status.Reason == nodeLost:
		s.reason = "Unknown"
	case p.DeletionTimestamp != nil && !terminal:
		s.reason = "Terminating"
	}
	return s
}

// nodeLost is the status reason of Pods whose node does not answer.
const nodeLost = "NodeLost"

// readInit reads the init containers up to the first that is not done, and
// reports whether there is one.
func (s *podSummary) readInit(p *corev1.Pod) (initializing bool) {
	sidecars := map[string]bool{}
	for i := range p.Spec.InitContainers {
		sidecars[p.Spec.InitContainers[i].Name] = podspec.Restartable(&p.Spec.InitContainers[i])
	}
	for i := range p.Status.InitContainerStatuses {
		status := &p.Status.InitContainerStatuses[i]
		s.restarts.add(status)
		sidecar := sidecars[status.Name]
		if sidecar {
			s.sidecars.add(status)
		}
		ended, waiting := status.State.Terminated, status.State.Waiting
		switch {
		case ended != nil && ended.ExitCode == 0:
			continue
		case sidecar && status.Started != nil && *status.Started:
			if status.Ready {
				s.ready++
			}
			continue
		case ended != nil:
			s.reason = "Init:" + endReason(ended)
		case waiting != nil && waiting.Reason != "" && waiting.Reason != "PodInitializing":
			s.reason = "Init:" + waiting.Reason
		default:
			s.reason = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		return true
	}
	return false
}

func (s *podSummary) readContainers(p *corev1.Pod) {
	s.restarts = s.sidecars
	running := false
	for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
		status := &p.Status.ContainerStatuses[i]
		s.restarts.add(status)
		switch {
		case status.State.Waiting != nil && status.State.Waiting.Reason != "":
			s.reason = status.State.Waiting.Reason
		case status.State.Terminated != nil:
			s.reason = endReason(status.State.Terminated)
		case status.Ready && status.State.Running != nil:
			running = true
			s.ready++
		}
	}
	if s.reason != "Completed" || !running {
		return
	}
	s.reason = "NotReady"
	if ready := podCondition(p, corev1.PodReady); ready != nil && ready.Status == corev1.ConditionTrue {
		s.reason = "Running"
	}
}

func endReason(ended *corev1.ContainerStateTerminated) string {
	switch {
	case ended.Reason != "":
		return ended.Reason
	case ended.Signal != 0:
		return fmt.Sprintf("Signal:%d", ended.Signal)
	default:
		return fmt.Sprintf("ExitCode:%d", ended.ExitCode)
	}
}

func readinessGates(p *corev1.Pod) string {
	if len(p.Spec.ReadinessGates) == 0 {
		return column.None
	}
	open := 0
	for _, gate := range p.Spec.ReadinessGates {
		if c := podCondition(p, gate.ConditionType); c != nil && c.Status == corev1.ConditionTrue {
			open++
		}
	}
	return fmt.Sprintf("%d/%d", open, len(p.Spec.ReadinessGates))
}

func podCondition(p *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == kind {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

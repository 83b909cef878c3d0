package podworker

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/lifecycle"
)

// Report is what BuildStatus needs beside the View.
type Report struct {
	// Old is the Pod's status as last reported; read-only.
	Old corev1.PodStatus
	// StartTime is when the kubelet took the Pod.
	StartTime time.Time
	// IPs and HostIPs are filled once known.
	IPs, HostIPs []string
	// Messages are the termination messages of ended attempts.
	Messages map[container.ID]string
	// Final: the Pod has ended; what did not end by itself is reported as lost.
	Final bool
	// NetworkGone: the sandbox was taken down.
	NetworkGone bool
}

// BuildStatus derives a Pod's status. It is a pure function.
func BuildStatus(v View, r Report) corev1.PodStatus {
	status := corev1.PodStatus{
		ObservedGeneration: v.Pod.Generation,
		QOSClass:           v.Pod.Status.QOSClass,
		NominatedNodeName:  r.Old.NominatedNodeName,
		StartTime:          &metav1.Time{Time: r.StartTime.Truncate(time.Second)},
		Resize:             r.Old.Resize,

		ResourceClaimStatuses: r.Old.ResourceClaimStatuses,
	}
	setAddresses(&status, r)
	b := builder{view: v, report: r}
	for i := range v.Pod.Spec.InitContainers {
		status.InitContainerStatuses = append(status.InitContainerStatuses,
			b.container(&v.Pod.Spec.InitContainers[i], r.Old.InitContainerStatuses, initContainer))
	}
	for i := range v.Pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses,
			b.container(&v.Pod.Spec.Containers[i], r.Old.ContainerStatuses, regularContainer))
	}
	for i := range v.Pod.Spec.EphemeralContainers {
		c := corev1.Container(v.Pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		status.EphemeralContainerStatuses = append(status.EphemeralContainerStatuses,
			b.container(&c, r.Old.EphemeralContainerStatuses, ephemeralContainer))
	}
	if r.Final && initialized(v) {
		endUnstarted(v, status.ContainerStatuses)
	}
	status.Phase = phase(v, r, &status)
	if v.Stop != nil {
		status.Reason, status.Message = v.Stop.Reason, v.Stop.Message
	}
	setConditions(v, r, &status)
	return status
}

// endUnstarted reports containers that never ran, of a Pod that has ended: they
// wait for nothing any more.
func endUnstarted(v View, list []corev1.ContainerStatus) {
	for i := range list {
		if list[i].State.Terminated != nil {
			continue
		}
		list[i].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			Reason: "ContainerStatusUnknown", ExitCode: killedExitCode, FinishedAt: metav1.NewTime(v.Now.Truncate(time.Second)),
			Message: "The container could not be located when the pod was terminated",
		}}
		list[i].Ready = false
	}
}

func setAddresses(status *corev1.PodStatus, r Report) {
	if len(r.HostIPs) > 0 {
		status.HostIP = r.HostIPs[0]
		for _, ip := range r.HostIPs {
			status.HostIPs = append(status.HostIPs, corev1.HostIP{IP: ip})
		}
	} else {
		status.HostIP, status.HostIPs = r.Old.HostIP, r.Old.HostIPs
	}
	if len(r.IPs) > 0 {
		status.PodIP = r.IPs[0]
		for _, ip := range r.IPs {
			status.PodIPs = append(status.PodIPs, corev1.PodIP{IP: ip})
		}
	} else {
		status.PodIP, status.PodIPs = r.Old.PodIP, r.Old.PodIPs
	}
}

type containerKind int

const (
	regularContainer containerKind = iota
	initContainer
	ephemeralContainer
)

type builder struct {
	view   View
	report Report
}

// container reports one container.
func (b builder) container(c *corev1.Container, old []corev1.ContainerStatus, kind containerKind) corev1.ContainerStatus {
	out := corev1.ContainerStatus{Name: c.Name, Image: c.Image}
	previous := findStatus(old, c.Name)
	attempts := b.view.Containers[c.Name]
	if len(attempts) == 0 {
		b.unknown(c, &out, previous)
		return out
	}
	last := &attempts[len(attempts)-1]
	b.identify(c, &out, last)
	if len(attempts) > 1 {
		out.LastTerminationState = b.terminated(&attempts[len(attempts)-2])
	} else if previous != nil && previous.ContainerID != out.ContainerID {
		out.LastTerminationState = previous.LastTerminationState
		if previous.State.Terminated != nil {
			out.LastTerminationState = previous.State
		}
	} else if previous != nil && previous.State.Terminated == nil {
		out.LastTerminationState = previous.LastTerminationState
	}
	switch last.State {
	case container.Created:
		out.State.Waiting = b.waiting(c)
	case container.Running:
		out.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(last.StartedAt.Truncate(time.Second))}
		results := b.view.Probes[last.ID]
		out.Started = ptr.To(results.Started)
		out.Ready = results.Ready && results.Started && kind != ephemeralContainer && (kind == regularContainer || IsSidecar(c))
	default:
		b.exited(c, &out, last, kind)
	}
	return out
}

// exited reports an ended container: as ended, or as waiting for its next
// attempt if that is held up.
func (b builder) exited(c *corev1.Container, out *corev1.ContainerStatus, last *container.Status, kind containerKind) {
	out.Started = ptr.To(false)
	out.State = b.terminated(last)
	out.Ready = kind == initContainer && !IsSidecar(c) && last.ExitCode == 0
	if kind == ephemeralContainer || b.view.Stop != nil || !restarts(b.view.Pod, c, last, kind == initContainer) ||
		(kind == initContainer && !IsSidecar(c) && last.ExitCode == 0) {
		return
	}
	ended := out.State
	if at := b.view.BackOff[c.Name]; b.view.Now.Before(at) && b.view.Busy[c.Name] == "" {
		out.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
			Reason: "CrashLoopBackOff",
			Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s",
				shortDuration(at.Sub(last.FinishedAt)), c.Name, lifecycle.FullName(b.view.Pod)),
		}}
		out.LastTerminationState = ended
		return
	}
	if wait, ok := b.view.Waiting[c.Name]; ok && wait.Attempt >= last.ID.Attempt {
		out.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: wait.Reason, Message: wait.Message}}
		out.LastTerminationState = ended
	}
}

// shortDuration prints whole seconds as "10s", "1m20s", "5m0s".
func shortDuration(d time.Duration) string { return d.Round(time.Second).String() }

// unknown reports a container the runtime knows nothing of: it was not
// created yet, or is lost.
func (b builder) unknown(c *corev1.Container, out *corev1.ContainerStatus, previous *corev1.ContainerStatus) {
	out.Started = ptr.To(false)
	if previous != nil {
		out.RestartCount, out.LastTerminationState = previous.RestartCount, previous.LastTerminationState
		out.ImageID, out.ContainerID = previous.ImageID, previous.ContainerID
		if previous.State.Terminated != nil {
			out.LastTerminationState = previous.State
			if b.report.Final {
				out.State, out.LastTerminationState, out.Ready = previous.State, previous.LastTerminationState, previous.Ready
				return
			}
		}
		if previous.State.Running != nil {
			lost := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				Reason: "ContainerStatusUnknown", ExitCode: killedExitCode, ContainerID: previous.ContainerID,
				StartedAt: previous.State.Running.StartedAt, FinishedAt: metav1.NewTime(b.view.Now.Truncate(time.Second)),
				Message: "The container could not be located when the pod was terminated",
			}}
			if b.report.Final {
				out.State = lost
				return
			}
			lost.Terminated.Message = "The container could not be located when the pod was deleted.  The container used to be Running"
			out.LastTerminationState = lost
		}
	}
	out.State.Waiting = b.waiting(c)
}

// waiting is the state of a container before its first process.
func (b builder) waiting(c *corev1.Container) *corev1.ContainerStateWaiting {
	if wait, ok := b.view.Waiting[c.Name]; ok {
		return &corev1.ContainerStateWaiting{Reason: wait.Reason, Message: wait.Message}
	}
	if len(b.view.Pod.Spec.InitContainers) > 0 {
		return &corev1.ContainerStateWaiting{Reason: "PodInitializing"}
	}
	return &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
}

func (b builder) identify(c *corev1.Container, out *corev1.ContainerStatus, last *container.Status) {
	out.ContainerID = ContainerID(last.ID)
	out.RestartCount = int32(last.ID.Attempt)
	out.ImageID = last.Annotations[lifecycle.AnnotationImageID]
	if image := last.Annotations[lifecycle.AnnotationImage]; image != "" {
		out.Image = image
	}
	out.AllocatedResources = b.view.Resize.allocated(c).Requests.DeepCopy()
	if last.State == container.Running {
		out.Resources = b.view.Resize.actual(c).DeepCopy()
		out.Resources.Claims = nil
		out.User = parseUser(last.Annotations[lifecycle.AnnotationUser])
	}
	for _, m := range c.VolumeMounts {
		mount := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			if asked := ptr.Deref(m.RecursiveReadOnly, mode); asked != corev1.RecursiveReadOnlyDisabled {
				mode = corev1.RecursiveReadOnlyEnabled
			}
			mount.RecursiveReadOnly = &mode
		}
		out.VolumeMounts = append(out.VolumeMounts, mount)
	}
}

func parseUser(text string) *corev1.ContainerUser {
	parts := strings.SplitN(text, ":", 3)
	if len(parts) != 3 {
		return nil
	}
	user := &corev1.LinuxContainerUser{}
	var err error
	if user.UID, err = strconv.ParseInt(parts[0], 10, 64); err != nil {
		return nil
	}
	if user.GID, err = strconv.ParseInt(parts[1], 10, 64); err != nil {
		return nil
	}
	user.SupplementalGroups = []int64{user.GID}
	for _, text := range strings.Split(parts[2], ",") {
		if group, err := strconv.ParseInt(text, 10, 64); err == nil && group != user.GID {
			user.SupplementalGroups = append(user.SupplementalGroups, group)
		}
	}
	return &corev1.ContainerUser{Linux: user}
}

func (b builder) terminated(status *container.Status) corev1.ContainerState {
	if status.State != container.Exited {
		return corev1.ContainerState{}
	}
	ended := &corev1.ContainerStateTerminated{
		ExitCode: int32(status.ExitCode), Signal: 0, Reason: status.Reason,
		FinishedAt:  metav1.NewTime(status.FinishedAt.Truncate(time.Second)),
		ContainerID: ContainerID(status.ID),
		Message:     b.report.Messages[status.ID],
	}
	if !status.StartedAt.IsZero() {
		ended.StartedAt = metav1.NewTime(status.StartedAt.Truncate(time.Second))
	} else {
		ended.StartedAt = metav1.NewTime(time.Unix(0, 0))
	}
	if status.OOMKilled {
		ended.Reason = "OOMKilled"
	}
	if ended.Reason == "" {
		ended.Reason = "Completed"
		if status.ExitCode != 0 {
			ended.Reason = "Error"
		}
	}
	if ended.Message == "" {
		ended.Message = status.Message
	}
	return corev1.ContainerState{Terminated: ended}
}

// ContainerID is how a container is named in status.
func ContainerID(id container.ID) string {
	return fmt.Sprintf("skeg://%s_%s_%d", id.Pod, id.Name, id.Attempt)
}

// ParseContainerID undoes ContainerID; false if text is not one.
func ParseContainerID(text string) (container.ID, bool) {
	rest, ok := strings.CutPrefix(text, "skeg://")
	parts := strings.Split(rest, "_")
	if !ok || len(parts) != 3 {
		return container.ID{}, false
	}
	attempt, err := strconv.Atoi(parts[2])
	if err != nil {
		return container.ID{}, false
	}
	return container.ID{Pod: types.UID(parts[0]), Name: parts[1], Attempt: attempt}, true
}

func findStatus(list []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

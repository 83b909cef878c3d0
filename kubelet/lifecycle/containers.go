package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Containers keeps a Pod's sandbox, and starts, stops and removes its
// containers.
type Containers struct {
	Runtime     container.Runtime
	Images      Images
	Puller      *Puller
	Volumes     Volumes
	Environment Environment
	Recorder    Recorder
	Clock       clock.Clock
	// SeccompRoot holds localhost profiles; SeccompDefault applies the
	// runtime's profile where none is asked for.
	SeccompRoot    string
	SeccompDefault bool
	// NoQuota leaves CPU limits unenforced.
	NoQuota bool
	// NodeMemoryBytes scales the out-of-memory scores of burstable Pods.
	NodeMemoryBytes int64
}

// Name is "containers".
func (*Containers) Name() string { return "containers" }

// Prepare makes the Pod's sandbox.
func (k *Containers) Prepare(ctx context.Context, pod *Pod) error {
	spec := container.SandboxSpec{
		Pod: pod.UID(), Namespace: pod.API.Namespace, Name: pod.API.Name,
		Hostname:     pod.Hostname,
		CgroupParent: pod.CgroupParent,
		NetNS:        pod.NetNS,
		HostPID:      pod.API.Spec.HostPID,
		HostIPC:      pod.API.Spec.HostIPC,
		SharePID:     ptr.Deref(pod.API.Spec.ShareProcessNamespace, false),
	}
	if sc := pod.API.Spec.SecurityContext; sc != nil && len(sc.Sysctls) > 0 {
		spec.Sysctls = map[string]string{}
		for _, s := range sc.Sysctls {
			spec.Sysctls[s.Name] = s.Value
		}
	}
	if err := k.Runtime.EnsureSandbox(ctx, spec); err != nil {
		return &Failure{
			Reason:  "FailedCreatePodSandBox",
			Message: fmt.Sprintf("Failed to create pod sandbox: %v", err),
			Err:     fmt.Errorf("ensure sandbox: %w", err),
		}
	}
	return nil
}

// Cleanup removes the Pod's containers with their root directories, then the
// sandbox.
func (k *Containers) Cleanup(ctx context.Context, uid types.UID) error {
	sandboxes, err := k.Runtime.ListSandboxes(ctx)
	if err != nil {
		return fmt.Errorf("list sandboxes: %w", err)
	}
	for _, sandbox := range sandboxes {
		if sandbox.Pod != uid {
			continue
		}
		for _, status := range sandbox.Containers {
			if err := k.Remove(ctx, status.ID); err != nil {
				return err
			}
		}
	}
	if err := k.Runtime.RemoveSandbox(ctx, uid); err != nil {
		return fmt.Errorf("remove sandbox: %w", err)
	}
	return nil
}

// Remove deletes one attempt of a container; its log stays.
func (k *Containers) Remove(ctx context.Context, id container.ID) error {
	if err := k.Runtime.Remove(ctx, id); err != nil && !errors.Is(err, container.ErrNotFound) {
		return fmt.Errorf("remove container %s: %w", id.Name, err)
	}
	if err := k.Images.Unmount(ctx, rootKey(id)); err != nil {
		return fmt.Errorf("unmount root of container %s: %w", id.Name, err)
	}
	return nil
}

// rootKey names a container's root directory in the image store.
func rootKey(id container.ID) string {
	return fmt.Sprintf("%s_%s_%d", id.Pod, id.Name, id.Attempt)
}

// Start brings one attempt of a container to life: image, root directory,
// specification, process, postStart. The error is a *StartError; its events
// are recorded here.
func (k *Containers) Start(ctx context.Context, pod *Pod, c *corev1.Container, attempt int) error {
	id := container.ID{Pod: pod.UID(), Name: c.Name, Attempt: attempt}
	image, err := k.Puller.Ensure(ctx, pod.API, c)
	if err != nil {
		k.warn(pod.API, c, "Failed", "Error: "+startReason(err))
		return err
	}
	spec, startErr := k.spec(ctx, pod, c, id, image)
	if startErr != nil {
		k.warn(pod.API, c, "Failed", "Error: "+startErr.Message)
		return errors.Join(startErr, k.discard(ctx, id))
	}
	if err := k.Runtime.Create(ctx, spec); err != nil {
		k.warn(pod.API, c, "Failed", "Error: "+err.Error())
		return errors.Join(&StartError{Reason: CreateContainerFailed, Message: err.Error()}, k.discard(ctx, id))
	}
	k.event(pod.API, c, "Created", "Container created")
	if err := k.Runtime.Start(ctx, id); err != nil {
		k.warn(pod.API, c, "Failed", "Error: "+err.Error())
		if !errors.Is(err, container.ErrStart) {
			// The runtime could not try; the attempt is still to be made.
			return &StartError{Reason: CreateContainerFailed, Message: err.Error()}
		}
		return &StartError{Reason: RunContainerFailed, Message: err.Error()}
	}
	k.event(pod.API, c, "Started", "Container started")
	return k.postStart(ctx, pod, c, id)
}

func startReason(err error) string {
	var start *StartError
	if errors.As(err, &start) {
		return start.Reason
	}
	return err.Error()
}

// discard gives back the root directory of a container that was not created.
func (k *Containers) discard(ctx context.Context, id container.ID) error {
	if err := k.Images.Unmount(ctx, rootKey(id)); err != nil {
		return fmt.Errorf("unmount root of container %s: %w", id.Name, err)
	}
	return nil
}

// postStart runs the handler; when it fails the container is killed.
func (k *Containers) postStart(ctx context.Context, pod *Pod, c *corev1.Container, id container.ID) error {
	if c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return nil
	}
	err := k.handle(ctx, pod, c, id, c.Lifecycle.PostStart)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	k.warn(pod.API, c, "FailedPostStartHook", fmt.Sprintf("PostStartHook failed: %v", err))
	k.event(pod.API, c, "Killing", fmt.Sprintf("FailedPostStartHook: container %s is stopped", c.Name))
	grace := time.Duration(ptr.Deref(pod.API.Spec.TerminationGracePeriodSeconds, 30)) * time.Second
	if stopErr := k.Runtime.Stop(ctx, id, grace); stopErr != nil && !gone(stopErr) {
		err = errors.Join(err, stopErr)
	}
	return &StartError{Reason: PostStartHookFailed, Message: err.Error()}
}

// StopRequest is how a container is to end.
type StopRequest struct {
	ID container.ID
	// Message is the text of the Killing event; "" records none.
	Message string
	// Deadline is when it is killed at the latest.
	Deadline time.Time
}

// minStopGrace is what a container gets after its preStop handler used up the
// grace period, as users know from upstream.
const minStopGrace = 2 * time.Second

// Stop runs preStop, then asks the container to end, then kills it; it
// returns once the container has ended.
func (k *Containers) Stop(ctx context.Context, pod *Pod, req StopRequest) error {
	c := FindContainer(pod.API, req.ID.Name)
	if c != nil && req.Message != "" {
		k.event(pod.API, c, "Killing", req.Message)
	}
	remaining := req.Deadline.Sub(k.Clock.Now())
	if c != nil && c.Lifecycle != nil && c.Lifecycle.PreStop != nil && remaining > 0 {
		hookCtx, cancel := context.WithTimeout(ctx, remaining)
		err := k.handle(hookCtx, pod, c, req.ID, c.Lifecycle.PreStop)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			k.warn(pod.API, c, "FailedPreStopHook", fmt.Sprintf("PreStopHook failed: %v", err))
		}
		remaining = max(req.Deadline.Sub(k.Clock.Now()), minStopGrace)
	}
	if err := k.Runtime.Stop(ctx, req.ID, max(remaining, 0)); err != nil && !gone(err) {
		return fmt.Errorf("stop container %s: %w", req.ID.Name, err)
	}
	return nil
}

func gone(err error) bool {
	return errors.Is(err, container.ErrNotFound) || errors.Is(err, container.ErrNotRunning)
}

// LogPath is where a container's output goes:
// <pod log dir>/<container>/<attempt>.log.
func LogPath(podLogDir, name string, attempt int) string {
	return filepath.Join(podLogDir, name, fmt.Sprintf("%d.log", attempt))
}

// terminationLog makes the file mounted at terminationMessagePath.
func terminationLog(podDir string, id container.ID) (string, error) {
	dir := filepath.Join(podDir, "containers", id.Name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("make termination message directory: %w", err)
	}
	path := filepath.Join(dir, fmt.Sprintf("termination-%d", id.Attempt))
	// O_TRUNC: an earlier, failed try of this attempt may have left one.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o666)
	if err != nil {
		return "", fmt.Errorf("make termination message file: %w", err)
	}
	// The container's user must be able to write whatever the umask.
	if err := errors.Join(file.Chmod(0o666), file.Close()); err != nil {
		return "", fmt.Errorf("make termination message file: %w", err)
	}
	return path, nil
}

// terminationMessageLimit is the most that a status carries (API reference,
// terminationMessagePath); fallbackLines and fallbackBytes bound what is
// taken from the log instead.
const (
	terminationMessageLimit = 4096
	fallbackBytes           = 2048
	fallbackLines           = 80
)

// TerminationMessage reads what an ended container left for its status.
func (k *Containers) TerminationMessage(pod *Pod, c *corev1.Container, status container.Status) string {
	path := filepath.Join(pod.Dir, "containers", status.ID.Name, fmt.Sprintf("termination-%d", status.ID.Attempt))
	message := readTail(path, terminationMessageLimit)
	if message == "" && c.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError && status.ExitCode != 0 {
		message = logTail(LogPath(pod.LogDir, status.ID.Name, status.ID.Attempt))
	}
	return strings.ToValidUTF8(message, "�")
}

func (k *Containers) event(pod *corev1.Pod, c *corev1.Container, reason, message string) {
	k.Recorder.Event(pod, c.Name, corev1.EventTypeNormal, reason, message)
}

func (k *Containers) warn(pod *corev1.Pod, c *corev1.Container, reason, message string) {
	k.Recorder.Event(pod, c.Name, corev1.EventTypeWarning, reason, message)
}

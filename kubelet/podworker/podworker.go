// Package podworker runs the node's Pods: a Pool with one worker per Pod.
// Each worker looks at what is wanted (the Pod's object) and what is (the
// containers the runtime reports, the probes), lets the pure function Step
// decide, and carries the plan out through kubelet/lifecycle.
//
// podsource feeds the Pool; kubelet/status takes what it reports. Goroutines:
// one per Pod, and one per action under way, all ended with Pool.Run.
package podworker

import (
	"context"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/skeg-dev/skeg/kubelet/checkpoint"
	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/lifecycle"
)

// StatusSink takes what the workers report. It does not block.
type StatusSink interface {
	// Set is the Pod's status now.
	Set(pod *corev1.Pod, status corev1.PodStatus)
	// Finish: nothing of the Pod is left on the node; once its status is
	// written, the object may be deleted for good.
	Finish(pod *corev1.Pod)
	// Forget: the Pod's object is gone.
	Forget(uid types.UID)
}

// Checkpoints remember Pods over a restart.
type Checkpoints interface {
	Save(checkpoint.Record) error
	Load() ([]checkpoint.Record, error)
	Delete(types.UID) error
}

// Config of a Pool; all fields but Looked and MaxCrashBackOff are required.
type Config struct {
	Hooks       lifecycle.Chain
	Containers  *lifecycle.Containers
	Dirs        *lifecycle.Dirs
	Runtime     container.Runtime
	Probes      lifecycle.Probes
	Status      StatusSink
	Checkpoints Checkpoints
	Recorder    lifecycle.Recorder
	Clock       clock.Clock
	Logger      *slog.Logger
	Resizer     *lifecycle.Resizer
	// Looked is told how long a worker's look at its Pod took, and whether it
	// was its first (create), one at a changed object (update) or any other
	// (sync); nil for nobody.
	Looked func(operation string, took time.Duration)
	// Restore counts a Pod admitted before a restart.
	Restore func(*corev1.Pod)
	// ResetSandbox takes a sandbox down whose namespaces did not survive a
	// reboot, and leaves volumes alone.
	ResetSandbox func(context.Context, types.UID) error
	// HostIPs are the node's addresses.
	HostIPs func() []string
	// BootID of the running kernel.
	BootID string
	// MaxCrashBackOff is the longest wait between restarts; 0 is five minutes.
	MaxCrashBackOff time.Duration
}

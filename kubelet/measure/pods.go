package measure

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/lifecycle"
	"github.com/skeg-dev/skeg/kubelet/podworker"
)

// Images is the image store with pulls counted among the runtime's operations.
func (s *Set) Images(inner lifecycle.Images) lifecycle.Images { return images{Images: inner, set: s} }

type images struct {
	lifecycle.Images
	set *Set
}

// Pull implements lifecycle.Images.
func (i images) Pull(ctx context.Context, ref string, auth []lifecycle.Credential) (lifecycle.Image, error) {
	start := i.set.clock.Now()
	pulled, err := i.Images.Pull(ctx, ref, auth)
	i.set.operation("pull_image", start, err)
	return pulled, err
}

// Cgroups is the tree of cgroups with its work timed.
func (s *Set) Cgroups(inner lifecycle.Cgroups) lifecycle.Cgroups {
	return cgroups{inner: inner, set: s}
}

type cgroups struct {
	inner lifecycle.Cgroups
	set   *Set
}

func (c cgroups) timed(operation string, start time.Time) {
	c.set.cgroups.WithLabelValues(operation).Observe(c.set.clock.Since(start).Seconds())
}

// EnsurePod implements lifecycle.Cgroups.
func (c cgroups) EnsurePod(ctx context.Context, spec lifecycle.CgroupSpec) (string, error) {
	defer c.timed("create", c.set.clock.Now())
	return c.inner.EnsurePod(ctx, spec)
}

// ResizePod implements lifecycle.Cgroups.
func (c cgroups) ResizePod(ctx context.Context, spec lifecycle.CgroupSpec, containers map[container.ID]container.Resources) error {
	defer c.timed("update", c.set.clock.Now())
	return c.inner.ResizePod(ctx, spec, containers)
}

// RemovePod implements lifecycle.Cgroups.
func (c cgroups) RemovePod(ctx context.Context, uid types.UID) error {
	defer c.timed("destroy", c.set.clock.Now())
	return c.inner.RemovePod(ctx, uid)
}

// Volumes is the volumes with those counted that are set up.
func (s *Set) Volumes(inner lifecycle.Volumes) lifecycle.Volumes {
	return volumes{Volumes: inner, state: s.state}
}

type volumes struct {
	lifecycle.Volumes
	state *state
}

// Setup implements lifecycle.Volumes.
func (v volumes) Setup(ctx context.Context, pod *corev1.Pod) error {
	err := v.Volumes.Setup(ctx, pod)
	if err == nil {
		v.state.mounted(pod)
	}
	return err
}

// Teardown implements lifecycle.Volumes.
func (v volumes) Teardown(ctx context.Context, uid types.UID) error {
	err := v.Volumes.Teardown(ctx, uid)
	if err == nil {
		v.state.unmounted(uid)
	}
	return err
}

// Statuses is the sink of statuses with the start of Pods timed: from the
// first status, which a worker reports at its first look, to the first that
// says Running. Pods that run already are not counted.
func (s *Set) Statuses(inner podworker.StatusSink) podworker.StatusSink {
	return &statuses{inner: inner, set: s, pending: map[types.UID]time.Time{}}
}

type statuses struct {
	inner podworker.StatusSink
	set   *Set

	mu sync.Mutex
	// pending is when each Pod that does not run yet was first seen; guarded by mu.
	pending map[types.UID]time.Time
}

// Set implements podworker.StatusSink.
func (s *statuses) Set(pod *corev1.Pod, status corev1.PodStatus) {
	s.note(pod.UID, status.Phase)
	s.inner.Set(pod, status)
}

func (s *statuses) note(uid types.UID, phase corev1.PodPhase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, waits := s.pending[uid]
	switch {
	case phase == corev1.PodPending && !waits:
		s.pending[uid] = s.set.clock.Now()
	case phase == corev1.PodRunning && waits:
		s.set.podStart.Observe(s.set.clock.Since(since).Seconds())
		delete(s.pending, uid)
	case podworker.IsTerminal(phase):
		delete(s.pending, uid)
	}
}

// Finish implements podworker.StatusSink.
func (s *statuses) Finish(pod *corev1.Pod) {
	s.forget(pod.UID)
	s.inner.Finish(pod)
}

// Forget implements podworker.StatusSink.
func (s *statuses) Forget(uid types.UID) {
	s.forget(uid)
	s.inner.Forget(uid)
}

func (s *statuses) forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, uid)
}

package podworker

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/skeg-dev/skeg/kubelet/container"
	"github.com/skeg-dev/skeg/kubelet/lifecycle"
)

// Resize is how the sizes of a Pod's containers stand, for its status.
type Resize struct {
	// Actual are the resources containers run with, and Allocated those that
	// the node has set aside, by name; what is not in them is as specified.
	Actual, Allocated map[string]corev1.ResourceRequirements
	// Pending is why a resize must wait, or nil.
	Pending *lifecycle.ResizePending
	// InProgress: it is being done; Error is what went wrong the last time.
	InProgress bool
	Error      string
}

func (r Resize) actual(c *corev1.Container) *corev1.ResourceRequirements {
	if size, ok := r.Actual[c.Name]; ok {
		return &size
	}
	return &c.Resources
}

func (r Resize) allocated(c *corev1.Container) *corev1.ResourceRequirements {
	if size, ok := r.Allocated[c.Name]; ok {
		return &size
	}
	return &c.Resources
}

// setResize writes the conditions of a resize; without one there are none.
func setResize(v View, status *corev1.PodStatus, set func(corev1.PodCondition)) {
	if p := v.Resize.Pending; p != nil {
		set(corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: p.Reason, Message: p.Message})
	} else {
		removeCondition(status, corev1.PodResizePending)
	}
	if !v.Resize.InProgress {
		removeCondition(status, corev1.PodResizeInProgress)
		return
	}
	condition := corev1.PodCondition{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue}
	if v.Resize.Error != "" {
		condition.Reason, condition.Message = corev1.PodReasonError, v.Resize.Error
	}
	set(condition)
}

func removeCondition(status *corev1.PodStatus, kind corev1.PodConditionType) {
	kept := status.Conditions[:0:0]
	for _, c := range status.Conditions {
		if c.Type != kind {
			kept = append(kept, c)
		}
	}
	status.Conditions = kept
}

// sizing follows the resources of the containers that run. Guarded by the
// worker's mu.
type sizing struct {
	// actual and allocated are as in Resize, for every container that started.
	actual, allocated map[string]corev1.ResourceRequirements
	// restarting are containers stopped to start again with another size.
	restarting map[string]bool
	pending    *lifecycle.ResizePending
	progress   bool
	err        string
	underway   bool
	again      retry
}

func (s *sizing) report() Resize {
	return Resize{
		Actual: maps.Clone(s.actual), Allocated: maps.Clone(s.allocated),
		Pending: s.pending, InProgress: s.progress, Error: s.err,
	}
}

// started notes what a container was started with.
func (s *sizing) started(c *corev1.Container) { s.note(c.Name, c.Resources, c.Resources) }

func (s *sizing) note(name string, actual, allocated corev1.ResourceRequirements) {
	if s.actual == nil {
		s.actual, s.allocated = map[string]corev1.ResourceRequirements{}, map[string]corev1.ResourceRequirements{}
		s.restarting = map[string]bool{}
	}
	s.actual[name], s.allocated[name] = actual, allocated
	delete(s.restarting, name)
}

// resize brings the containers that run to the sizes that are wanted.
func (w *worker) resize(ctx context.Context, now time.Time) {
	s := &w.size
	if !w.prepared || w.stop != nil || s.underway {
		return
	}
	changed := w.missized()
	if len(changed) == 0 {
		s.pending, s.err, s.progress, s.again = nil, "", len(s.restarting) > 0, retry{}
		return
	}
	if now.Before(s.again.at) && s.again.last == sizeKey(w.pod) {
		return
	}
	var pending *lifecycle.ResizePending
	switch err := w.cfg.Resizer.Admit(w.pod); {
	case errors.As(err, &pending):
		s.pending, s.progress, s.err = pending, false, ""
		s.again = retry{at: now.Add(resizeRecheck), last: sizeKey(w.pod)}
		return
	case err != nil:
		w.resizeFailed(err)
		return
	}
	w.applySizes(ctx, changed)
}

// resizeRecheck is when a resize that had to wait is looked at again: other
// Pods may have gone.
const resizeRecheck = 5 * time.Second

// sizeKey tells wanted sizes apart: a newer one is tried at once.
func sizeKey(pod *corev1.Pod) string { return strconv.FormatInt(pod.Generation, 10) }

// missized are the running containers whose size is not the wanted one.
func (w *worker) missized() []container.ID {
	var changed []container.ID
	for id, seen := range w.observed {
		c := lifecycle.FindContainer(w.pod, id.Name)
		if c == nil || seen.status.State != container.Running {
			continue
		}
		actual, known := w.size.actual[id.Name]
		if !known {
			actual = w.sizeBefore(c)
			w.size.note(id.Name, actual, actual)
		}
		if w.busy[id.Name] == nil && !sameSize(actual, c.Resources) {
			changed = append(changed, id)
		}
	}
	return changed
}

// sizeBefore is what a container that ran before the kubelet restarted has, by
// its status.
func (w *worker) sizeBefore(c *corev1.Container) corev1.ResourceRequirements {
	for _, list := range [][]corev1.ContainerStatus{w.reported.ContainerStatuses, w.reported.InitContainerStatuses} {
		if old := findStatus(list, c.Name); old != nil && old.Resources != nil {
			return *old.Resources.DeepCopy()
		}
	}
	return c.Resources
}

// resizable are the resources that can change while a container runs.
var resizable = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

func sameSize(a, b corev1.ResourceRequirements) bool {
	for _, name := range resizable {
		if !sameAmount(a, b, name) {
			return false
		}
	}
	return true
}

func sameAmount(a, b corev1.ResourceRequirements, name corev1.ResourceName) bool {
	wantRequest, hasRequest := a.Requests[name]
	wantLimit, hasLimit := a.Limits[name]
	request, alsoRequest := b.Requests[name]
	limit, alsoLimit := b.Limits[name]
	return hasRequest == alsoRequest && hasLimit == alsoLimit &&
		equality.Semantic.DeepEqual(wantRequest, request) && equality.Semantic.DeepEqual(wantLimit, limit)
}

// applySizes sets limits, then restarts the containers whose policy asks for it.
func (w *worker) applySizes(ctx context.Context, changed []container.ID) {
	s := &w.size
	s.pending, s.progress, s.err, s.underway = nil, true, "", true
	place := w.current()
	var inPlace []container.ID
	for _, id := range changed {
		c := lifecycle.FindContainer(place.API, id.Name)
		actual := s.actual[id.Name]
		s.allocated[id.Name] = c.Resources
		if mustRestart(c, actual) {
			s.restarting[id.Name] = true
			continue
		}
		inPlace = append(inPlace, id)
	}
	w.background(func() error { return w.cfg.Resizer.Apply(ctx, place, inPlace) }, func(err error) {
		s.underway = false
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.resizeFailed(err)
			return
		}
		s.again = retry{}
		for _, id := range inPlace {
			if c := lifecycle.FindContainer(place.API, id.Name); c != nil {
				s.note(id.Name, c.Resources, c.Resources)
			}
		}
		for _, id := range changed {
			if s.restarting[id.Name] && w.stop == nil {
				w.stopContainer(ctx, lifecycle.StopRequest{
					ID: id, Deadline: w.cfg.Clock.Now().Add(graceOf(w.pod, nil)),
					Message: "Container " + id.Name + " resize requires restart",
				})
			}
		}
	})
}

func (w *worker) resizeFailed(err error) {
	w.logger.Warn("resizing pod", "error", err)
	w.size.progress, w.size.err = true, err.Error()
	w.size.again.failed(w.cfg.Clock.Now(), err)
	w.size.again.last = sizeKey(w.pod)
}

func mustRestart(c *corev1.Container, actual corev1.ResourceRequirements) bool {
	for _, policy := range c.ResizePolicy {
		if policy.RestartPolicy == corev1.RestartContainer && !sameAmount(actual, c.Resources, policy.ResourceName) {
			return true
		}
	}
	return false
}

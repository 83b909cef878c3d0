// Package status writes Pods' status to the API; nothing else in the kubelet
// does. It takes whole statuses from kubelet/podworker, sends what changed in
// one patch, tries again after failures, and deletes an object for good once
// its Pod is gone from the node and its last status is written. Goroutines:
// the writers of Run.
package status

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/internal/podinfo"
)

// Manager is the only writer of Pod status. Its methods do not block and are
// safe for concurrent use.
type Manager struct {
	// Client reaches the API; required.
	Client kubernetes.Interface
	Logger *slog.Logger
	// Mirror finds the API object that stands for a Pod from a file; nil
	// result while there is none. Required only with such Pods.
	Mirror func(static *corev1.Pod) *corev1.Pod

	once  sync.Once
	queue workqueue.TypedRateLimitingInterface[types.UID]

	mu sync.Mutex
	// entries is guarded by mu.
	entries map[types.UID]*entry
}

// entry is one Pod's status on its way.
type entry struct {
	pod    *corev1.Pod
	status corev1.PodStatus
	// version counts Sets; written is the version that the API has.
	version, written uint64
	// base is the status as the API has it, of the object baseUID.
	base    *corev1.PodStatus
	baseUID types.UID
	finish  bool
	deleted bool
}

// writers is how many statuses are written at the same time: enough to hide
// the round trip when a node full of Pods starts.
const writers = 8

func (m *Manager) init() {
	m.once.Do(func() {
		m.entries = map[types.UID]*entry{}
		m.queue = workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](50*time.Millisecond, 10*time.Second),
			workqueue.TypedRateLimitingQueueConfig[types.UID]{Name: "pod_status"},
		)
	})
}

// Set takes a Pod's status.
func (m *Manager) Set(pod *corev1.Pod, status corev1.PodStatus) {
	m.init()
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entry(pod)
	e.status = *status.DeepCopy()
	e.version++
	m.queue.Add(pod.UID)
}

func (m *Manager) entry(pod *corev1.Pod) *entry {
	e := m.entries[pod.UID]
	if e == nil {
		e = &entry{status: pod.Status}
		m.entries[pod.UID] = e
	}
	e.pod = pod
	return e
}

// Finish says that nothing of the Pod is left on the node.
func (m *Manager) Finish(pod *corev1.Pod) {
	m.init()
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entry(pod)
	if !e.finish {
		e.finish = true
		m.queue.Add(pod.UID)
	}
}

// Forget drops a Pod whose object is gone.
func (m *Manager) Forget(uid types.UID) {
	m.init()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.entries, uid)
}

// Poke writes a Pod's status again, as when its mirror has appeared.
func (m *Manager) Poke(uid types.UID) {
	m.init()
	m.queue.Add(uid)
}

// Run writes until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	m.init()
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for m.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	m.queue.ShutDown()
	group.Wait()
	return nil
}

func (m *Manager) next(ctx context.Context) bool {
	uid, shutdown := m.queue.Get()
	if shutdown {
		return false
	}
	defer m.queue.Done(uid)
	if err := m.write(ctx, uid); err != nil {
		if ctx.Err() == nil {
			m.Logger.Warn("writing pod status", "uid", string(uid), "error", err)
			m.queue.AddRateLimited(uid)
		}
		return true
	}
	m.queue.Forget(uid)
	return true
}

// work is a snapshot of an entry.
type work struct {
	pod     *corev1.Pod
	target  *corev1.Pod
	status  corev1.PodStatus
	base    *corev1.PodStatus
	version uint64
	finish  bool
}

func (m *Manager) snapshot(uid types.UID) (work, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[uid]
	if e == nil || e.deleted {
		return work{}, false
	}
	target := e.pod
	if podinfo.IsStatic(e.pod) {
		if m.Mirror == nil {
			return work{}, false
		}
		if target = m.Mirror(e.pod); target == nil {
			return work{}, false
		}
	}
	if e.base == nil || e.baseUID != target.UID {
		e.base, e.baseUID, e.written = target.Status.DeepCopy(), target.UID, 0
	}
	return work{pod: e.pod, target: target, status: e.status, base: e.base, version: e.version, finish: e.finish}, true
}

// write brings the API up to the newest status, then deletes if that is due.
func (m *Manager) write(ctx context.Context, uid types.UID) error {
	w, ok := m.snapshot(uid)
	if !ok {
		return nil
	}
	written, err := m.patch(ctx, w)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		// Gone, or another Pod by that name: the source will tell.
		m.Logger.Debug("pod of a status is gone", "pod", w.pod.Namespace+"/"+w.pod.Name, "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	current := m.entries[uid]
	if current == nil {
		m.mu.Unlock()
		return nil
	}
	current.written = w.version
	if written != nil {
		current.base = written
	}
	due := w.finish && current.version == w.version && w.pod.DeletionTimestamp != nil
	m.mu.Unlock()
	if !due {
		return nil
	}
	return m.delete(ctx, uid, w)
}

// patch sends the difference; nil if there was none.
func (m *Manager) patch(ctx context.Context, w work) (*corev1.PodStatus, error) {
	patch, err := difference(w.target.UID, own(*w.base, w.base), own(w.status, w.base))
	if err != nil || patch == nil {
		return nil, err
	}
	pod, err := m.Client.CoreV1().Pods(w.target.Namespace).Patch(ctx, w.target.Name,
		types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return nil, fmt.Errorf("patch status of %s/%s: %w", w.target.Namespace, w.target.Name, err)
	}
	m.Logger.Debug("pod status written", "pod", w.target.Namespace+"/"+w.target.Name, "phase", pod.Status.Phase)
	return &pod.Status, nil
}

// delete removes the object. The UID guards a new Pod of the same name.
func (m *Manager) delete(ctx context.Context, uid types.UID, w work) error {
	err := m.Client.CoreV1().Pods(w.pod.Namespace).Delete(ctx, w.pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr.To[int64](0),
		Preconditions:      &metav1.Preconditions{UID: &w.pod.UID},
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete %s/%s: %w", w.pod.Namespace, w.pod.Name, err)
	}
	m.Logger.Info("pod deleted", "pod", w.pod.Namespace+"/"+w.pod.Name, "uid", string(uid))
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.entries[uid]; e != nil {
		e.deleted = true
	}
	return nil
}

// own leaves only the conditions that are the kubelet's to write, so that a
// patch can never undo what somebody else wrote meanwhile.
func own(status corev1.PodStatus, base *corev1.PodStatus) corev1.PodStatus {
	scheduledThere := slices.ContainsFunc(base.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled })
	status.Conditions = slices.DeleteFunc(slices.Clone(status.Conditions), func(c corev1.PodCondition) bool {
		switch c.Type {
		case corev1.PodReady, corev1.ContainersReady, corev1.PodInitialized, corev1.PodReadyToStartContainers,
			corev1.PodResizePending, corev1.PodResizeInProgress:
			return false
		case corev1.DisruptionTarget:
			return c.Reason != corev1.PodReasonTerminationByKubelet
		case corev1.PodScheduled:
			return scheduledThere
		}
		return true
	})
	return status
}

// difference is a strategic merge patch from one status to the other; nil if
// they are equal. It names the UID, which the API checks.
func difference(uid types.UID, from, to corev1.PodStatus) ([]byte, error) {
	before, err := json.Marshal(corev1.Pod{Status: from})
	if err != nil {
		return nil, fmt.Errorf("encode old status: %w", err)
	}
	after, err := json.Marshal(corev1.Pod{Status: to})
	if err != nil {
		return nil, fmt.Errorf("encode new status: %w", err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("compare statuses: %w", err)
	}
	if string(patch) == "{}" {
		return nil, nil
	}
	var fields map[string]any
	if err := json.Unmarshal(patch, &fields); err != nil {
		return nil, fmt.Errorf("decode patch: %w", err)
	}
	fields["metadata"] = map[string]any{"uid": uid}
	return json.Marshal(fields)
}

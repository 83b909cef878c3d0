package podworker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/kubelet/checkpoint"
	"github.com/skeg-dev/skeg/kubelet/container"
)

// Pool is all Pods of the node. Its methods may be called before Run, and are
// safe for concurrent use.
type Pool struct {
	cfg *Config

	// mu guards everything below.
	mu      sync.Mutex
	ctx     context.Context // of Run; nil before
	workers map[types.UID]*worker
	// queued are Pods that wait for another one of the same name to be gone.
	queued map[types.UID]*corev1.Pod
	// known are the checkpoints no worker has taken yet.
	known map[types.UID]checkpoint.Record
	// seen is the first full list of the runtime, for workers made later.
	seen    map[types.UID][]container.Status
	synced  bool
	running sync.WaitGroup
	ready   chan struct{}
}

// NewPool makes a Pool.
func NewPool(cfg Config) *Pool {
	return &Pool{
		cfg: &cfg, workers: map[types.UID]*worker{}, queued: map[types.UID]*corev1.Pod{},
		known: map[types.UID]checkpoint.Record{}, seen: map[types.UID][]container.Status{}, ready: make(chan struct{}),
	}
}

// Run leads the Pods until ctx ends. Containers stay as they are then.
func (p *Pool) Run(ctx context.Context) error {
	records, err := p.cfg.Checkpoints.Load()
	if err != nil {
		p.cfg.Logger.Warn("loading checkpoints", "error", err)
	}
	events := p.cfg.Runtime.Subscribe(ctx)
	first, err := firstFull(ctx, events)
	if err != nil {
		return err
	}
	p.open(ctx, records, first)
	for event := range events {
		p.dispatch(event)
	}
	p.mu.Lock()
	p.ctx = nil
	p.mu.Unlock()
	p.running.Wait()
	return nil
}

// Ready is nil once the runtime's containers are known.
func (p *Pool) Ready() error {
	select {
	case <-p.ready:
		return nil
	default:
		return fmt.Errorf("containers of the node are not known yet")
	}
}

func firstFull(ctx context.Context, events <-chan container.Event) (container.Event, error) {
	for event := range events {
		if event.Full != nil {
			return event, nil
		}
	}
	if ctx.Err() != nil {
		return container.Event{}, nil
	}
	return container.Event{}, fmt.Errorf("the container runtime's events ended")
}

// open starts the workers once it is known what runs.
func (p *Pool) open(ctx context.Context, records []checkpoint.Record, first container.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	p.ctx = ctx
	for _, record := range records {
		p.known[record.Pod.UID] = record
		if record.Final == nil {
			p.cfg.Restore(record.Pod)
		}
	}
	for _, sandbox := range first.Full {
		p.seen[sandbox.Pod] = sandbox.Containers
	}
	close(p.ready)
	for _, w := range p.workers {
		p.launch(w)
	}
	if p.synced {
		p.sweep()
	}
}

// launch gives a worker what is known of its Pod and starts it. mu is held.
func (p *Pool) launch(w *worker) {
	uid := w.uid
	record, known := p.known[uid]
	if known {
		delete(p.known, uid)
		w.restore(record)
	}
	if statuses, ok := p.seen[uid]; ok {
		delete(p.seen, uid)
		w.adopt(statuses)
	}
	ctx := p.ctx
	p.running.Add(1)
	go func() {
		defer p.running.Done()
		w.run(ctx)
		if ctx.Err() == nil {
			p.retire(w)
		}
	}()
}

// restore takes over from the worker before a kubelet restart.
func (w *worker) restore(record checkpoint.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !record.StartTime.IsZero() {
		w.startTime = record.StartTime
	}
	if record.Final != nil {
		w.final, w.reported = record.Final, *record.Final
		w.cfg.Status.Set(w.pod, *record.Final)
	}
	w.rebooted = record.BootID != w.cfg.BootID
}

// adopt takes containers that were there before the worker.
func (w *worker) adopt(statuses []container.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rebooted {
		return
	}
	for _, status := range statuses {
		w.merge(status, true)
	}
}

// retire removes a finished worker and lets a Pod of the same name in.
func (p *Pool) retire(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.workers, w.uid)
	for uid, pod := range p.queued {
		if pod.Namespace == w.namespace && pod.Name == w.name {
			delete(p.queued, uid)
			p.add(pod)
		}
	}
}

// Apply says that the Pod is wanted as it is in the object.
func (p *Pool) Apply(pod *corev1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.workers[pod.UID]
	if w == nil {
		p.add(pod)
		return
	}
	w.apply(pod)
}

// add makes a worker, unless another Pod of that name is still here. mu is held.
func (p *Pool) add(pod *corev1.Pod) {
	for _, other := range p.workers {
		if other.namespace == pod.Namespace && other.name == pod.Name {
			p.queued[pod.UID] = pod
			return
		}
	}
	w := newWorker(p.cfg, pod)
	p.workers[pod.UID] = w
	if p.ctx != nil {
		p.launch(w)
	}
}

func (w *worker) apply(pod *corev1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	// The kubelet's own status writes come back here too and change nothing.
	old := w.pod
	if pod.Generation != old.Generation || !maps.Equal(pod.Labels, old.Labels) || !maps.Equal(pod.Annotations, old.Annotations) {
		w.updated, w.refollow = true, true
	}
	if (pod.DeletionTimestamp == nil) != (old.DeletionTimestamp == nil) {
		w.refollow = true
	}
	w.pod = pod
	w.keepForeign(pod)
	w.poke()
}

// keepForeign takes over the conditions others wrote (readiness gates,
// PodScheduled), which the next status must keep.
func (w *worker) keepForeign(pod *corev1.Pod) {
	conditions := slices.Clone(w.reported.Conditions)
	for _, theirs := range pod.Status.Conditions {
		if isOwnCondition(theirs.Type) {
			continue
		}
		if ours := findCondition(conditions, theirs.Type); ours != nil {
			*ours = theirs
		} else {
			conditions = append(conditions, theirs)
		}
	}
	w.reported.Conditions = conditions
}

func isOwnCondition(kind corev1.PodConditionType) bool {
	switch kind {
	case corev1.PodReady, corev1.ContainersReady, corev1.PodInitialized, corev1.PodReadyToStartContainers:
		return true
	}
	return false
}

// Remove says that the Pod's object is gone.
func (p *Pool) Remove(pod *corev1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.queued, pod.UID)
	w := p.workers[pod.UID]
	if w == nil {
		return
	}
	w.mu.Lock()
	w.gone = true
	if pod.DeletionGracePeriodSeconds != nil {
		w.pod = pod
	}
	w.mu.Unlock()
	w.poke()
}

// Synced says that all wanted Pods have been applied: what else is on the
// node is taken down.
func (p *Pool) Synced() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.synced = true
	if p.ctx != nil {
		p.sweep()
	}
}

// sweep makes workers for leftovers, which end them. mu is held.
func (p *Pool) sweep() {
	for uid := range p.seen {
		if _, ok := p.known[uid]; !ok && p.workers[uid] == nil {
			p.known[uid] = checkpoint.Record{BootID: p.cfg.BootID, Pod: orphan(uid, p.seen[uid])}
		}
	}
	for uid, record := range p.known {
		if p.workers[uid] != nil {
			continue
		}
		p.cfg.Logger.Info("ending pod that is not wanted any more", "pod", record.Pod.Namespace+"/"+record.Pod.Name, "uid", string(uid))
		w := newWorker(p.cfg, record.Pod)
		w.gone = true
		p.workers[uid] = w
		p.launch(w)
	}
}

// orphan stands for a Pod of which only containers are known.
func orphan(uid types.UID, statuses []container.Status) *corev1.Pod {
	pod := &corev1.Pod{}
	pod.UID, pod.Name, pod.Namespace = uid, string(uid), "unknown"
	names := map[string]bool{}
	for _, status := range statuses {
		if !names[status.ID.Name] {
			names[status.ID.Name] = true
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: status.ID.Name})
		}
	}
	return pod
}

// Evict ends a Pod for the node's sake; false if it is not here or ending.
func (p *Pool) Evict(uid types.UID, reason, message string, grace time.Duration) bool {
	p.mu.Lock()
	w := p.workers[uid]
	p.mu.Unlock()
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != nil || w.final != nil {
		return false
	}
	now := w.cfg.Clock.Now()
	w.stop = &Termination{
		Since: now, Deadline: now.Add(grace), Phase: corev1.PodFailed,
		Reason: reason, Message: message, Disruption: message,
	}
	w.logger.Info("stopping pod", "reason", reason, "message", message)
	w.cfg.Recorder.Event(w.pod, "", corev1.EventTypeWarning, reason, message)
	w.poke()
	return true
}

// Wake makes a Pod's worker look again, as after a probe's result changed.
func (p *Pool) Wake(uid types.UID) {
	p.mu.Lock()
	w := p.workers[uid]
	p.mu.Unlock()
	if w != nil {
		w.poke()
	}
}

// Pods returns the Pods with their status as known here; the objects are the
// caller's.
func (p *Pool) Pods() []*corev1.Pod {
	p.mu.Lock()
	workers := make([]*worker, 0, len(p.workers))
	for _, w := range p.workers {
		workers = append(workers, w)
	}
	p.mu.Unlock()
	pods := make([]*corev1.Pod, 0, len(workers))
	for _, w := range workers {
		w.mu.Lock()
		pod := w.pod.DeepCopy()
		w.reported.DeepCopyInto(&pod.Status)
		w.mu.Unlock()
		pods = append(pods, pod)
	}
	return pods
}

// Place returns a Pod's surroundings as far as they are made; false if the
// Pod is not here. The value is read-only.
func (p *Pool) Place(uid types.UID) (NetNS string, found bool) {
	p.mu.Lock()
	w := p.workers[uid]
	p.mu.Unlock()
	if w == nil {
		return "", false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.place.NetNS, true
}

func (p *Pool) dispatch(event container.Event) {
	if event.Full == nil {
		p.mu.Lock()
		w := p.workers[event.Pod]
		p.mu.Unlock()
		if w != nil {
			w.observe(event.Status)
		}
		return
	}
	there := map[types.UID][]container.Status{}
	for _, sandbox := range event.Full {
		there[sandbox.Pod] = sandbox.Containers
	}
	p.mu.Lock()
	workers := make([]*worker, 0, len(p.workers))
	for _, w := range p.workers {
		workers = append(workers, w)
	}
	p.mu.Unlock()
	for _, w := range workers {
		w.replace(there[w.uid])
	}
}

// observe takes an event.
func (w *worker) observe(status container.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.final != nil {
		return
	}
	if w.observed[status.ID] == nil && w.superseded(status.ID) {
		return // a late word of an attempt that was removed
	}
	w.merge(status, true)
	w.poke()
}

func (w *worker) superseded(id container.ID) bool {
	for other := range w.observed {
		if other.Name == id.Name && other.Attempt > id.Attempt {
			return true
		}
	}
	return false
}

// replace takes a full list: what the runtime confirmed once and does not
// know any more has ended without a record.
func (w *worker) replace(statuses []container.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.final != nil {
		return
	}
	listed := map[container.ID]bool{}
	for _, status := range statuses {
		listed[status.ID] = true
		if w.observed[status.ID] != nil || !w.superseded(status.ID) {
			w.merge(status, true)
		}
	}
	for id, seen := range w.observed {
		if seen.confirmed && !listed[id] && seen.status.State != container.Exited {
			status := seen.status
			status.State, status.ExitCode, status.Reason = container.Exited, killedExitCode, "ContainerStatusUnknown"
			status.FinishedAt = w.cfg.Clock.Now()
			status.Message = "The container could not be located when the pod was terminated"
			seen.status = status
		}
	}
	w.poke()
}

func sortAttempts(attempts []container.Status) {
	slices.SortFunc(attempts, func(a, b container.Status) int { return a.ID.Attempt - b.ID.Attempt })
}

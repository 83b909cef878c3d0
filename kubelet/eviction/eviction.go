// Package eviction keeps the node from running out of memory, disk and
// process numbers: it watches what is left, reports pressure, has unused
// images removed, and as the last means ends Pods, the least important first.
// The node's status reads Pressure; app/ hands in the rest. Goroutines: none
// but Run's own.
package eviction

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

// Signal names something that can run short.
type Signal string

// The signals, by upstream's names.
const (
	MemoryAvailable   Signal = "memory.available"
	NodeFSAvailable   Signal = "nodefs.available"
	NodeFSInodesFree  Signal = "nodefs.inodesFree"
	ImageFSAvailable  Signal = "imagefs.available"
	ImageFSInodesFree Signal = "imagefs.inodesFree"
	PIDAvailable      Signal = "pid.available"
)

// Known reports whether there is such a signal.
func (s Signal) Known() bool {
	switch s {
	case MemoryAvailable, NodeFSAvailable, NodeFSInodesFree, ImageFSAvailable, ImageFSInodesFree, PIDAvailable:
		return true
	}
	return false
}

// resource is what texts call it.
func (s Signal) resource() string {
	switch s {
	case MemoryAvailable:
		return "memory"
	case NodeFSInodesFree, ImageFSInodesFree:
		return "inodes"
	case PIDAvailable:
		return "pids"
	default:
		return "ephemeral-storage"
	}
}

func (s Signal) condition() corev1.NodeConditionType {
	switch s {
	case MemoryAvailable:
		return corev1.NodeMemoryPressure
	case PIDAvailable:
		return corev1.NodePIDPressure
	default:
		return corev1.NodeDiskPressure
	}
}

// Threshold is how little of a signal is too little: an amount or, if not 0, a
// percentage of all there is.
type Threshold struct {
	Signal  Signal
	Amount  int64
	Percent float64
}

// Value is the amount, for a capacity.
func (t Threshold) Value(capacity int64) int64 {
	if t.Percent > 0 {
		return int64(float64(capacity) * t.Percent / 100)
	}
	return t.Amount
}

// Level is how much of a signal is left of how much.
type Level struct {
	Available, Capacity int64
}

// Usage is what a Pod takes.
type Usage struct {
	MemoryBytes, DiskBytes, PIDs int64
}

// Config of a Manager; all fields but Evicted are required.
type Config struct {
	Thresholds []Threshold
	// Observe reads all signals.
	Observe func() (map[Signal]Level, error)
	// Pods are those of the node; Usage is what one takes.
	Pods  func() []*corev1.Pod
	Usage func(context.Context, types.UID) (Usage, error)
	// Evict ends a Pod; false if that is under way already.
	Evict func(uid types.UID, reason, message string, grace time.Duration) bool
	// Evicted is told the signal a Pod was ended for; nil for nobody.
	Evicted func(Signal)
	// ReclaimDisk removes what nothing needs (unused images).
	ReclaimDisk func(context.Context) error
	// Changed is called when the pressure has changed.
	Changed func()
	Clock   clock.WithTicker
	Logger  *slog.Logger
}

// Manager watches the node. Its methods are safe for concurrent use.
type Manager struct {
	cfg Config

	mu sync.Mutex
	// seen is when each pressure was last observed; guarded by mu.
	seen map[corev1.NodeConditionType]time.Time
}

// New makes a Manager.
func New(cfg Config) *Manager {
	return &Manager{cfg: cfg, seen: map[corev1.NodeConditionType]time.Time{}}
}

const (
	// interval is how often the node is looked at (upstream's monitoring interval).
	interval = 10 * time.Second
	// settle is how long a pressure must be over before it is taken back, so
	// that the node does not swing (upstream's eviction-pressure-transition-period).
	settle = 5 * time.Minute
)

// Pressure tells whether the node is short of what the condition names.
func (m *Manager) Pressure(kind corev1.NodeConditionType) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.seen[kind]
	return ok && m.cfg.Clock.Since(at) < settle
}

// Run watches until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	ticker := m.cfg.Clock.NewTicker(interval)
	defer ticker.Stop()
	for {
		if err := m.sync(ctx); err != nil && ctx.Err() == nil {
			m.cfg.Logger.Warn("watching node resources", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
	}
}

func (m *Manager) sync(ctx context.Context) error {
	exceeded, levels, err := m.exceeded()
	if err != nil {
		return err
	}
	m.note(exceeded)
	if len(exceeded) == 0 {
		return nil
	}
	if slices.ContainsFunc(exceeded, func(t Threshold) bool { return t.Signal.condition() == corev1.NodeDiskPressure }) {
		if err := m.cfg.ReclaimDisk(ctx); err != nil {
			m.cfg.Logger.Warn("removing unused images", "error", err)
		}
		if exceeded, levels, err = m.exceeded(); err != nil || len(exceeded) == 0 {
			return err
		}
	}
	m.evictOne(ctx, exceeded[0], levels[exceeded[0].Signal])
	return nil
}

// exceeded returns the crossed thresholds, memory first.
func (m *Manager) exceeded() ([]Threshold, map[Signal]Level, error) {
	levels, err := m.cfg.Observe()
	if err != nil {
		return nil, nil, fmt.Errorf("observe: %w", err)
	}
	var out []Threshold
	for _, t := range m.cfg.Thresholds {
		if level, ok := levels[t.Signal]; ok && level.Available < t.Value(level.Capacity) {
			out = append(out, t)
		}
	}
	slices.SortStableFunc(out, func(a, b Threshold) int {
		return boolInt(b.Signal == MemoryAvailable) - boolInt(a.Signal == MemoryAvailable)
	})
	return out, levels, nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (m *Manager) note(exceeded []Threshold) {
	now := m.cfg.Clock.Now()
	changed := false
	m.mu.Lock()
	for _, t := range exceeded {
		kind := t.Signal.condition()
		if at, ok := m.seen[kind]; !ok || now.Sub(at) >= settle {
			changed = true
			m.cfg.Logger.Warn("node is under pressure", "signal", t.Signal)
		}
		m.seen[kind] = now
	}
	for kind, at := range m.seen {
		if now.Sub(at) >= settle {
			delete(m.seen, kind)
			changed = true
		}
	}
	m.mu.Unlock()
	if changed {
		m.cfg.Changed()
	}
}

// evictOne ends the Pod that matters least; the next look sees if it helped.
func (m *Manager) evictOne(ctx context.Context, t Threshold, level Level) {
	for _, victim := range m.rank(ctx, t.Signal) {
		message := fmt.Sprintf("The node was low on resource: %s. Threshold quantity: %s, available: %s. ",
			t.Signal.resource(), quantity(t.Signal, t.Value(level.Capacity)), quantity(t.Signal, level.Available))
		// Hard thresholds leave no time.
		if m.cfg.Evict(victim.UID, "Evicted", message, 0) {
			m.cfg.Logger.Info("evicting pod", "pod", victim.Namespace+"/"+victim.Name, "signal", t.Signal)
			if m.cfg.Evicted != nil {
				m.cfg.Evicted(t.Signal)
			}
			return
		}
	}
}

func quantity(s Signal, value int64) string {
	format := resource.BinarySI
	switch s {
	case NodeFSInodesFree, ImageFSInodesFree, PIDAvailable:
		format = resource.DecimalSI
	}
	return resource.NewQuantity(value, format).String()
}

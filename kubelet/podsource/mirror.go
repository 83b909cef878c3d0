package podsource

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
)

// Annotations of Pods from files and of their mirrors.
const (
	annotationSource = "kubernetes.io/config.source"
	annotationHash   = "kubernetes.io/config.hash"
	annotationSeen   = "kubernetes.io/config.seen"
	annotationMirror = "kubernetes.io/config.mirror"
)

// MirrorConfig is what Mirrors need; all fields are required.
type MirrorConfig struct {
	Client kubernetes.Interface
	// Node is the node's object, owner of the mirrors.
	Node   func() (*corev1.Node, error)
	Clock  clock.Clock
	Logger *slog.Logger
	// Appeared is called with the UID of a Pod whose mirror is seen.
	Appeared func(static types.UID)
}

// Mirrors keeps an object in the API for each Pod from a file, so that users
// see it there. Its methods are safe for concurrent use.
type Mirrors struct {
	MirrorConfig

	mu sync.Mutex
	// wanted and there are guarded by mu; by "namespace/name".
	wanted, there map[string]*corev1.Pod
	kick          chan struct{}
}

// NewMirrors makes Mirrors without Pods.
func NewMirrors(config MirrorConfig) *Mirrors {
	return &Mirrors{
		MirrorConfig: config,
		wanted:       map[string]*corev1.Pod{}, there: map[string]*corev1.Pod{}, kick: make(chan struct{}, 1),
	}
}

func key(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

// Of returns the mirror of a Pod from a file; nil if there is none yet.
func (m *Mirrors) Of(static *corev1.Pod) *corev1.Pod {
	m.mu.Lock()
	defer m.mu.Unlock()
	mirror := m.there[key(static)]
	if mirror == nil || mirror.Annotations[annotationMirror] != static.Annotations[annotationHash] {
		return nil
	}
	return mirror
}

func (m *Mirrors) want(static *corev1.Pod) {
	m.change(func() { m.wanted[key(static)] = static })
}

func (m *Mirrors) unwant(static *corev1.Pod) {
	m.change(func() {
		if current := m.wanted[key(static)]; current != nil && current.UID == static.UID {
			delete(m.wanted, key(static))
		}
	})
}

func (m *Mirrors) seen(mirror *corev1.Pod) {
	m.change(func() { m.there[key(mirror)] = mirror })
	m.Appeared(types.UID(mirror.Annotations[annotationMirror]))
}

func (m *Mirrors) lost(mirror *corev1.Pod) {
	m.change(func() {
		if current := m.there[key(mirror)]; current != nil && current.UID == mirror.UID {
			delete(m.there, key(mirror))
		}
	})
}

func (m *Mirrors) change(do func()) {
	m.mu.Lock()
	do()
	m.mu.Unlock()
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// mirrorRetry spaces out tries while the API refuses or is away.
const mirrorRetry = 5 * time.Second

// Run creates and deletes mirrors until ctx ends.
func (m *Mirrors) Run(ctx context.Context) error {
	for {
		var again <-chan time.Time
		if err := m.sync(ctx); err != nil && ctx.Err() == nil {
			m.Logger.Warn("keeping mirror pods", "error", err)
			timer := m.Clock.NewTimer(mirrorRetry)
			again = timer.C()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.kick:
		case <-again:
		}
	}
}

func (m *Mirrors) sync(ctx context.Context) error {
	m.mu.Lock()
	wanted, there := maps.Clone(m.wanted), maps.Clone(m.there)
	m.mu.Unlock()
	for name, mirror := range there {
		static := wanted[name]
		if static != nil && static.Annotations[annotationHash] == mirror.Annotations[annotationMirror] && mirror.DeletionTimestamp == nil {
			delete(wanted, name)
			continue
		}
		if err := m.delete(ctx, mirror); err != nil {
			return err
		}
		delete(wanted, name) // created once the old one is seen to be gone
	}
	for _, static := range wanted {
		if err := m.create(ctx, static); err != nil {
			return err
		}
	}
	return nil
}

func (m *Mirrors) delete(ctx context.Context, mirror *corev1.Pod) error {
	err := m.Client.CoreV1().Pods(mirror.Namespace).Delete(ctx, mirror.Name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr.To[int64](0), Preconditions: &metav1.Preconditions{UID: &mirror.UID},
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete mirror pod %s: %w", key(mirror), err)
	}
	return nil
}

func (m *Mirrors) create(ctx context.Context, static *corev1.Pod) error {
	node, err := m.Node()
	if err != nil {
		return fmt.Errorf("read own node: %w", err)
	}
	mirror := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: static.Namespace, Name: static.Name, Labels: static.Labels,
			Annotations: maps.Clone(static.Annotations),
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID, Controller: ptr.To(true),
			}},
		},
		Spec: *static.Spec.DeepCopy(),
	}
	mirror.Annotations[annotationMirror] = static.Annotations[annotationHash]
	_, err = m.Client.CoreV1().Pods(mirror.Namespace).Create(ctx, mirror, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create mirror pod %s: %w", key(mirror), err)
	}
	return nil
}

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
)

// Lease is the node's heartbeat: an object in kube-node-lease renewed every
// quarter of its duration.
type Lease struct {
	// Client should have a timeout of its own and no rate limit.
	Client kubernetes.Interface
	Name   string
	// Duration is after how long the node is taken for lost.
	Duration time.Duration
	// Owner is the Node's object.
	Owner  func() (*corev1.Node, error)
	Clock  clock.WithTicker
	Logger *slog.Logger

	held atomic.Bool
	// last is the lease as last written; only Run uses it.
	last *coordinationv1.Lease
}

// Ready is nil once the lease was renewed.
func (l *Lease) Ready() error {
	if !l.held.Load() {
		return errors.New("node lease is not held yet")
	}
	return nil
}

// Run renews until ctx ends.
func (l *Lease) Run(ctx context.Context) error {
	ticker := l.Clock.NewTicker(l.Duration / 4)
	defer ticker.Stop()
	retry := l.Clock.NewTimer(0)
	defer retry.Stop()
	for wait := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		case <-retry.C():
		}
		if err := l.renew(ctx); err != nil && ctx.Err() == nil {
			wait = min(max(2*wait, 100*time.Millisecond), l.Duration/4)
			l.Logger.Warn("renewing node lease", "error", err)
			retry.Reset(wait)
			continue
		}
		wait = 0
		l.held.Store(true)
	}
}

func (l *Lease) renew(ctx context.Context) error {
	leases := l.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	if l.last != nil {
		next := l.stamp(l.last)
		written, err := leases.Update(ctx, next, metav1.UpdateOptions{})
		if err == nil {
			l.last = written
			return nil
		}
		if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return fmt.Errorf("update lease: %w", err)
		}
		l.last = nil
	}
	existing, err := leases.Get(ctx, l.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		fresh := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: l.Name}}
		l.last, err = leases.Create(ctx, l.stamp(fresh), metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("create lease: %w", err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read lease: %w", err)
	}
	written, err := leases.Update(ctx, l.stamp(existing), metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("update lease: %w", err)
	}
	l.last = written
	return nil
}

func (l *Lease) stamp(lease *coordinationv1.Lease) *coordinationv1.Lease {
	next := lease.DeepCopy()
	next.Spec.HolderIdentity = &l.Name
	next.Spec.LeaseDurationSeconds = ptr.To(int32(l.Duration / time.Second))
	next.Spec.RenewTime = &metav1.MicroTime{Time: l.Clock.Now()}
	if len(next.OwnerReferences) == 0 {
		if owner, err := l.Owner(); err == nil && owner.UID != "" {
			next.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: owner.Name, UID: owner.UID}}
		}
	}
	return next
}

package nodelifecycle

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/retry"

	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// Run implements reconcile.Loop: it looks at all nodes each MonitorPeriod.
// Silence has no event, so this is a clock's work.
func (c *Controller) Run(ctx context.Context, _ reconcile.Queue) error {
	ticker := time.NewTicker(c.config.MonitorPeriod)
	defer ticker.Stop()
	for {
		if err := c.monitor(ctx, time.Now()); err != nil && ctx.Err() == nil {
			slog.Warn("node monitoring not finished, will retry", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// monitor judges every node, then every zone, then who is given up.
func (c *Controller) monitor(ctx context.Context, now time.Time) error {
	nodes, err := c.nodeLister.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b *corev1.Node) int { return cmp.Compare(a.Name, b.Name) })
	c.forget(nodes)
	for i, node := range nodes {
		s := c.seen[node.Name]
		if s == nil {
			s = &sighting{at: now}
			c.seen[node.Name] = s
			c.events.Eventf(nodeReference(node), corev1.EventTypeNormal, "RegisteredNode", "Node %s event: Registered Node %s in Controller", node.Name, node.Name)
		}
		s.look(node, c.lease(node.Name), now)
		if !s.silent(c.config, now) {
			continue
		}
		next := node.DeepCopy()
		if !markUnknown(next, now) {
			continue
		}
		written, err := c.client.CoreV1().Nodes().UpdateStatus(ctx, next, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			continue // it is alive after all, or gone: the next look tells
		}
		if err != nil {
			return fmt.Errorf("mark node %s unknown: %w", node.Name, err)
		}
		slog.Warn("node is silent", "node", node.Name, "since", s.at, "grace", c.config.GracePeriod)
		c.events.Eventf(nodeReference(node), corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: NodeNotReady", node.Name)
		nodes[i] = written
	}
	return c.giveUp(ctx, nodes, now)
}

// forget drops what is known of nodes that are gone.
func (c *Controller) forget(nodes []*corev1.Node) {
	there := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		there[n.Name] = true
	}
	for name := range c.seen {
		if !there[name] {
			delete(c.seen, name)
			slog.Info("node is gone", "node", name)
		}
	}
}

// giveUp taints lost nodes NoExecute at their zone's rate. With all zones lost
// nobody is given up, and who was is taken back.
func (c *Controller) giveUp(ctx context.Context, nodes []*corev1.Node, now time.Time) error {
	if c.zones.update(nodes) {
		slog.Info("nodes are back, everybody gets a new grace period")
		for _, s := range c.seen {
			s.at = now
		}
	}
	for _, node := range nodes {
		key := executeTaint(node)
		switch {
		case key == "":
		case c.zones.allLost:
			if err := c.changeTaints(ctx, node.Name, func(n *corev1.Node) bool {
				before := len(n.Spec.Taints)
				n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool {
					return t.Effect == corev1.TaintEffectNoExecute && readinessTaint(t.Key)
				})
				return len(n.Spec.Taints) != before
			}, node); err != nil {
				return err
			}
		case !hasTaint(node, key, corev1.TaintEffectNoExecute) && c.zones.allow(zoneOf(node)):
			slog.Warn("node is given up, pods that do not tolerate it will be evicted", "node", node.Name, "taint", key)
			if err := c.changeTaints(ctx, node.Name, func(n *corev1.Node) bool {
				if executeTaint(n) != key || hasTaint(n, key, corev1.TaintEffectNoExecute) {
					return false
				}
				n.Spec.Taints = append(n.Spec.Taints, newTaint(key, corev1.TaintEffectNoExecute, now))
				return true
			}, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// changeTaints applies change to the present node until it is written. known,
// when not nil, is tried first to save the request when nothing changes.
func (c *Controller) changeTaints(ctx context.Context, name string, change func(*corev1.Node) bool, known *corev1.Node) error {
	if known != nil && !change(known.DeepCopy()) {
		return nil
	}
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		node, err := c.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil || !change(node) {
			return err
		}
		_, err = c.client.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
		return err
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write taints of node %s: %w", name, err)
	}
	return nil
}

// nodeReference names a node in events the way kubelets do: UID = UID.
func nodeReference(node *corev1.Node) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}
}

// Package nodeipam gives every Node its pod CIDRs out of the cluster's.
// allocator.go keeps which are taken, rebuilt from the Nodes at start. app/
// lists it; it starts no goroutines of its own.
package nodeipam

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// Controller reconciles the pod CIDRs of Nodes.
type Controller struct {
	client kubernetes.Interface
	events record.EventRecorder
	nodes  cache.SharedIndexInformer
	lister corelisters.NodeLister

	mu sync.Mutex
	// pools, one a cluster CIDR, are guarded by mu; so is loaded.
	pools  []*pool
	loaded bool
}

// Range is one cluster CIDR and the length of the prefixes cut from it.
type Range struct {
	CIDR     netip.Prefix
	NodeMask int
}

// New returns the controller. Prefixes that overlap reserved (the Service
// ranges) are not given out.
func New(env reconcile.Env, ranges []Range, reserved []netip.Prefix) (*Controller, error) {
	c := &Controller{
		client: env.Client, events: env.Events("cidrAllocator"),
		nodes: env.Informers.Core().V1().Nodes().Informer(), lister: env.Informers.Core().V1().Nodes().Lister(),
	}
	for _, r := range ranges {
		p, err := newPool(r, reserved)
		if err != nil {
			return nil, err
		}
		c.pools = append(c.pools, p)
	}
	return c, nil
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "node-ipam-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{reconcile.On(c.nodes, func(q reconcile.Queue, old, now *corev1.Node) {
		if now == nil {
			c.release(old)
			return
		}
		q.Add(now.Name)
	})}
}

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	node, err := c.lister.Get(key)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	cidrs, err := c.take(node)
	if err != nil {
		c.events.Eventf(&corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID},
			corev1.EventTypeNormal, "CIDRNotAvailable", "Node %s status is now: CIDRNotAvailable", node.Name)
		return reconcile.Result{}, err
	}
	if cidrs == nil {
		return reconcile.Result{}, nil
	}
	if err := c.assign(ctx, node, cidrs); err != nil {
		return reconcile.Result{}, err
	}
	slog.Info("pod network assigned to node", "node", node.Name, "cidrs", cidrs)
	return reconcile.Result{}, nil
}

// take reserves a prefix of each pool for a node that has none; nil when it has.
func (c *Controller) take(node *corev1.Node) ([]netip.Prefix, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.load(); err != nil {
		return nil, err
	}
	if len(node.Spec.PodCIDRs) > 0 || node.Spec.PodCIDR != "" {
		c.markNode(node, true)
		return nil, nil
	}
	var taken []netip.Prefix
	for _, p := range c.pools {
		prefix, ok := p.take()
		if !ok {
			c.giveBack(taken)
			return nil, fmt.Errorf("assign a pod network to node %s: %s has none left", node.Name, p.cidr)
		}
		taken = append(taken, prefix)
	}
	return taken, nil
}

// load marks what the Nodes have, once, before the first assignment: after a
// restart nothing is given out twice. Caller holds mu.
func (c *Controller) load() error {
	if c.loaded {
		return nil
	}
	nodes, err := c.lister.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	for _, n := range nodes {
		c.markNode(n, true)
	}
	c.loaded = true
	return nil
}

// markNode marks the node's prefixes as taken or free. Caller holds mu.
func (c *Controller) markNode(node *corev1.Node, taken bool) {
	cidrs := node.Spec.PodCIDRs
	if len(cidrs) == 0 && node.Spec.PodCIDR != "" {
		cidrs = []string{node.Spec.PodCIDR}
	}
	for _, text := range cidrs {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			slog.Warn("pod network of node is not a prefix", "node", node.Name, "cidr", text, "err", err)
			continue
		}
		for _, p := range c.pools {
			p.mark(prefix.Masked(), taken)
		}
	}
}

func (c *Controller) release(node *corev1.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.markNode(node, false)
}

// giveBack frees prefixes that were taken and not assigned. Caller holds mu.
func (c *Controller) giveBack(prefixes []netip.Prefix) {
	for i, prefix := range prefixes {
		c.pools[i].mark(prefix, false)
	}
}

// assign writes the prefixes to the node, unless it got some in the meantime.
func (c *Controller) assign(ctx context.Context, node *corev1.Node, cidrs []netip.Prefix) error {
	texts := make([]string, len(cidrs))
	for i, p := range cidrs {
		texts[i] = p.String()
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": node.UID},
		"spec":     map[string]any{"podCIDR": texts[0], "podCIDRs": texts},
	})
	if err == nil {
		_, err = c.client.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	}
	if err == nil {
		return nil
	}
	// A timeout may hide a write that went through: only what the API says is free is free.
	present, getErr := c.client.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case apierrors.IsNotFound(getErr):
		c.giveBack(cidrs)
		return nil
	case getErr == nil:
		c.giveBack(cidrs)
		c.markNode(present, true)
	}
	return fmt.Errorf("write pod network of node: %w", err)
}

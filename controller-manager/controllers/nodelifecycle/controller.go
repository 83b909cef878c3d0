// Package nodelifecycle watches over the nodes: one that stops renewing its
// lease and posting its status becomes Ready=Unknown, its pods not ready; the
// conditions of nodes become taints; and nodes that stay away are tainted
// NoExecute, at a rate that depends on how much of their zone is lost, so that
// a broken network does not empty a cluster. health.go judges one node, zone.go
// zones, taint.go taints; all pure. Package tainteviction deletes the pods.
//
// app/ lists it. The Loop is the one goroutine that looks at all nodes.
package nodelifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	coordinationlisters "k8s.io/client-go/listers/coordination/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// Config is the timing. Zero values are replaced by Defaults.
type Config struct {
	// MonitorPeriod is the time between two looks at all nodes.
	MonitorPeriod time.Duration
	// GracePeriod is how long a node may be silent.
	GracePeriod time.Duration
	// StartupGracePeriod is how long a node that never reported may be silent.
	StartupGracePeriod time.Duration
	// EvictionRate and SecondaryRate are nodes a second that may get a
	// NoExecute taint in a healthy and in a large, partly lost zone.
	EvictionRate, SecondaryRate float64
	// LargeZone is how many nodes a zone needs for SecondaryRate, instead of none.
	LargeZone int
	// UnhealthyShare is the part of nodes from which a zone is partly lost.
	UnhealthyShare float64
}

// Defaults are those of upstream's flags.
func Defaults() Config {
	return Config{
		MonitorPeriod: 5 * time.Second, GracePeriod: 50 * time.Second, StartupGracePeriod: 60 * time.Second,
		EvictionRate: 0.1, SecondaryRate: 0.01, LargeZone: 50, UnhealthyShare: 0.55,
	}
}

// Controller reconciles nodes by name, and monitors them all in its Loop.
type Controller struct {
	client              kubernetes.Interface
	events              record.EventRecorder
	config              Config
	nodes, leases, pods cache.SharedIndexInformer
	nodeLister          corelisters.NodeLister
	leaseLister         coordinationlisters.LeaseLister

	// Owned by the Loop's goroutine.
	seen  map[string]*sighting
	zones *zones
}

// New returns the controller.
func New(env reconcile.Env, config Config) (*Controller, error) {
	core, leases := env.Informers.Core().V1(), env.Informers.Coordination().V1().Leases()
	c := &Controller{
		client: env.Client, events: env.Events("node-controller"), config: config,
		nodes: core.Nodes().Informer(), nodeLister: core.Nodes().Lister(),
		leases: leases.Informer(), leaseLister: leases.Lister(), pods: core.Pods().Informer(),
		seen: map[string]*sighting{}, zones: newZones(config),
	}
	return c, podcontrol.IndexByNode(c.pods)
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "node-lifecycle-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{
		reconcile.Self(c.nodes),
		reconcile.Reads(c.leases),
		// A pod that a cut-off node was running when its Ready condition turned.
		reconcile.On(c.pods, func(q reconcile.Queue, old, now *corev1.Pod) {
			if now != nil && now.Spec.NodeName != "" && podcontrol.Ready(now) && (old == nil || !podcontrol.Ready(old)) {
				if node, err := c.nodeLister.Get(now.Spec.NodeName); err == nil && unknownNode(node) {
					q.Add(now.Spec.NodeName)
				}
			}
		}),
	}
}

func unknownNode(node *corev1.Node) bool {
	ready := condition(node, corev1.NodeReady)
	return ready != nil && ready.Status == corev1.ConditionUnknown
}

// Reconcile implements reconcile.Reconciler: what follows from a node's
// conditions without regard to the other nodes.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	node, err := c.nodeLister.Get(key)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	next := node.DeepCopy()
	changed := syncLabels(next)
	if taints, differ := followConditions(next, time.Now()); differ {
		next.Spec.Taints, changed = taints, true
	}
	if changed {
		if _, err := c.client.CoreV1().Nodes().Update(ctx, next, metav1.UpdateOptions{}); err != nil {
			return reconcile.Result{}, fmt.Errorf("write taints of node: %w", err)
		}
	}
	if ready := condition(node, corev1.NodeReady); ready != nil && ready.Status != corev1.ConditionTrue {
		return reconcile.Result{}, c.markPodsNotReady(ctx, node)
	}
	return reconcile.Result{}, nil
}

// markPodsNotReady takes the pods of a lost node out of their Services. The
// kubelet reports them again when it is back.
func (c *Controller) markPodsNotReady(ctx context.Context, node *corev1.Node) error {
	pods, err := podcontrol.OnNode(c.pods, node.Name)
	if err != nil {
		return err
	}
	var errs []error
	for _, pod := range pods {
		if !podcontrol.Ready(pod) {
			continue
		}
		next := pod.DeepCopy()
		ready := podcontrol.Condition(next, corev1.PodReady)
		ready.Status, ready.LastTransitionTime = corev1.ConditionFalse, metav1.Now()
		_, err := c.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("mark pod %s not ready: %w", reconcile.KeyOf(pod), err))
			continue
		}
		c.events.Event(pod, corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
	}
	return errors.Join(errs...)
}

// lease returns the node's lease, nil if it has none.
func (c *Controller) lease(node string) *coordinationv1.Lease {
	lease, err := c.leaseLister.Leases(corev1.NamespaceNodeLease).Get(node)
	if err != nil {
		return nil
	}
	return lease
}

// syncLabels keeps the former names of the os and arch labels.
func syncLabels(node *corev1.Node) (changed bool) {
	for former, present := range map[string]string{
		"beta.kubernetes.io/os": corev1.LabelOSStable, "beta.kubernetes.io/arch": corev1.LabelArchStable,
	} {
		if value, ok := node.Labels[present]; ok && node.Labels[former] != value {
			node.Labels[former] = value
			changed = true
		}
	}
	return changed
}

// Package podgc deletes pods nobody else will: ended ones above a threshold,
// those of nodes that are gone, those that were told to go before they had a
// node, and those terminating on a node that was declared out of service.
// app/ lists it; it starts no goroutines of its own.
package podgc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

const (
	// period is the time between two sweeps (upstream gcCheckPeriod).
	period = 20 * time.Second
	// quarantine is how long a node must be missing before its pods are
	// orphans (upstream quarantineTime).
	quarantine = 40 * time.Second
	sweepKey   = "all"
)

// Controller sweeps all pods.
type Controller struct {
	client      kubernetes.Interface
	threshold   int
	pods, nodes cache.SharedIndexInformer
	podLister   corelisters.PodLister
	nodeLister  corelisters.NodeLister

	mu sync.Mutex
	// missing is guarded by mu: since when a node that pods name is unknown.
	missing map[string]time.Time
}

// New returns the controller. threshold is how many ended pods are kept
// (--terminated-pod-gc-threshold); 0 or less keeps all.
func New(env reconcile.Env, threshold int) *Controller {
	core := env.Informers.Core().V1()
	return &Controller{
		client: env.Client, threshold: threshold, missing: map[string]time.Time{},
		pods: core.Pods().Informer(), podLister: core.Pods().Lister(),
		nodes: core.Nodes().Informer(), nodeLister: core.Nodes().Lister(),
	}
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "pod-garbage-collector-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{
		reconcile.Reads(c.pods),
		reconcile.On(c.nodes, func(q reconcile.Queue, _, now *corev1.Node) {
			if now == nil {
				q.Add(sweepKey)
			}
		}),
	}
}

// StartKeys implements reconcile.Starter.
func (c *Controller) StartKeys() []string { return []string{sweepKey} }

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, _ string) (reconcile.Result, error) {
	again := reconcile.Result{RequeueAfter: period}
	pods, err := c.podLister.List(labels.Everything())
	if err != nil {
		return again, err
	}
	nodes, err := c.nodeLister.List(labels.Everything())
	if err != nil {
		return again, err
	}
	lost, err := c.lostNodes(ctx, pods, nodes)
	if err != nil {
		return again, err
	}
	var errs []error
	for _, v := range victims(pods, nodes, lost, c.threshold) {
		errs = append(errs, c.remove(ctx, v))
	}
	return again, errors.Join(errs...)
}

// lostNodes returns the nodes that pods name and that have not existed for the
// quarantine, asked once more at the API server.
func (c *Controller) lostNodes(ctx context.Context, pods []*corev1.Pod, nodes []*corev1.Node) (map[string]bool, error) {
	known := map[string]bool{}
	for _, n := range nodes {
		known[n.Name] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	named := map[string]bool{}
	for _, p := range pods {
		if name := p.Spec.NodeName; name != "" && !known[name] {
			named[name] = true
			if _, there := c.missing[name]; !there {
				c.missing[name] = time.Now()
			}
		}
	}
	lost := map[string]bool{}
	for name, since := range c.missing {
		switch {
		case !named[name]:
			delete(c.missing, name)
		case time.Since(since) >= quarantine:
			_, err := c.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				return nil, fmt.Errorf("look for node %s: %w", name, err)
			}
			lost[name] = err != nil
		}
	}
	return lost, nil
}

// victim is a pod to delete and why. reason "" leaves its status alone.
type victim struct {
	pod             *corev1.Pod
	why             string
	reason, message string
}

// victims decides which pods to delete.
func victims(pods []*corev1.Pod, nodes []*corev1.Node, lost map[string]bool, threshold int) []victim {
	outOfService := map[string]bool{}
	for _, n := range nodes {
		outOfService[n.Name] = !nodeReady(n) && slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
			return t.Key == corev1.TaintNodeOutOfService
		})
	}
	var gone []victim
	var ended []*corev1.Pod
	for _, pod := range pods {
		switch {
		case lost[pod.Spec.NodeName]:
			gone = append(gone, victim{pod, "node is gone", "DeletionByPodGC", "PodGC: node no longer exists"})
		case pod.DeletionTimestamp != nil && pod.Spec.NodeName == "":
			gone = append(gone, victim{pod: pod, why: "terminating without a node"})
		case pod.DeletionTimestamp != nil && outOfService[pod.Spec.NodeName]:
			gone = append(gone, victim{pod, "node is out of service", "DeletionByPodGC", "PodGC: node is out-of-service"})
		case podcontrol.Ended(pod):
			ended = append(ended, pod)
		}
	}
	if over := len(ended) - threshold; threshold > 0 && over > 0 {
		slices.SortFunc(ended, func(a, b *corev1.Pod) int {
			return cmp.Or(cmp.Compare(rank(b), rank(a)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
		for _, pod := range ended[:over] {
			gone = append(gone, victim{pod: pod, why: "too many ended pods"})
		}
	}
	return gone
}

// rank puts evicted pods before others that have ended.
func rank(pod *corev1.Pod) int {
	if pod.Status.Reason == "Evicted" {
		return 1
	}
	return 0
}

func nodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// remove deletes the pod at once; one that had not ended is marked failed first.
func (c *Controller) remove(ctx context.Context, v victim) error {
	pod := v.pod
	if !podcontrol.Ended(pod) && v.reason != "" {
		if err := c.fail(ctx, v); err != nil {
			return err
		}
	}
	slog.Info("pod garbage collected", "pod", pod.Namespace+"/"+pod.Name, "uid", pod.UID, "reason", v.why)
	err := c.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr.To[int64](0), Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete pod %s: %w", reconcile.KeyOf(pod), err)
	}
	return nil
}

func (c *Controller) fail(ctx context.Context, v victim) error {
	next := v.pod.DeepCopy()
	next.Status.Phase = corev1.PodFailed
	podcontrol.SetCondition(next, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: v.reason, Message: v.message,
	}, time.Now())
	_, err := c.client.CoreV1().Pods(next.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("mark pod %s failed: %w", reconcile.KeyOf(next), err)
	}
	return nil
}

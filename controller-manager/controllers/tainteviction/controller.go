// Package tainteviction deletes pods from nodes with NoExecute taints that
// they do not tolerate, or not for this long. deadline.go decides when. app/
// lists it; it starts no goroutines of its own.
package tainteviction

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// Controller reconciles pods on tainted nodes.
type Controller struct {
	client      kubernetes.Interface
	events      record.EventRecorder
	pods, nodes cache.SharedIndexInformer
	podLister   corelisters.PodLister
	nodeLister  corelisters.NodeLister
}

// New returns the controller.
func New(env reconcile.Env) (*Controller, error) {
	core := env.Informers.Core().V1()
	c := &Controller{
		client: env.Client, events: env.Events("taint-eviction-controller"),
		pods: core.Pods().Informer(), podLister: core.Pods().Lister(),
		nodes: core.Nodes().Informer(), nodeLister: core.Nodes().Lister(),
	}
	return c, podcontrol.IndexByNode(c.pods)
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "taint-eviction-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{
		reconcile.On(c.pods, func(q reconcile.Queue, old, now *corev1.Pod) {
			if now == nil || now.Spec.NodeName == "" {
				return
			}
			if old == nil || old.Spec.NodeName != now.Spec.NodeName || !equality.Semantic.DeepEqual(old.Spec.Tolerations, now.Spec.Tolerations) {
				q.Add(reconcile.KeyOf(now))
			}
		}),
		reconcile.On(c.nodes, func(q reconcile.Queue, old, now *corev1.Node) {
			if now == nil || (old != nil && equality.Semantic.DeepEqual(noExecute(old), noExecute(now))) || len(noExecute(now)) == 0 {
				return
			}
			pods, err := podcontrol.OnNode(c.pods, now.Name)
			if err != nil {
				return
			}
			for _, pod := range pods {
				q.Add(reconcile.KeyOf(pod))
			}
		}),
	}
}

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read key: %w", err)
	}
	pod, err := c.podLister.Pods(namespace).Get(name)
	if apierrors.IsNotFound(err) || (err == nil && (pod.DeletionTimestamp != nil || podcontrol.Ended(pod))) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	node, err := c.nodeLister.Get(pod.Spec.NodeName)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	at, evicted := deadline(pod, noExecute(node), time.Now())
	if !evicted {
		return reconcile.Result{}, nil
	}
	if wait := time.Until(at); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	return reconcile.Result{}, c.evict(ctx, pod)
}

func (c *Controller) evict(ctx context.Context, pod *corev1.Pod) error {
	next := pod.DeepCopy()
	if podcontrol.SetCondition(next, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason: "DeletionByTaintManager", Message: "Taint manager: deleting due to NoExecute taint",
	}, time.Now()) {
		_, err := c.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("mark pod as disrupted: %w", err)
		}
	}
	slog.Warn("evicting pod from tainted node", "pod", reconcile.KeyOf(pod), "uid", pod.UID, "node", pod.Spec.NodeName)
	c.events.Eventf(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s", reconcile.KeyOf(pod))
	err := c.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete pod: %w", err)
	}
	return nil
}

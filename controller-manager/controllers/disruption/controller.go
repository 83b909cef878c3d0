// Package disruption keeps the status of PodDisruptionBudgets: how many of
// their pods are healthy and how many may be evicted now, which is what the
// API server's eviction asks. expect.go computes how many pods there should
// be. app/ lists it; it starts no goroutines of its own.
package disruption

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	policylisters "k8s.io/client-go/listers/policy/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// disruptedTimeout is how long an evicted pod that is still there counts as
// going (upstream DeletionTimeout).
const disruptedTimeout = 2 * time.Minute

// Controller reconciles PodDisruptionBudgets.
type Controller struct {
	client        kubernetes.Interface
	events        record.EventRecorder
	informers     informers.SharedInformerFactory
	budgets, pods cache.SharedIndexInformer
	lister        policylisters.PodDisruptionBudgetLister
	podLister     corelisters.PodLister
}

// New returns the controller.
func New(env reconcile.Env) *Controller {
	budgets, pods := env.Informers.Policy().V1().PodDisruptionBudgets(), env.Informers.Core().V1().Pods()
	return &Controller{
		client: env.Client, events: env.Events("controllermanager"), informers: env.Informers,
		budgets: budgets.Informer(), lister: budgets.Lister(), pods: pods.Informer(), podLister: pods.Lister(),
	}
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "disruption-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	apps := c.informers.Apps().V1()
	return []reconcile.Watch{
		reconcile.Self(c.budgets),
		reconcile.On(c.pods, func(q reconcile.Queue, old, now *corev1.Pod) {
			for _, pod := range []*corev1.Pod{old, now} {
				if pod != nil {
					c.matching(q, pod)
				}
			}
		}),
		reconcile.Reads(apps.ReplicaSets().Informer()),
		reconcile.Reads(apps.Deployments().Informer()),
		reconcile.Reads(apps.StatefulSets().Informer()),
		reconcile.Reads(c.informers.Core().V1().ReplicationControllers().Informer()),
	}
}

func (c *Controller) matching(q reconcile.Queue, pod *corev1.Pod) {
	all, err := c.lister.PodDisruptionBudgets(pod.Namespace).List(labels.Everything())
	if err != nil {
		return
	}
	for _, b := range all {
		if s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector); err == nil && s.Matches(labels.Set(pod.Labels)) {
			q.Add(reconcile.KeyOf(b))
		}
	}
}

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read key: %w", err)
	}
	budget, err := c.lister.PodDisruptionBudgets(namespace).Get(name)
	if apierrors.IsNotFound(err) || (err == nil && budget.DeletionTimestamp != nil) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
	if err != nil {
		return reconcile.Result{}, nil // refused by validation
	}
	pods, err := c.podLister.Pods(namespace).List(selector)
	if err != nil {
		return reconcile.Result{}, err
	}
	if len(pods) == 0 {
		c.events.Event(budget, corev1.EventTypeNormal, "NoPods", "No matching pods found")
	}
	next := budget.DeepCopy()
	recheck := time.Duration(0)
	expected, desired, err := c.expected(ctx, budget, pods)
	if err != nil {
		c.events.Eventf(budget, corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %v", err)
		next.Status.ObservedGeneration, next.Status.DisruptionsAllowed = budget.Generation, 0
		setAllowed(next, metav1.ConditionFalse, policyv1.SyncFailedReason, err.Error())
	} else {
		recheck = fill(next, pods, expected, desired, time.Now())
	}
	if equality.Semantic.DeepEqual(budget.Status, next.Status) {
		return reconcile.Result{RequeueAfter: recheck}, nil
	}
	if _, err := c.client.PolicyV1().PodDisruptionBudgets(namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{}); err != nil {
		return reconcile.Result{}, fmt.Errorf("write status: %w", err)
	}
	return reconcile.Result{RequeueAfter: recheck}, nil
}

// fill computes the status; it returns when an entry of disruptedPods runs out.
func fill(budget *policyv1.PodDisruptionBudget, pods []*corev1.Pod, expected, desired int32, now time.Time) (recheck time.Duration) {
	disrupted := map[string]metav1.Time{}
	healthy := int32(0)
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil {
			continue
		}
		at, evicted := budget.Status.DisruptedPods[pod.Name]
		if evicted {
			if left := at.Add(disruptedTimeout).Sub(now); left > 0 {
				disrupted[pod.Name] = at
				if recheck == 0 || left < recheck {
					recheck = left
				}
				continue
			}
		}
		if podcontrol.Ready(pod) && pod.Status.Phase == corev1.PodRunning {
			healthy++
		}
	}
	allowed := max(healthy-desired, 0)
	if expected == 0 {
		allowed = 0
	}
	s := &budget.Status
	s.CurrentHealthy, s.DesiredHealthy, s.ExpectedPods, s.DisruptionsAllowed = healthy, desired, expected, allowed
	s.ObservedGeneration = budget.Generation
	if len(disrupted) > 0 || len(s.DisruptedPods) > 0 {
		s.DisruptedPods = disrupted
	}
	if allowed > 0 {
		setAllowed(budget, metav1.ConditionTrue, policyv1.SufficientPodsReason, "")
	} else {
		setAllowed(budget, metav1.ConditionFalse, policyv1.InsufficientPodsReason, "")
	}
	return recheck
}

func setAllowed(budget *policyv1.PodDisruptionBudget, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&budget.Status.Conditions, metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: status, Reason: reason, Message: message, ObservedGeneration: budget.Generation,
	})
}

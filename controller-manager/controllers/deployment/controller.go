// Package deployment carries a Deployment from one pod template to the next by
// making, scaling and removing ReplicaSets: rolling update within maxSurge and
// maxUnavailable, recreate, pause, proportional scaling, rollback through the
// revisions kept, and the conditions that say how a rollout is doing. Deciding
// is pure (rolling.go, scale.go, progress.go, revision.go, status.go); this
// file and sets.go act. app/ lists it; it starts no goroutines of its own.
package deployment

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

var kindDeployment = appsv1.SchemeGroupVersion.WithKind("Deployment")

// Controller reconciles Deployments.
type Controller struct {
	client      kubernetes.Interface
	events      record.EventRecorder
	deployments cache.SharedIndexInformer
	sets        cache.SharedIndexInformer
	pods        cache.SharedIndexInformer
	lister      appslisters.DeploymentLister
}

// New returns the controller of Deployments.
func New(env reconcile.Env) (*Controller, error) {
	c := &Controller{
		client: env.Client, events: env.Events("deployment-controller"),
		deployments: env.Informers.Apps().V1().Deployments().Informer(),
		sets:        env.Informers.Apps().V1().ReplicaSets().Informer(),
		pods:        env.Informers.Core().V1().Pods().Informer(),
		lister:      env.Informers.Apps().V1().Deployments().Lister(),
	}
	for _, informer := range []cache.SharedIndexInformer{c.sets, c.pods} {
		if err := reconcile.IndexByOwner(informer); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "deployment-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{
		reconcile.Self(c.deployments),
		reconcile.On(c.sets, c.setEvent),
		// Only the end of a pod matters here: Recreate waits for it.
		reconcile.On(c.pods, func(q reconcile.Queue, old, now *corev1.Pod) {
			if now == nil {
				c.podGone(q, old)
			}
		}),
	}
}

func (c *Controller) setEvent(q reconcile.Queue, old, now *appsv1.ReplicaSet) {
	for _, rs := range []*appsv1.ReplicaSet{old, now} {
		if rs == nil {
			continue
		}
		if key := reconcile.OwnerKey(rs, kindDeployment.Kind); key != "" {
			q.Add(key)
		}
	}
	if now == nil || metav1.GetControllerOfNoCopy(now) != nil {
		return
	}
	all, err := c.lister.Deployments(now.Namespace).List(labels.Everything())
	if err != nil {
		return
	}
	for _, d := range all {
		selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
		if err == nil && !selector.Empty() && selector.Matches(labels.Set(now.Labels)) {
			q.Add(reconcile.KeyOf(d))
		}
	}
}

func (c *Controller) podGone(q reconcile.Queue, pod *corev1.Pod) {
	setKey := reconcile.OwnerKey(pod, "ReplicaSet")
	if setKey == "" {
		return
	}
	object, there, err := c.sets.GetIndexer().GetByKey(setKey)
	if err != nil || !there {
		return
	}
	if key := reconcile.OwnerKey(object, kindDeployment.Kind); key != "" {
		q.Add(key)
	}
}

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read key: %w", err)
	}
	cached, err := c.lister.Deployments(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	d := cached.DeepCopy()
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil || selector.Empty() {
		if err == nil {
			c.events.Event(d, corev1.EventTypeWarning, "SelectingAll", "This deployment is selecting all pods. A non-empty selector is required.")
		}
		return reconcile.Result{}, c.observe(ctx, d)
	}
	sets, err := c.ownSets(ctx, d, selector)
	if err != nil {
		return reconcile.Result{}, err
	}
	r := &rollout{c: c, d: d, sets: sets, now: time.Now()}
	if err := r.run(ctx); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: r.recheck}, nil
}

// observe records that the present generation was looked at, and no more.
func (c *Controller) observe(ctx context.Context, d *appsv1.Deployment) error {
	if d.Status.ObservedGeneration >= d.Generation {
		return nil
	}
	d.Status.ObservedGeneration = d.Generation
	if _, err := c.client.AppsV1().Deployments(d.Namespace).UpdateStatus(ctx, d, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

// ownSets returns the deployment's ReplicaSets, oldest first, as copies.
func (c *Controller) ownSets(ctx context.Context, d *appsv1.Deployment, selector labels.Selector) ([]*appsv1.ReplicaSet, error) {
	candidates, err := reconcile.Dependents[*appsv1.ReplicaSet](c.sets, d)
	if err != nil {
		return nil, err
	}
	owned, err := reconcile.Claim[*appsv1.ReplicaSet]{
		Owner: d, Kind: kindDeployment, Selector: selector,
		Fresh: func(ctx context.Context) (metav1.Object, error) {
			return c.client.AppsV1().Deployments(d.Namespace).Get(ctx, d.Name, metav1.GetOptions{})
		},
		Patch: func(ctx context.Context, rs *appsv1.ReplicaSet, kind types.PatchType, patch []byte) error {
			_, err := c.client.AppsV1().ReplicaSets(rs.Namespace).Patch(ctx, rs.Name, kind, patch, metav1.PatchOptions{})
			return err
		},
	}.Own(ctx, candidates)
	if err != nil {
		return nil, err
	}
	copies := make([]*appsv1.ReplicaSet, len(owned))
	for i, rs := range owned {
		copies[i] = rs.DeepCopy()
	}
	sortByAge(copies)
	return copies, nil
}

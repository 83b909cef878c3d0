// Package statefulset keeps the pods of a StatefulSet: numbered, with names,
// claims and order of their own. identity.go makes pods and claims, plan.go
// decides (pure) what one look does, status.go counts. app/ lists the
// controller; it starts no goroutines of its own.
package statefulset

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/controller-manager/history"
	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

var kindStatefulSet = appsv1.SchemeGroupVersion.WithKind("StatefulSet")

// Controller reconciles StatefulSets.
type Controller struct {
	client      kubernetes.Interface
	events      record.EventRecorder
	ctl         podcontrol.Control
	keeper      history.Keeper
	expect      reconcile.Expectations
	sets, pods  cache.SharedIndexInformer
	claims      cache.SharedIndexInformer
	lister      appslisters.StatefulSetLister
	claimLister corelisters.PersistentVolumeClaimLister
}

// New returns the controller.
func New(env reconcile.Env) (*Controller, error) {
	apps, core := env.Informers.Apps().V1(), env.Informers.Core().V1()
	events := env.Events("statefulset-controller")
	c := &Controller{
		client: env.Client, events: events, ctl: podcontrol.Control{Client: env.Client, Events: events},
		keeper: history.Keeper{Client: env.Client.AppsV1(), Revisions: apps.ControllerRevisions().Informer(), Kind: kindStatefulSet},
		sets:   apps.StatefulSets().Informer(), lister: apps.StatefulSets().Lister(), pods: core.Pods().Informer(),
		claims: core.PersistentVolumeClaims().Informer(), claimLister: core.PersistentVolumeClaims().Lister(),
	}
	return c, errors.Join(reconcile.IndexByOwner(c.pods), reconcile.IndexByOwner(c.keeper.Revisions))
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "statefulset-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{
		reconcile.Self(c.sets),
		reconcile.Reads(c.keeper.Revisions),
		reconcile.Reads(c.claims),
		reconcile.On(c.pods, func(q reconcile.Queue, old, now *corev1.Pod) {
			for _, pod := range []*corev1.Pod{old, now} {
				if pod == nil {
					continue
				}
				if owner := reconcile.OwnerKey(pod, kindStatefulSet.Kind); owner != "" {
					if now == nil || now.DeletionTimestamp != nil {
						c.expect.Deleted(owner, reconcile.KeyOf(pod))
					}
					if old == nil {
						c.expect.Created(owner, 1)
					}
					q.Add(owner)
				}
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
	cached, err := c.lister.StatefulSets(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		c.expect.Forget(key)
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	selector, err := metav1.LabelSelectorAsSelector(cached.Spec.Selector)
	if err != nil || selector.Empty() {
		return reconcile.Result{}, nil
	}
	set := cached.DeepCopy()
	fresh := func(ctx context.Context) (metav1.Object, error) {
		return c.client.AppsV1().StatefulSets(namespace).Get(ctx, name, metav1.GetOptions{})
	}
	current, update, revisions, err := c.revisions(ctx, set, selector, fresh)
	if err != nil {
		return reconcile.Result{}, err
	}
	settled := c.expect.Satisfied(key)
	pods, err := c.ownPods(ctx, set, selector, fresh)
	if err != nil {
		return reconcile.Result{}, err
	}
	p := newPlan(set, current, update, pods, time.Now())
	var workErr error
	if settled && set.DeletionTimestamp == nil {
		workErr = c.work(ctx, key, set, p)
	}
	if err := c.writeStatus(ctx, cached, p.status()); err != nil {
		return reconcile.Result{}, errors.Join(workErr, err)
	}
	if workErr == nil {
		workErr = c.keeper.Truncate(ctx, revisions, set.Spec.RevisionHistoryLimit, p.liveRevisions())
	}
	return reconcile.Result{RequeueAfter: p.recheck}, workErr
}

// revisions returns the revision that pods have, the one they should get, and all.
func (c *Controller) revisions(ctx context.Context, set *appsv1.StatefulSet, selector labels.Selector, fresh func(context.Context) (metav1.Object, error)) (current, update *appsv1.ControllerRevision, all []*appsv1.ControllerRevision, err error) {
	all, err = c.keeper.List(ctx, set, selector, fresh)
	if err != nil {
		return nil, nil, nil, err
	}
	data, err := history.Data(&set.Spec.Template)
	if err != nil {
		return nil, nil, nil, err
	}
	hash := history.Hash(data, set.Status.CollisionCount)
	marked := map[string]string{history.HashLabel: hash}
	for k, v := range set.Spec.Template.Labels {
		marked[k] = v
	}
	update, all, err = c.keeper.Present(ctx, all, history.Wanted{Owner: set, Data: data, Labels: marked, Name: set.Name + "-" + hash})
	if errors.Is(err, history.ErrCollision) {
		set.Status.CollisionCount = ptr.To(ptr.Deref(set.Status.CollisionCount, 0) + 1)
		_, updateErr := c.client.AppsV1().StatefulSets(set.Namespace).UpdateStatus(ctx, set, metav1.UpdateOptions{})
		return nil, nil, nil, errors.Join(err, updateErr)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	current = update
	for _, r := range all {
		if r.Name == set.Status.CurrentRevision {
			current = r
		}
	}
	return current, update, all, nil
}

func (c *Controller) ownPods(ctx context.Context, set *appsv1.StatefulSet, selector labels.Selector, fresh func(context.Context) (metav1.Object, error)) ([]*corev1.Pod, error) {
	candidates, err := reconcile.Dependents[*corev1.Pod](c.pods, set)
	if err != nil {
		return nil, err
	}
	return reconcile.Claim[*corev1.Pod]{
		Owner: set, Kind: kindStatefulSet, Selector: selector, Fresh: fresh, Patch: c.ctl.Patch,
		Adoptable: func(pod *corev1.Pod) bool { return ordinal(set, pod) >= 0 },
	}.Own(ctx, candidates)
}

// work does the steps of the plan.
func (c *Controller) work(ctx context.Context, key string, set *appsv1.StatefulSet, p *plan) error {
	steps, err := p.steps()
	if err != nil {
		return err
	}
	if _, err := reconcile.Parallel(len(steps.create), func(i int) error { return c.create(ctx, key, set, steps.create[i]) }); err != nil {
		return err
	}
	_, err = reconcile.Parallel(len(steps.remove), func(i int) error {
		pod := steps.remove[i]
		if pod.Status.Phase == corev1.PodFailed {
			c.events.Eventf(set, corev1.EventTypeWarning, "RecreatingFailedPod", "StatefulSet %s is recreating failed Pod %s", reconcile.KeyOf(set), pod.Name)
		}
		c.expect.ExpectDeletions(key, []string{reconcile.KeyOf(pod)})
		err := c.ctl.Delete(ctx, set, pod)
		if err != nil {
			c.expect.Deleted(key, reconcile.KeyOf(pod))
		}
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, pod := range steps.repair {
		if err := c.repair(ctx, set, pod); err != nil {
			return err
		}
	}
	return c.retainClaims(ctx, set, p)
}

// create makes the pod's claims, then the pod.
func (c *Controller) create(ctx context.Context, key string, set *appsv1.StatefulSet, pod *corev1.Pod) error {
	if err := c.ensureClaims(ctx, set, pod); err != nil {
		c.events.Eventf(set, corev1.EventTypeWarning, "FailedCreate", "create Claim for Pod %s in StatefulSet %s failed: %v", pod.Name, set.Name, err)
		return err
	}
	c.expect.ExpectCreations(key, 1)
	_, err := c.client.CoreV1().Pods(set.Namespace).Create(ctx, pod, metav1.CreateOptions{})
	if err == nil {
		c.events.Eventf(set, corev1.EventTypeNormal, "SuccessfulCreate", "create Pod %s in StatefulSet %s successful", pod.Name, set.Name)
		return nil
	}
	c.expect.Created(key, 1)
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) || apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create pod %s: %w", pod.Name, err)
	}
	c.events.Eventf(set, corev1.EventTypeWarning, "FailedCreate", "create Pod %s in StatefulSet %s failed error: %v", pod.Name, set.Name, err)
	return fmt.Errorf("create pod %s: %w", pod.Name, err)
}

// repair restores a pod's identity labels, and claims that were lost.
func (c *Controller) repair(ctx context.Context, set *appsv1.StatefulSet, pod *corev1.Pod) error {
	if err := c.ensureClaims(ctx, set, pod); err != nil {
		return err
	}
	next := pod.DeepCopy()
	if !label(set, next) {
		return nil
	}
	if _, err := c.client.CoreV1().Pods(pod.Namespace).Update(ctx, next, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("restore identity of pod %s: %w", pod.Name, err)
	}
	return nil
}

// ensureClaims makes the claims of the pod that do not exist.
func (c *Controller) ensureClaims(ctx context.Context, set *appsv1.StatefulSet, pod *corev1.Pod) error {
	for _, claim := range claims(set, pod) {
		there, err := c.claimLister.PersistentVolumeClaims(claim.Namespace).Get(claim.Name)
		if err == nil && there.DeletionTimestamp != nil {
			return fmt.Errorf("claim %s is being deleted", claim.Name)
		}
		if !apierrors.IsNotFound(err) {
			if err != nil {
				return err
			}
			continue
		}
		_, err = c.client.CoreV1().PersistentVolumeClaims(claim.Namespace).Create(ctx, claim, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create claim %s: %w", claim.Name, err)
		}
		if err == nil {
			c.events.Eventf(set, corev1.EventTypeNormal, "SuccessfulCreate", "create Claim %s Pod %s in StatefulSet %s success", claim.Name, pod.Name, set.Name)
		}
	}
	return nil
}

// retainClaims sets the owners of claims that the retention policy calls for.
func (c *Controller) retainClaims(ctx context.Context, set *appsv1.StatefulSet, p *plan) error {
	if set.Spec.PersistentVolumeClaimRetentionPolicy == nil || len(set.Spec.VolumeClaimTemplates) == 0 {
		return nil
	}
	for _, pod := range p.pods {
		for _, claim := range claims(set, pod) {
			there, err := c.claimLister.PersistentVolumeClaims(claim.Namespace).Get(claim.Name)
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return err
			}
			next := there.DeepCopy()
			if !retain(set, pod, next, p.condemned(pod)) {
				continue
			}
			if _, err := c.client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, next, metav1.UpdateOptions{}); err != nil {
				return fmt.Errorf("set owner of claim %s: %w", claim.Name, err)
			}
		}
	}
	return nil
}

func (c *Controller) writeStatus(ctx context.Context, set *appsv1.StatefulSet, status appsv1.StatefulSetStatus) error {
	if equality.Semantic.DeepEqual(set.Status, status) {
		return nil
	}
	next := set.DeepCopy()
	next.Status = status
	if _, err := c.client.AppsV1().StatefulSets(set.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

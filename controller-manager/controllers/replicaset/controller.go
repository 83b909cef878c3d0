// Package replicaset keeps the number of pods of a ReplicaSet, and of a
// ReplicationController, at what its spec says: creates missing pods in
// batches that grow while they succeed, deletes surplus ones in a fixed order
// of preference, adopts and releases pods by selector, and reports the counts
// in the status. app/ lists it; it starts no goroutines of its own.
package replicaset

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/controller-manager/podcontrol"
	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// burst is the most pods one reconcile creates or deletes (upstream BurstReplicas).
const burst = 500

// Controller reconciles one kind of replicated workload.
type Controller struct {
	kind   kind
	pods   cache.SharedIndexInformer
	expect *reconcile.Expectations
	ctl    podcontrol.Control
}

// New returns the controller of ReplicaSets.
func New(env reconcile.Env) (*Controller, error) {
	return build(env, replicaSets{
		client:   env.Client.AppsV1(),
		informer: env.Informers.Apps().V1().ReplicaSets().Informer(),
		lister:   env.Informers.Apps().V1().ReplicaSets().Lister(),
	})
}

// NewReplication returns the controller of ReplicationControllers.
func NewReplication(env reconcile.Env) (*Controller, error) {
	return build(env, replicationControllers{
		client:   env.Client.CoreV1(),
		informer: env.Informers.Core().V1().ReplicationControllers().Informer(),
		lister:   env.Informers.Core().V1().ReplicationControllers().Lister(),
	})
}

func build(env reconcile.Env, k kind) (*Controller, error) {
	pods := env.Informers.Core().V1().Pods().Informer()
	if err := reconcile.IndexByOwner(pods); err != nil {
		return nil, err
	}
	if err := reconcile.IndexByOwner(k.watch()); err != nil {
		return nil, err
	}
	return &Controller{
		kind: k, pods: pods, expect: &reconcile.Expectations{},
		ctl: podcontrol.Control{Client: env.Client, Events: env.Events(k.name())},
	}, nil
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return c.kind.name() }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{
		reconcile.Self(c.kind.watch()),
		reconcile.On(c.pods, c.podEvent),
	}
}

// podEvent settles expectations and queues whoever the pod matters to.
func (c *Controller) podEvent(q reconcile.Queue, old, now *corev1.Pod) {
	kindName := c.kind.gvk().Kind
	if old == nil && now.DeletionTimestamp == nil {
		if owner := reconcile.OwnerKey(now, kindName); owner != "" {
			c.expect.Created(owner, 1)
		}
	}
	for _, pod := range []*corev1.Pod{old, now} {
		if pod == nil {
			continue
		}
		owner := reconcile.OwnerKey(pod, kindName)
		if owner == "" {
			continue
		}
		if now == nil || now.DeletionTimestamp != nil {
			c.expect.Deleted(owner, reconcile.KeyOf(pod))
		}
		q.Add(owner)
	}
	if now != nil && metav1.GetControllerOfNoCopy(now) == nil && (old == nil || orphanChanged(old, now)) {
		for _, rs := range c.kind.matching(now) {
			q.Add(reconcile.KeyOf(rs))
		}
	}
}

func orphanChanged(old, now *corev1.Pod) bool {
	return metav1.GetControllerOfNoCopy(old) != nil || !mapsEqual(old.Labels, now.Labels)
}

func mapsEqual(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read key: %w", err)
	}
	rs, err := c.kind.cached(namespace, name)
	if apierrors.IsNotFound(err) {
		c.expect.Forget(key)
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil || selector.Empty() {
		return reconcile.Result{}, nil // refused by validation; nothing to select safely
	}
	settled := c.expect.Satisfied(key)
	all, err := reconcile.Dependents[*corev1.Pod](c.pods, rs)
	if err != nil {
		return reconcile.Result{}, err
	}
	candidates, terminating := split(all, rs)
	owned, err := reconcile.Claim[*corev1.Pod]{
		Owner: rs, Kind: c.kind.gvk(), Selector: selector,
		Fresh: func(ctx context.Context) (metav1.Object, error) { return c.kind.fresh(ctx, rs) },
		Patch: c.ctl.Patch,
	}.Own(ctx, candidates)
	if err != nil {
		return reconcile.Result{}, err
	}
	var manageErr error
	if settled && rs.DeletionTimestamp == nil {
		manageErr = c.manage(ctx, key, rs, owned)
	}
	status, wait := newStatus(rs, owned, terminating, manageErr, time.Now())
	if c.kind.gvk().Kind == "ReplicationController" {
		status.TerminatingReplicas = nil // that kind has no such field
	}
	if !statusEqual(rs, status) {
		if err := c.writeStatus(ctx, rs, status); err != nil {
			return reconcile.Result{}, errors.Join(manageErr, err)
		}
	}
	return reconcile.Result{RequeueAfter: wait}, manageErr
}

// split returns the pods that count or might be adopted, and how many of the
// set's own pods are on their way out.
func split(pods []*corev1.Pod, rs *appsv1.ReplicaSet) (active []*corev1.Pod, terminating int32) {
	for _, pod := range pods {
		switch {
		case podcontrol.Active(pod):
			active = append(active, pod)
		case podcontrol.Terminating(pod) && metav1.IsControlledBy(pod, rs):
			terminating++
		}
	}
	return active, terminating
}

// manage brings the number of pods to the wanted one.
func (c *Controller) manage(ctx context.Context, key string, rs *appsv1.ReplicaSet, pods []*corev1.Pod) error {
	missing := int(ptr.Deref(rs.Spec.Replicas, 1)) - len(pods)
	switch {
	case missing > 0:
		return c.create(ctx, key, rs, min(missing, burst))
	case missing < 0:
		return c.remove(ctx, key, rs, pods, min(-missing, burst))
	}
	return nil
}

func (c *Controller) create(ctx context.Context, key string, rs *appsv1.ReplicaSet, n int) error {
	owner := c.kind.owner(rs)
	ref := metav1.NewControllerRef(rs, c.kind.gvk())
	c.expect.ExpectCreations(key, n)
	done, err := reconcile.SlowStart(n, func(int) error {
		_, err := c.ctl.Create(ctx, owner, podcontrol.FromTemplate(&rs.Spec.Template, rs, ref))
		// The namespace is going away, and its pods with it.
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			c.expect.Created(key, 1)
			return nil
		}
		return err
	})
	c.expect.Created(key, n-done) // the ones that failed or were not tried
	return err
}

func (c *Controller) remove(ctx context.Context, key string, rs *appsv1.ReplicaSet, pods []*corev1.Pod, n int) error {
	victims := slices.Clone(pods)
	if n < len(victims) {
		related, err := c.relatedOnNodes(rs)
		if err != nil {
			return err
		}
		podcontrol.SortForDeletion(victims, func(p *corev1.Pod) int { return related[p.Spec.NodeName] }, time.Now())
		victims = victims[:n]
	}
	keys := make([]string, len(victims))
	for i, pod := range victims {
		keys[i] = reconcile.KeyOf(pod)
	}
	c.expect.ExpectDeletions(key, keys)
	owner := c.kind.owner(rs)
	_, err := reconcile.Parallel(len(victims), func(i int) error {
		err := c.ctl.Delete(ctx, owner, victims[i])
		if err == nil {
			return nil
		}
		c.expect.Deleted(key, keys[i])
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	return err
}

// relatedOnNodes counts, by node, the active pods of all sets that have the
// same controller: those of an old and a new revision stand in for each other.
func (c *Controller) relatedOnNodes(rs *appsv1.ReplicaSet) (map[string]int, error) {
	siblings := []metav1.Object{rs}
	if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
		all, err := reconcile.OwnedObjects[metav1.Object](c.kind.watch(), ref.UID)
		if err != nil {
			return nil, err
		}
		siblings = all
	}
	count := map[string]int{}
	for _, sibling := range siblings {
		pods, err := reconcile.OwnedObjects[*corev1.Pod](c.pods, sibling.GetUID())
		if err != nil {
			return nil, err
		}
		for _, pod := range pods {
			if podcontrol.Active(pod) {
				count[pod.Spec.NodeName]++
			}
		}
	}
	return count, nil
}

// writeStatus writes the status, once more on a conflict when the spec it was
// computed for is still the present one.
func (c *Controller) writeStatus(ctx context.Context, rs *appsv1.ReplicaSet, status appsv1.ReplicaSetStatus) error {
	status.ObservedGeneration = rs.Generation
	next := rs.DeepCopy()
	next.Status = status
	err := c.kind.putStatus(ctx, next)
	if !apierrors.IsConflict(err) {
		return err
	}
	fresh, getErr := c.kind.fresh(ctx, rs)
	if getErr != nil || fresh.UID != rs.UID || fresh.Generation != rs.Generation {
		return err
	}
	fresh.Status = status
	return c.kind.putStatus(ctx, fresh)
}

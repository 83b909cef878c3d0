// Package daemonset keeps one pod of every DaemonSet on every node that it
// fits. place.go decides which nodes and which pods, update.go which pods the
// rolling update replaces; both pure. app/ lists the controller; it starts no
// goroutines of its own.
package daemonset

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

const (
	// burst is the most pods one reconcile creates or deletes (upstream BurstReplicas).
	burst = 250
	// failedPause is the pause before a pod that failed is replaced.
	failedPause = time.Second
)

var kindDaemonSet = appsv1.SchemeGroupVersion.WithKind("DaemonSet")

// Controller reconciles DaemonSets.
type Controller struct {
	client     kubernetes.Interface
	events     record.EventRecorder
	ctl        podcontrol.Control
	keeper     history.Keeper
	expect     reconcile.Expectations
	sets       cache.SharedIndexInformer
	pods       cache.SharedIndexInformer
	nodes      cache.SharedIndexInformer
	lister     appslisters.DaemonSetLister
	nodeLister corelisters.NodeLister
}

// New returns the controller.
func New(env reconcile.Env) (*Controller, error) {
	apps, core := env.Informers.Apps().V1(), env.Informers.Core().V1()
	events := env.Events("daemonset-controller")
	c := &Controller{
		client: env.Client, events: events, ctl: podcontrol.Control{Client: env.Client, Events: events},
		keeper: history.Keeper{Client: env.Client.AppsV1(), Revisions: apps.ControllerRevisions().Informer(), Kind: kindDaemonSet},
		sets:   apps.DaemonSets().Informer(), lister: apps.DaemonSets().Lister(),
		pods: core.Pods().Informer(), nodes: core.Nodes().Informer(), nodeLister: core.Nodes().Lister(),
	}
	return c, errors.Join(reconcile.IndexByOwner(c.pods), reconcile.IndexByOwner(c.keeper.Revisions))
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "daemonset-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{
		reconcile.Self(c.sets),
		reconcile.Reads(c.keeper.Revisions),
		reconcile.On(c.pods, c.podEvent),
		reconcile.On(c.nodes, c.nodeEvent),
	}
}

func (c *Controller) podEvent(q reconcile.Queue, old, now *corev1.Pod) {
	if old == nil && now.DeletionTimestamp == nil {
		if owner := reconcile.OwnerKey(now, kindDaemonSet.Kind); owner != "" {
			c.expect.Created(owner, 1)
		}
	}
	for _, pod := range []*corev1.Pod{old, now} {
		if pod == nil {
			continue
		}
		if owner := reconcile.OwnerKey(pod, kindDaemonSet.Kind); owner != "" {
			if now == nil || now.DeletionTimestamp != nil {
				c.expect.Deleted(owner, reconcile.KeyOf(pod))
			}
			q.Add(owner)
		}
	}
}

// nodeEvent looks again at the sets for which the node's fitness may differ.
func (c *Controller) nodeEvent(q reconcile.Queue, old, now *corev1.Node) {
	if old != nil && now != nil && equality.Semantic.DeepEqual(old.Labels, now.Labels) &&
		equality.Semantic.DeepEqual(old.Spec.Taints, now.Spec.Taints) && old.Spec.Unschedulable == now.Spec.Unschedulable {
		return
	}
	all, err := c.lister.List(labels.Everything())
	if err != nil {
		return
	}
	for _, ds := range all {
		q.Add(reconcile.KeyOf(ds))
	}
}

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read key: %w", err)
	}
	cached, err := c.lister.DaemonSets(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		c.expect.Forget(key)
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	ds := cached.DeepCopy()
	selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil || selector.Empty() || ds.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	nodes, err := c.nodeLister.List(labels.Everything())
	if err != nil {
		return reconcile.Result{}, err
	}
	fresh := func(ctx context.Context) (metav1.Object, error) {
		return c.client.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
	}
	hash, revisions, err := c.revision(ctx, ds, selector, fresh)
	if err != nil {
		return reconcile.Result{}, err
	}
	settled := c.expect.Satisfied(key)
	pods, err := c.ownPods(ctx, ds, selector, fresh)
	if err != nil {
		return reconcile.Result{}, err
	}
	view := newView(ds, nodes, pods, hash, time.Now())
	var workErr error
	if settled {
		workErr = c.work(ctx, key, view)
	}
	if err := c.writeStatus(ctx, cached, view.status()); err != nil {
		return reconcile.Result{}, errors.Join(workErr, err)
	}
	if workErr == nil {
		workErr = c.keeper.Truncate(ctx, revisions, ds.Spec.RevisionHistoryLimit, view.liveRevisions())
	}
	return reconcile.Result{RequeueAfter: view.recheck}, workErr
}

// revision returns the hash of the present template, recorded as a revision.
func (c *Controller) revision(ctx context.Context, ds *appsv1.DaemonSet, selector labels.Selector, fresh func(context.Context) (metav1.Object, error)) (string, []*appsv1.ControllerRevision, error) {
	all, err := c.keeper.List(ctx, ds, selector, fresh)
	if err != nil {
		return "", nil, err
	}
	data, err := history.Data(&ds.Spec.Template)
	if err != nil {
		return "", nil, err
	}
	hash := podcontrol.TemplateHash(&ds.Spec.Template, ds.Status.CollisionCount)
	marked := maps.Clone(ds.Spec.Template.Labels)
	if marked == nil {
		marked = map[string]string{}
	}
	marked[appsv1.DefaultDaemonSetUniqueLabelKey] = hash
	present, all, err := c.keeper.Present(ctx, all, history.Wanted{Owner: ds, Data: data, Labels: marked, Name: ds.Name + "-" + hash})
	if errors.Is(err, history.ErrCollision) {
		ds.Status.CollisionCount = ptr.To(ptr.Deref(ds.Status.CollisionCount, 0) + 1)
		_, updateErr := c.client.AppsV1().DaemonSets(ds.Namespace).UpdateStatus(ctx, ds, metav1.UpdateOptions{})
		return "", nil, errors.Join(err, updateErr)
	}
	if err != nil {
		return "", nil, err
	}
	return present.Labels[appsv1.DefaultDaemonSetUniqueLabelKey], all, nil
}

func (c *Controller) ownPods(ctx context.Context, ds *appsv1.DaemonSet, selector labels.Selector, fresh func(context.Context) (metav1.Object, error)) ([]*corev1.Pod, error) {
	candidates, err := reconcile.Dependents[*corev1.Pod](c.pods, ds)
	if err != nil {
		return nil, err
	}
	return reconcile.Claim[*corev1.Pod]{
		Owner: ds, Kind: kindDaemonSet, Selector: selector, Fresh: fresh, Patch: c.ctl.Patch,
	}.Own(ctx, candidates)
}

// work creates and deletes pods: first for nodes, then for the rolling update.
func (c *Controller) work(ctx context.Context, key string, v *view) error {
	create, remove := v.place()
	for _, pod := range remove {
		if podcontrol.Ended(pod) && pod.Status.Phase == corev1.PodFailed {
			c.events.Eventf(v.ds, corev1.EventTypeWarning, "FailedDaemonPod",
				"Found failed daemon pod %s on node %s, will try to kill it", reconcile.KeyOf(pod), pod.Spec.NodeName)
		}
	}
	if len(create)+len(remove) == 0 && v.ds.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		create, remove = v.update()
	}
	create, remove = create[:min(len(create), burst)], remove[:min(len(remove), burst)]
	keys := make([]string, len(remove))
	for i, pod := range remove {
		keys[i] = reconcile.KeyOf(pod)
	}
	c.expect.ExpectCreations(key, len(create))
	c.expect.ExpectDeletions(key, keys)
	ref := metav1.NewControllerRef(v.ds, kindDaemonSet)
	template := podTemplate(v.ds, v.hash)
	done, createErr := reconcile.SlowStart(len(create), func(i int) error {
		pod := podcontrol.FromTemplate(template, v.ds, ref)
		pinTo(pod, create[i])
		_, err := c.ctl.Create(ctx, v.ds, pod)
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			c.expect.Created(key, 1)
			return nil
		}
		return err
	})
	c.expect.Created(key, len(create)-done)
	_, removeErr := reconcile.Parallel(len(remove), func(i int) error {
		err := c.ctl.Delete(ctx, v.ds, remove[i])
		if err == nil && remove[i].DeletionTimestamp == nil {
			return nil
		}
		c.expect.Deleted(key, keys[i])
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	return errors.Join(createErr, removeErr)
}

func (c *Controller) writeStatus(ctx context.Context, ds *appsv1.DaemonSet, status appsv1.DaemonSetStatus) error {
	if equality.Semantic.DeepEqual(ds.Status, status) {
		return nil
	}
	next := ds.DeepCopy()
	next.Status = status
	if _, err := c.client.AppsV1().DaemonSets(ds.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

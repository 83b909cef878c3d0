// Package namespace empties a Namespace that is being deleted – pods first,
// then every other kind the API server serves – says in its conditions what is
// left and why, and removes the finalizer when nothing is. app/ lists it; it
// starts no goroutines of its own.
package namespace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"

	"github.com/skeg-dev/skeg/controller-manager/apiresources"
	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// recheck is when to look again at content that is still there: its finalizers
// are removed by others, and kinds without an informer send no event.
const recheck = 2 * time.Second

// Controller reconciles terminating Namespaces.
type Controller struct {
	client           kubernetes.Interface
	content          metadata.Interface
	discover         func() ([]apiresources.Resource, map[string]error, error)
	namespaces, pods cache.SharedIndexInformer
	lister           corelisters.NamespaceLister
}

// New returns the controller.
func New(env reconcile.Env) *Controller {
	core := env.Informers.Core().V1()
	return &Controller{
		client: env.Client, content: env.Metadata,
		discover: func() ([]apiresources.Resource, map[string]error, error) {
			return apiresources.Discover(env.Client.Discovery())
		},
		namespaces: core.Namespaces().Informer(), lister: core.Namespaces().Lister(),
		pods: core.Pods().Informer(),
	}
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "namespace-controller" }

// Watches implements reconcile.Reconciler.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{
		reconcile.On(c.namespaces, func(q reconcile.Queue, _, now *corev1.Namespace) {
			if now != nil && now.DeletionTimestamp != nil {
				q.Add(now.Name)
			}
		}),
		// The last pod of a terminating namespace opens the way for the rest.
		reconcile.On(c.pods, func(q reconcile.Queue, old, now *corev1.Pod) {
			if now != nil {
				return
			}
			if ns, err := c.lister.Get(old.Namespace); err == nil && ns.DeletionTimestamp != nil {
				q.Add(ns.Name)
			}
		}),
	}
}

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	cached, err := c.lister.Get(key)
	if apierrors.IsNotFound(err) || (err == nil && cached.DeletionTimestamp == nil) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	ns, err := c.client.CoreV1().Namespaces().Get(ctx, key, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read namespace: %w", err)
	}
	if ns.DeletionTimestamp == nil || ns.UID != cached.UID || !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return reconcile.Result{}, nil
	}
	found := c.empty(ctx, ns)
	if err := c.report(ctx, ns, found); err != nil {
		return reconcile.Result{}, err
	}
	if err := found.err(); err != nil {
		return reconcile.Result{}, err
	}
	if found.left() {
		return reconcile.Result{RequeueAfter: recheck}, nil
	}
	return reconcile.Result{}, c.finalize(ctx, key)
}

// empty deletes what is in the namespace and returns what is still there.
func (c *Controller) empty(ctx context.Context, ns *corev1.Namespace) *findings {
	f := &findings{remaining: map[string]int{}, finalizers: map[string]int{}}
	all, failed, err := c.discover()
	if err != nil {
		f.discovery = append(f.discovery, err)
		return f
	}
	for group, cause := range failed {
		f.discovery = append(f.discovery, fmt.Errorf("group %q: %w", group, cause))
	}
	var pods, others []apiresources.Resource
	for _, r := range all {
		switch {
		case !r.Namespaced || !r.Can("delete", "list"):
		case r.Group == "" && r.Resource == "pods":
			pods = append(pods, r)
		default:
			others = append(others, r)
		}
	}
	// KEP-5080: nothing a running pod may depend on (policies, secrets) goes
	// before the last pod.
	for _, group := range [][]apiresources.Resource{pods, others} {
		for _, r := range group {
			if err := c.remove(ctx, ns.Name, r, f); err != nil {
				f.content = append(f.content, fmt.Errorf("%s: %w", r.GroupResource(), err))
			}
		}
		if f.left() || len(f.content) > 0 {
			break
		}
	}
	return f
}

// remove deletes the objects of one kind and counts those that stay.
func (c *Controller) remove(ctx context.Context, namespace string, r apiresources.Resource, f *findings) error {
	client := c.content.Resource(r.GroupVersionResource).Namespace(namespace)
	background := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{PropagationPolicy: &background}
	bulk := r.Can("deletecollection")
	if bulk {
		err := client.DeleteCollection(ctx, options, metav1.ListOptions{})
		if apierrors.IsMethodNotSupported(err) || apierrors.IsNotFound(err) {
			bulk = false
		} else if err != nil {
			return fmt.Errorf("delete collection: %w", err)
		}
	}
	list, err := client.List(ctx, metav1.ListOptions{})
	if apierrors.IsMethodNotSupported(err) || apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	var errs []error
	for i := range list.Items {
		if !bulk {
			err := client.Delete(ctx, list.Items[i].Name, options)
			if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsMethodNotSupported(err) {
				errs = append(errs, fmt.Errorf("delete %s: %w", list.Items[i].Name, err))
			}
		}
		f.remaining[resourceName(r)]++
		for _, finalizer := range list.Items[i].Finalizers {
			f.finalizers[finalizer]++
		}
	}
	return errors.Join(errs...)
}

// resourceName is resource.group as conditions show it.
func resourceName(r apiresources.Resource) string {
	return r.Resource + "." + r.Group
}

// finalize removes our finalizer, which lets the API server remove the object.
func (c *Controller) finalize(ctx context.Context, name string) error {
	ns, err := c.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read namespace: %w", err)
	}
	ns.Spec.Finalizers = slices.DeleteFunc(ns.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	if _, err := c.client.CoreV1().Namespaces().Finalize(ctx, ns, metav1.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("finalize namespace: %w", err)
	}
	slog.Info("namespace emptied and finalized", "namespace", name)
	return nil
}

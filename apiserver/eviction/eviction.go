// Package eviction answers pods/eviction: a delete that a PodDisruptionBudget
// may refuse. It is a handler.Action that app/ wires; it reads budgets and
// writes their status, and deletes through the handlers. It starts no
// goroutines.
package eviction

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// maxDisrupted bounds status.disruptedPods (upstream's MaxDisruptedPodSize).
const maxDisrupted = 2000

// processingRetry is the Retry-After of a budget whose controller is behind.
const processingRetry = 10

var budgets = schema.GroupResource{Group: policyv1.GroupName, Resource: "poddisruptionbudgets"}

// Deleter deletes a Pod as a user.
type Deleter interface {
	Delete(ctx context.Context, user authn.User, gvr schema.GroupVersionResource, namespace, name string, opts *metav1.DeleteOptions) error
}

// Action evicts Pods.
type Action struct {
	// Pods is the store of Pods; required.
	Pods store.Store
	// Budgets is the store of PodDisruptionBudgets; required.
	Budgets store.Store
	// Deleter is required.
	Deleter Deleter
}

// Act implements handler.Action.
func (a *Action) Act(ctx context.Context, req handler.ActionRequest) (runtime.Object, error) {
	eviction, ok := req.Object.(*policyv1.Eviction)
	if !ok {
		return nil, fmt.Errorf("evict pod: body is a %T", req.Object)
	}
	pod, ok := req.Parent.(*corev1.Pod)
	if !ok {
		return nil, apierrors.NewNotFound(corev1.Resource("pods"), req.Name)
	}
	opts := &metav1.DeleteOptions{}
	if eviction.DeleteOptions != nil {
		opts = eviction.DeleteOptions.DeepCopy()
	}
	if req.DryRun {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	if !free(pod) {
		guarded, err := a.reserve(ctx, pod, len(opts.DryRun) > 0)
		if err != nil {
			return nil, err
		}
		if !guarded {
			// Nothing was reserved because of the Pod's state: it must still be in it.
			requireVersion(opts, pod.ResourceVersion)
		}
	}
	if len(opts.DryRun) == 0 {
		if err := a.mark(ctx, pod, opts); err != nil {
			return nil, err
		}
	}
	if err := a.Deleter.Delete(ctx, req.User, corev1.SchemeGroupVersion.WithResource("pods"), pod.Namespace, pod.Name, opts); err != nil {
		return nil, err //nolint:wrapcheck // a Status
	}
	return &metav1.Status{Status: metav1.StatusSuccess}, nil
}

// mark tells on the Pod that it ends by an eviction, so that Jobs and people
// need not take its end for a failure of its own (KEP-3329). A Pod that goes
// at once is not marked.
func (a *Action) mark(ctx context.Context, pod *corev1.Pod, opts *metav1.DeleteOptions) error {
	if pod.DeletionTimestamp != nil || opts.GracePeriodSeconds != nil && *opts.GracePeriodSeconds == 0 {
		return nil
	}
	item, err := a.Pods.Update(ctx, pod.Namespace+"/"+pod.Name, func(current *store.Item) (resource.Object, error) {
		if current == nil {
			return nil, store.ErrNotFound
		}
		latest, ok := current.Object.DeepCopyObject().(*corev1.Pod)
		if !ok {
			return nil, fmt.Errorf("read pod: got a %T", current.Object)
		}
		if err := unchanged(latest, opts.Preconditions); err != nil {
			return nil, err
		}
		setDisrupted(latest)
		return latest, nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return apierrors.NewNotFound(corev1.Resource("pods"), pod.Name)
	}
	if err != nil {
		return err //nolint:wrapcheck // a Status, or mapped by the handler
	}
	if p := opts.Preconditions; p != nil && p.ResourceVersion != nil {
		version := item.Object.GetResourceVersion()
		p.ResourceVersion = &version // ours is the write since
	}
	return nil
}

// unchanged checks the preconditions of the delete to come.
func unchanged(pod *corev1.Pod, p *metav1.Preconditions) error {
	switch {
	case p == nil:
	case p.UID != nil && *p.UID != pod.UID:
		return apierrors.NewConflict(corev1.Resource("pods"), pod.Name, fmt.Errorf(
			"Precondition failed: UID in precondition: %v, UID in object meta: %v", *p.UID, pod.UID)) //nolint:staticcheck // upstream's text
	case p.ResourceVersion != nil && *p.ResourceVersion != pod.ResourceVersion:
		return apierrors.NewConflict(corev1.Resource("pods"), pod.Name, fmt.Errorf(
			"Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", *p.ResourceVersion, pod.ResourceVersion)) //nolint:staticcheck // upstream's text
	}
	return nil
}

// setDisrupted sets the condition DisruptionTarget.
func setDisrupted(pod *corev1.Pod) {
	condition := corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, ObservedGeneration: pod.Generation,
		Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting", LastTransitionTime: metav1.Now().Rfc3339Copy(),
	}
	for i := range pod.Status.Conditions {
		if old := &pod.Status.Conditions[i]; old.Type == condition.Type {
			if old.Status == condition.Status {
				condition.LastTransitionTime = old.LastTransitionTime
			}
			*old = condition
			return
		}
	}
	pod.Status.Conditions = append(pod.Status.Conditions, condition)
}

// free says that no budget protects the Pod: it does not serve anybody.
func free(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded ||
		pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodPending
}

func requireVersion(opts *metav1.DeleteOptions, version string) {
	if opts.Preconditions == nil {
		opts.Preconditions = &metav1.Preconditions{}
	}
	if opts.Preconditions.ResourceVersion == nil {
		opts.Preconditions.ResourceVersion = &version
	}
}

// reserve takes one disruption from the Pod's budget. guarded is false when
// the Pod has a budget that need not be asked.
func (a *Action) reserve(ctx context.Context, pod *corev1.Pod, dryRun bool) (guarded bool, err error) {
	budget, err := a.budgetOf(ctx, pod)
	if err != nil || budget == nil {
		return true, err
	}
	if !ready(pod) && unhealthyMayGo(budget) {
		return false, nil
	}
	change := func(current *store.Item) (resource.Object, error) {
		if current == nil {
			return nil, store.ErrNotFound
		}
		latest, ok := current.Object.DeepCopyObject().(*policyv1.PodDisruptionBudget)
		if !ok {
			return nil, fmt.Errorf("read budget: got a %T", current.Object)
		}
		return latest, take(latest, pod.Name)
	}
	key := budget.Namespace + "/" + budget.Name
	if dryRun {
		return true, take(budget, pod.Name)
	}
	if _, err := a.Budgets.Update(ctx, key, change); err != nil {
		return true, err //nolint:wrapcheck // a Status, or mapped by the handler
	}
	return true, nil
}

// budgetOf finds the Pod's budget (a private copy), nil for none.
func (a *Action) budgetOf(ctx context.Context, pod *corev1.Pod) (*policyv1.PodDisruptionBudget, error) {
	page, err := a.Budgets.List(ctx, store.Query{
		Prefix: pod.Namespace + "/", Consistency: store.Consistency{AtLeast: store.Latest},
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", budgets, err)
	}
	var found []*policyv1.PodDisruptionBudget
	for _, item := range page.Items {
		budget, ok := item.Object.(*policyv1.PodDisruptionBudget)
		if !ok {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
		if err == nil && selector.Matches(labels.Set(pod.Labels)) {
			found = append(found, budget)
		}
	}
	switch len(found) {
	case 0:
		return nil, nil //nolint:nilnil // as documented
	case 1:
		return found[0].DeepCopy(), nil
	}
	return nil, apierrors.NewInternalError(fmt.Errorf(
		"this pod has more than one PodDisruptionBudget, which the eviction subresource does not support"))
}

func ready(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// unhealthyMayGo says whether a Pod that is not ready may be evicted without
// asking (KEP-3017).
func unhealthyMayGo(b *policyv1.PodDisruptionBudget) bool {
	if policy := b.Spec.UnhealthyPodEvictionPolicy; policy != nil && *policy == policyv1.AlwaysAllow {
		return true
	}
	return b.Status.CurrentHealthy >= b.Status.DesiredHealthy && b.Status.DesiredHealthy > 0
}

// take takes one disruption for a Pod, or says why not.
func take(b *policyv1.PodDisruptionBudget, pod string) error {
	switch {
	case b.Status.ObservedGeneration < b.Generation:
		return refuse(processingRetry, "The disruption budget %s is still being processed by the server.", b.Name)
	case b.Status.DisruptionsAllowed < 0:
		return apierrors.NewForbidden(budgets, b.Name, fmt.Errorf("pdb disruptions allowed is negative"))
	case len(b.Status.DisruptedPods) > maxDisrupted:
		return apierrors.NewForbidden(budgets, b.Name, fmt.Errorf(
			"DisruptedPods map too big - too many evictions not confirmed by PDB controller")) //nolint:staticcheck // upstream's text
	case b.Status.DisruptionsAllowed == 0:
		return refuse(0, "The disruption budget %s needs %d healthy pods and has %d currently",
			b.Name, b.Status.DesiredHealthy, b.Status.CurrentHealthy)
	}
	b.Status.DisruptionsAllowed--
	if b.Status.DisruptedPods == nil {
		b.Status.DisruptedPods = map[string]metav1.Time{}
	}
	b.Status.DisruptedPods[pod] = metav1.Now()
	return nil
}

// refuse is the 429 that kubectl drain retries.
func refuse(retrySeconds int, format string, args ...any) error {
	err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", retrySeconds)
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: policyv1.DisruptionBudgetCause, Message: fmt.Sprintf(format, args...),
	})
	return err
}

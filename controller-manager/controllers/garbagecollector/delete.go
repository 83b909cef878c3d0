package garbagecollector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"

	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// verdict on one owner reference.
type verdict int

const (
	solid    verdict = iota // the owner exists
	dangling                // the owner is gone
	waiting                 // the owner waits for its dependents to go
	unknown                 // it cannot be told: the object must stay
)

// errUnknownKind keeps an object whose owner is of a kind nobody serves.
var errUnknownKind = errors.New("owner's kind is not served")

func (c *Controller) at(n node) metadata.ResourceInterface {
	if n.resource.Namespaced {
		return c.client.Resource(n.resource.GroupVersionResource).Namespace(n.namespace)
	}
	return c.client.Resource(n.resource.GroupVersionResource)
}

// fresh reads the object; nil when it is gone or another one has its name.
func (c *Controller) fresh(ctx context.Context, n node) (*metav1.PartialObjectMetadata, error) {
	object, err := c.at(n).Get(ctx, n.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || (err == nil && object.UID != n.uid) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", n.resource.Kind, reconcile.Key(n.namespace, n.name), err)
	}
	return object, nil
}

// judge decides about an object that has owners and is not being deleted.
func (c *Controller) judge(ctx context.Context, n node) (reconcile.Result, error) {
	// The graph says cheaply that all is well, which is nearly always.
	if all, err := c.verdicts(ctx, n, n.owners); err != nil || !slices.ContainsFunc(all, func(v verdict) bool { return v != solid }) {
		return retryUnknown(err)
	}
	object, err := c.fresh(ctx, n)
	if err != nil || object == nil || object.DeletionTimestamp != nil {
		return reconcile.Result{}, err
	}
	all, err := c.verdicts(ctx, n, object.OwnerReferences)
	if err != nil {
		return retryUnknown(err)
	}
	var drop []types.UID
	count := map[verdict]int{}
	for i, v := range all {
		count[v]++
		if v == dangling || v == waiting {
			drop = append(drop, object.OwnerReferences[i].UID)
		}
	}
	switch {
	case count[unknown] > 0 || len(all) == 0:
		return reconcile.Result{}, nil
	case count[solid] > 0 && len(drop) == 0:
		return reconcile.Result{}, nil
	case count[solid] > 0:
		return reconcile.Result{}, c.dropReferences(ctx, n, object, drop)
	case count[waiting] > 0 && len(c.graph.dependentsOf(n.uid)) > 0:
		if err := c.breakCircle(ctx, n, object); err != nil {
			return reconcile.Result{}, err
		}
		return reconcile.Result{}, c.delete(ctx, n, object, metav1.DeletePropagationForeground)
	}
	return reconcile.Result{}, c.delete(ctx, n, object, policyOf(object))
}

// retryUnknown looks again with the next discovery at kinds that are not served.
func retryUnknown(err error) (reconcile.Result, error) {
	if errors.Is(err, errUnknownKind) {
		slog.Debug("object kept", "err", err)
		return reconcile.Result{RequeueAfter: discoverPeriod}, nil
	}
	return reconcile.Result{}, err
}

// policyOf is how a dependent is deleted: as its own finalizers ask.
func policyOf(object *metav1.PartialObjectMetadata) metav1.DeletionPropagation {
	switch {
	case slices.Contains(object.Finalizers, metav1.FinalizerOrphanDependents):
		return metav1.DeletePropagationOrphan
	case slices.Contains(object.Finalizers, metav1.FinalizerDeleteDependents):
		return metav1.DeletePropagationForeground
	}
	return metav1.DeletePropagationBackground
}

func (c *Controller) verdicts(ctx context.Context, n node, refs []metav1.OwnerReference) ([]verdict, error) {
	all := make([]verdict, len(refs))
	for i, ref := range refs {
		v, err := c.owner(ctx, n, ref)
		if err != nil {
			return nil, err
		}
		all[i] = v
	}
	return all, nil
}

// owner looks up one owner as the dependent names it: in its own namespace
// when the owner's kind has namespaces.
func (c *Controller) owner(ctx context.Context, n node, ref metav1.OwnerReference) (verdict, error) {
	r, served := c.kind(ref)
	if !served {
		return unknown, fmt.Errorf("look for owner %s %s of %s: %w", ref.Kind, ref.Name, n.name, errUnknownKind)
	}
	o := node{uid: ref.UID, resource: r, name: ref.Name}
	if r.Namespaced {
		if n.namespace == "" {
			c.events.Eventf(reference(n), corev1.EventTypeWarning, "OwnerRefInvalidNamespace",
				"ownerRef [%s/%s, name: %s, uid: %s] does not exist in namespace %q", ref.APIVersion, ref.Kind, ref.Name, ref.UID, n.namespace)
			return unknown, nil
		}
		o.namespace = n.namespace
	}
	key := absentKey{ref.UID, o.namespace}
	if _, gone := c.absent.Get(key); gone {
		return dangling, nil
	}
	if seen, ok := c.graph.get(ref.UID); ok && seen.namespace == o.namespace && seen.name == o.name && seen.resource.Kind == ref.Kind {
		if seen.deletingDependents() && blocksDeletion(ref) {
			return waiting, nil
		}
		return solid, nil
	}
	object, err := c.fresh(ctx, o)
	switch {
	case err != nil:
		return unknown, err
	case object == nil:
		c.absent.Add(key, struct{}{})
		if seen, ok := c.graph.get(ref.UID); ok && seen.namespace != o.namespace {
			c.events.Eventf(reference(n), corev1.EventTypeWarning, "OwnerRefInvalidNamespace",
				"ownerRef [%s/%s, name: %s, uid: %s] does not exist in namespace %q", ref.APIVersion, ref.Kind, ref.Name, ref.UID, n.namespace)
		}
		return dangling, nil
	case object.DeletionTimestamp != nil && slices.Contains(object.Finalizers, metav1.FinalizerDeleteDependents) && blocksDeletion(ref):
		return waiting, nil
	}
	return solid, nil
}

func blocksDeletion(ref metav1.OwnerReference) bool {
	return ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
}

func reference(n node) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: n.resource.GroupVersion().String(), Kind: n.resource.Kind, Namespace: n.namespace, Name: n.name, UID: n.uid,
	}
}

// delete removes the object if it still is what was looked at.
func (c *Controller) delete(ctx context.Context, n node, object *metav1.PartialObjectMetadata, policy metav1.DeletionPropagation) error {
	slog.Info("deleting object without owner", "kind", n.resource.Kind, "object", reconcile.Key(n.namespace, n.name), "uid", n.uid, "propagation", policy)
	err := c.at(n).Delete(ctx, n.name, metav1.DeleteOptions{
		Preconditions:     &metav1.Preconditions{UID: &n.uid, ResourceVersion: &object.ResourceVersion},
		PropagationPolicy: &policy,
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s %s: %w", n.resource.Kind, reconcile.Key(n.namespace, n.name), err)
	}
	return nil
}

// finishForeground removes the finalizer of an owner whose blocking dependents
// are all gone, and looks again at those that are not.
func (c *Controller) finishForeground(ctx context.Context, n node) error {
	for _, d := range c.graph.dependentsOf(n.uid) {
		if d.blocks(n.uid) && d.namespaceMatches(n) {
			return nil // its end brings us back here
		}
	}
	return c.removeFinalizer(ctx, n, metav1.FinalizerDeleteDependents)
}

// namespaceMatches: a reference across namespaces is invalid and blocks nothing.
func (n node) namespaceMatches(owner node) bool {
	return !owner.resource.Namespaced || owner.namespace == n.namespace
}

// breakCircle lets an object go whose own dependents are waiting for theirs,
// it among them: two owners of each other would wait for ever.
func (c *Controller) breakCircle(ctx context.Context, n node, object *metav1.PartialObjectMetadata) error {
	circle := slices.ContainsFunc(c.graph.dependentsOf(n.uid), node.deletingDependents)
	if !circle {
		return nil
	}
	refs := slices.Clone(object.OwnerReferences)
	for i := range refs {
		if blocksDeletion(refs[i]) {
			no := false
			refs[i].BlockOwnerDeletion = &no
		}
	}
	return c.patchMeta(ctx, n, object, map[string]any{"ownerReferences": refs})
}

// orphanDependents removes the reference from all dependents, then the finalizer.
func (c *Controller) orphanDependents(ctx context.Context, n node) error {
	dependents := c.graph.dependentsOf(n.uid)
	_, err := reconcile.Parallel(len(dependents), func(i int) error {
		d := dependents[i]
		if !d.namespaceMatches(n) {
			return nil
		}
		object, err := c.fresh(ctx, d)
		if err != nil || object == nil {
			return err
		}
		return c.dropReferences(ctx, d, object, []types.UID{n.uid})
	})
	if err != nil {
		return fmt.Errorf("orphan dependents of %s %s: %w", n.resource.Kind, n.name, err)
	}
	return c.removeFinalizer(ctx, n, metav1.FinalizerOrphanDependents)
}

// dropReferences removes the owner references with the given UIDs.
func (c *Controller) dropReferences(ctx context.Context, n node, object *metav1.PartialObjectMetadata, uids []types.UID) error {
	refs := slices.DeleteFunc(slices.Clone(object.OwnerReferences), func(r metav1.OwnerReference) bool { return slices.Contains(uids, r.UID) })
	if len(refs) == len(object.OwnerReferences) {
		return nil
	}
	return c.patchMeta(ctx, n, object, map[string]any{"ownerReferences": refs})
}

func (c *Controller) removeFinalizer(ctx context.Context, n node, finalizer string) error {
	object, err := c.fresh(ctx, n)
	if err != nil || object == nil {
		return err
	}
	finalizers := slices.DeleteFunc(slices.Clone(object.Finalizers), func(f string) bool { return f == finalizer })
	if len(finalizers) == len(object.Finalizers) {
		return nil
	}
	return c.patchMeta(ctx, n, object, map[string]any{"finalizers": finalizers})
}

// patchMeta patches metadata of the object as it was read: a conflict, not a
// lost write, when somebody else was faster.
func (c *Controller) patchMeta(ctx context.Context, n node, object *metav1.PartialObjectMetadata, fields map[string]any) error {
	fields["uid"] = object.UID
	fields["resourceVersion"] = object.ResourceVersion
	patch, err := json.Marshal(map[string]any{"metadata": fields})
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	if _, err := c.at(n).Patch(ctx, n.name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("patch %s %s: %w", n.resource.Kind, reconcile.Key(n.namespace, n.name), err)
	}
	return nil
}

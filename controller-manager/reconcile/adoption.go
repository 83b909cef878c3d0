package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// OwnerIndex is the name of the index made by IndexByOwner.
const OwnerIndex = "skeg-owner"

// IndexByOwner adds an index of objects by the UID of their controller, and of
// those without one by namespace. Asking twice for one informer is harmless;
// it must be before the informer starts.
func IndexByOwner(informer cache.SharedIndexInformer) error {
	if _, there := informer.GetIndexer().GetIndexers()[OwnerIndex]; there {
		return nil
	}
	err := informer.AddIndexers(cache.Indexers{OwnerIndex: func(object any) ([]string, error) {
		meta, ok := object.(metav1.Object)
		if !ok {
			return nil, fmt.Errorf("index %T by owner: no metadata", object)
		}
		if ref := metav1.GetControllerOfNoCopy(meta); ref != nil {
			return []string{string(ref.UID)}, nil
		}
		return []string{orphans(meta.GetNamespace())}, nil
	}})
	if err != nil {
		return fmt.Errorf("index by owner: %w", err)
	}
	return nil
}

// orphans is the index value of objects without controller; no UID has a slash.
func orphans(namespace string) string { return "/" + namespace }

// Dependents returns the objects that the owner controls and those of its
// namespace that nobody controls. The informer needs IndexByOwner.
func Dependents[T metav1.Object](informer cache.SharedIndexInformer, owner metav1.Object) ([]T, error) {
	owned, err := OwnedObjects[T](informer, owner.GetUID())
	if err != nil {
		return nil, err
	}
	free, err := byIndex[T](informer, orphans(owner.GetNamespace()))
	if err != nil {
		return nil, err
	}
	return append(owned, free...), nil
}

// OrphansIn returns the objects of a namespace that nobody controls.
func OrphansIn[T metav1.Object](informer cache.SharedIndexInformer, namespace string) ([]T, error) {
	return byIndex[T](informer, orphans(namespace))
}

// OwnedObjects returns the objects controlled by the owner with this UID.
func OwnedObjects[T metav1.Object](informer cache.SharedIndexInformer, owner types.UID) ([]T, error) {
	return byIndex[T](informer, string(owner))
}

func byIndex[T metav1.Object](informer cache.SharedIndexInformer, value string) ([]T, error) {
	found, err := informer.GetIndexer().ByIndex(OwnerIndex, value)
	if err != nil {
		return nil, fmt.Errorf("list dependents: %w", err)
	}
	objects := make([]T, 0, len(found))
	for _, f := range found {
		if object, ok := f.(T); ok {
			objects = append(objects, object)
		}
	}
	return objects, nil
}

// Claim decides which objects belong to an owner, by selector and controller
// reference, and adopts or releases the others.
type Claim[T metav1.Object] struct {
	// Owner is the object as the cache has it; Kind is written in references.
	Owner metav1.Object
	Kind  schema.GroupVersionKind
	// Selector is the owner's; an object that no longer matches is released.
	Selector labels.Selector
	// Fresh reads the owner from the API server, not from a cache: adoption
	// must not happen on behalf of an owner that is going or was replaced.
	Fresh func(ctx context.Context) (metav1.Object, error)
	// Patch applies a patch of the given type to the object.
	Patch func(ctx context.Context, object T, kind types.PatchType, patch []byte) error
	// Adoptable excludes objects that must not be adopted (pods that have
	// ended). nil accepts all.
	Adoptable func(object T) bool
}

// Own returns the objects that belong to the owner after all adoptions and
// releases. Errors of single objects are joined; the others are still handled.
func (c Claim[T]) Own(ctx context.Context, objects []T) ([]T, error) {
	var owned []T
	var errs []error
	var allowed error
	var checked bool
	for _, object := range objects {
		ref := metav1.GetControllerOfNoCopy(object)
		matches := c.Selector.Matches(labels.Set(object.GetLabels()))
		switch {
		case ref != nil && ref.UID != c.Owner.GetUID():
		case ref != nil && matches:
			owned = append(owned, object)
		case ref != nil && c.Owner.GetDeletionTimestamp() == nil:
			errs = append(errs, c.release(ctx, object))
		case ref == nil && matches && c.mayAdopt(object):
			if !checked {
				allowed, checked = c.checkFresh(ctx), true
			}
			if allowed != nil {
				errs = append(errs, allowed)
				continue
			}
			ok, err := c.adopt(ctx, object)
			if ok {
				owned = append(owned, object)
			}
			errs = append(errs, err)
		}
	}
	return owned, errors.Join(errs...)
}

func (c Claim[T]) mayAdopt(object T) bool {
	return c.Owner.GetDeletionTimestamp() == nil && object.GetDeletionTimestamp() == nil &&
		object.GetNamespace() == c.Owner.GetNamespace() && (c.Adoptable == nil || c.Adoptable(object))
}

func (c Claim[T]) checkFresh(ctx context.Context) error {
	fresh, err := c.Fresh(ctx)
	if err != nil {
		return fmt.Errorf("read owner before adoption: %w", err)
	}
	if fresh.GetUID() != c.Owner.GetUID() {
		return fmt.Errorf("adopt for %s %s: it was replaced", c.Kind.Kind, KeyOf(c.Owner))
	}
	if fresh.GetDeletionTimestamp() != nil {
		return fmt.Errorf("adopt for %s %s: it is being deleted", c.Kind.Kind, KeyOf(c.Owner))
	}
	return nil
}

func (c Claim[T]) adopt(ctx context.Context, object T) (bool, error) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":             object.GetUID(),
		"ownerReferences": []any{metav1.NewControllerRef(c.Owner, c.Kind)},
	}})
	if err != nil {
		return false, fmt.Errorf("encode adoption: %w", err)
	}
	if err := c.Patch(ctx, object, types.StrategicMergePatchType, patch); err != nil {
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return false, fmt.Errorf("adopt %s: %w", KeyOf(object), err)
	}
	return true, nil
}

func (c Claim[T]) release(ctx context.Context, object T) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":             object.GetUID(),
		"ownerReferences": []any{map[string]any{"$patch": "delete", "uid": c.Owner.GetUID()}},
	}})
	if err != nil {
		return fmt.Errorf("encode release: %w", err)
	}
	err = c.Patch(ctx, object, types.StrategicMergePatchType, patch)
	// Gone, or replaced by another object of that name: nothing to release.
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsInvalid(err) {
		return nil
	}
	return fmt.Errorf("release %s: %w", KeyOf(object), err)
}

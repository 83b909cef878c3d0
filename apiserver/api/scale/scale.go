// Package scale makes the /scale subresource (autoscaling/v1 Scale) of kinds
// that have replicas. Used by apiserver/api/<group>; pure.
package scale

import (
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Target tells where a kind keeps its replicas.
type Target[T resource.Object] struct {
	// Get reads wanted replicas, observed replicas and selector.
	Get func(T) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus)
	// Set changes the wanted replicas.
	Set func(T, int32)
}

// Subresource makes the subresource definition.
func Subresource[T resource.Object](target Target[T]) resource.Subresource {
	return resource.Subresource{
		Name:  "scale",
		Kind:  autoscalingv1.SchemeGroupVersion.WithKind("Scale"),
		New:   func() runtime.Object { return &autoscalingv1.Scale{} },
		Verbs: []string{"get", "patch", "update"},
		Get: func(parent runtime.Object) (runtime.Object, error) {
			obj, ok := parent.(T)
			if !ok {
				return nil, fmt.Errorf("scale: unexpected object %T", parent)
			}
			return target.scaleOf(obj), nil
		},
		Set: func(parent, body runtime.Object) error { return target.set(parent, body) },
	}
}

func (t Target[T]) scaleOf(obj T) *autoscalingv1.Scale {
	spec, status := t.Get(obj)
	return &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{APIVersion: autoscalingv1.SchemeGroupVersion.String(), Kind: "Scale"},
		// Only what identifies the parent and its version: a Scale is a view.
		ObjectMeta: metav1.ObjectMeta{
			Name:              obj.GetName(),
			Namespace:         obj.GetNamespace(),
			UID:               obj.GetUID(),
			ResourceVersion:   obj.GetResourceVersion(),
			CreationTimestamp: obj.GetCreationTimestamp(),
		},
		Spec:   spec,
		Status: status,
	}
}

func (t Target[T]) set(parent, body runtime.Object) error {
	obj, okParent := parent.(T)
	wanted, okBody := body.(*autoscalingv1.Scale)
	if !okParent || !okBody {
		return apierrors.NewBadRequest(fmt.Sprintf("expected a Scale, got %T", body))
	}
	errs := apivalidation.ValidateNonnegativeField(int64(wanted.Spec.Replicas), field.NewPath("spec", "replicas"))
	if len(errs) > 0 {
		return apierrors.NewInvalid(autoscalingv1.SchemeGroupVersion.WithKind("Scale").GroupKind(), obj.GetName(), errs)
	}
	before, _ := t.Get(obj)
	if before.Replicas == wanted.Spec.Replicas {
		return nil
	}
	t.Set(obj, wanted.Spec.Replicas)
	if generation := obj.GetGeneration(); generation > 0 {
		obj.SetGeneration(generation + 1)
	}
	return nil
}

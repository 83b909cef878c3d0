package admission

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// RuntimeClass writes into a new Pod what its runtime class costs and where it
// runs: overhead, node selector and tolerations.
type RuntimeClass struct{ reader Reader }

// NewRuntimeClass makes the plugin.
func NewRuntimeClass(reader Reader) *RuntimeClass { return &RuntimeClass{reader: reader} }

// Name is the plugin's name in flags and metrics.
func (*RuntimeClass) Name() string { return "RuntimeClass" }

var runtimeClasses = schema.GroupResource{Group: nodev1.GroupName, Resource: "runtimeclasses"}

// Mutate merges the class into the Pod.
func (p *RuntimeClass) Mutate(ctx context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Operation != Create || !isResource(a, "", "pods", "") {
		return nil
	}
	if pod.Spec.RuntimeClassName == nil || *pod.Spec.RuntimeClassName == "" {
		if len(pod.Spec.Overhead) > 0 {
			return Forbidden(a, errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
		}
		return nil
	}
	class, err := p.find(ctx, a, *pod.Spec.RuntimeClassName)
	if err != nil {
		return err
	}
	if err := setOverhead(a, pod, class.Overhead); err != nil {
		return err
	}
	return setScheduling(a, pod, class.Scheduling)
}

func (p *RuntimeClass) find(ctx context.Context, a *Attributes, name string) (*nodev1.RuntimeClass, error) {
	obj, err := p.reader.Get(ctx, runtimeClasses, "", name)
	if apierrors.IsNotFound(err) {
		obj, err = p.reader.GetLatest(ctx, runtimeClasses, "", name)
	}
	if apierrors.IsNotFound(err) {
		return nil, Forbidden(a, fmt.Errorf("pod rejected: RuntimeClass %q not found", name))
	}
	if err != nil {
		return nil, fmt.Errorf("read runtime class %q: %w", name, err)
	}
	class, ok := obj.(*nodev1.RuntimeClass)
	if !ok {
		return nil, fmt.Errorf("read runtime class %q: unexpected object %T", name, obj)
	}
	return class, nil
}

func setOverhead(a *Attributes, pod *corev1.Pod, overhead *nodev1.Overhead) error {
	switch {
	case overhead == nil && len(pod.Spec.Overhead) > 0:
		return Forbidden(a, errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
	case overhead == nil:
		return nil
	case len(pod.Spec.Overhead) > 0 && !equality.Semantic.DeepEqual(pod.Spec.Overhead, overhead.PodFixed):
		return Forbidden(a, errors.New("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"))
	}
	pod.Spec.Overhead = overhead.PodFixed.DeepCopy()
	return nil
}

func setScheduling(a *Attributes, pod *corev1.Pod, scheduling *nodev1.Scheduling) error {
	if scheduling == nil {
		return nil
	}
	selector := map[string]string{}
	for key, value := range pod.Spec.NodeSelector {
		selector[key] = value
	}
	for key, value := range scheduling.NodeSelector {
		if own, ok := selector[key]; ok && own != value {
			return Forbidden(a, fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, own))
		}
		selector[key] = value
	}
	if len(selector) > 0 {
		pod.Spec.NodeSelector = selector
	}
	for _, toleration := range scheduling.Tolerations {
		if !hasToleration(pod, toleration) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, toleration)
		}
	}
	return nil
}

func hasToleration(pod *corev1.Pod, wanted corev1.Toleration) bool {
	for _, own := range pod.Spec.Tolerations {
		if equality.Semantic.DeepEqual(own, wanted) {
			return true
		}
	}
	return false
}

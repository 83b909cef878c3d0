package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
)

// Priority turns a Pod's priorityClassName into the number the scheduler and
// the kubelet read, and keeps at most one class the default.
type Priority struct {
	reader Reader
}

// NewPriority makes the plugin.
func NewPriority(reader Reader) *Priority { return &Priority{reader: reader} }

// Name is the plugin's name in flags and metrics.
func (*Priority) Name() string { return "Priority" }

var priorityClasses = schema.GroupResource{Group: schedulingv1.GroupName, Resource: "priorityclasses"}

// priority is what a class gives to a Pod.
type priority struct {
	class  string
	value  int32
	policy corev1.PreemptionPolicy
}

// Mutate fills a new Pod's priority in, and keeps it when an update leaves it
// out.
func (p *Priority) Mutate(ctx context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || !isResource(a, "", "pods", "") {
		return nil
	}
	switch a.Operation {
	case Create:
		return p.fill(ctx, a, pod)
	case Update:
		if old, ok := a.Old.(*corev1.Pod); ok {
			keepPriority(pod, old)
		}
	}
	return nil
}

func keepPriority(pod, old *corev1.Pod) {
	if pod.Spec.Priority == nil {
		pod.Spec.Priority = old.Spec.Priority
	}
	if pod.Spec.PreemptionPolicy == nil {
		pod.Spec.PreemptionPolicy = old.Spec.PreemptionPolicy
	}
}

func (p *Priority) fill(ctx context.Context, a *Attributes, pod *corev1.Pod) error {
	computed, err := p.of(ctx, a, pod.Spec.PriorityClassName)
	if err != nil {
		return err
	}
	if given := pod.Spec.Priority; given != nil && *given != computed.value {
		return Forbidden(a, fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *given, computed.value))
	}
	if given := pod.Spec.PreemptionPolicy; given != nil && *given != computed.policy {
		return Forbidden(a, fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *given, computed.policy))
	}
	pod.Spec.PriorityClassName = computed.class
	pod.Spec.Priority = &computed.value
	pod.Spec.PreemptionPolicy = &computed.policy
	return nil
}

func (p *Priority) of(ctx context.Context, a *Attributes, class string) (priority, error) {
	if class == "" {
		return p.byDefault(ctx)
	}
	obj, err := p.reader.Get(ctx, priorityClasses, "", class)
	if apierrors.IsNotFound(err) {
		obj, err = p.reader.GetLatest(ctx, priorityClasses, "", class)
	}
	if apierrors.IsNotFound(err) {
		return priority{}, Forbidden(a, fmt.Errorf("no PriorityClass with name %v was found", class))
	}
	if err != nil {
		return priority{}, fmt.Errorf("read priority class %q: %w", class, err)
	}
	found, ok := obj.(*schedulingv1.PriorityClass)
	if !ok {
		return priority{}, fmt.Errorf("read priority class %q: unexpected object %T", class, obj)
	}
	return priorityOf(found), nil
}

func priorityOf(class *schedulingv1.PriorityClass) priority {
	return priority{class: class.Name, value: class.Value, policy: ptr.Deref(class.PreemptionPolicy, corev1.PreemptLowerPriority)}
}

// byDefault is the default class; of several (two servers may each have let
// one in) the lowest, which harms least.
func (p *Priority) byDefault(ctx context.Context) (priority, error) {
	classes, err := p.defaults(ctx)
	if err != nil {
		return priority{}, err
	}
	var lowest *schedulingv1.PriorityClass
	for _, class := range classes {
		if lowest == nil || class.Value < lowest.Value {
			lowest = class
		}
	}
	if lowest == nil {
		return priority{policy: corev1.PreemptLowerPriority}, nil
	}
	return priorityOf(lowest), nil
}

func (p *Priority) defaults(ctx context.Context) ([]*schedulingv1.PriorityClass, error) {
	all, err := p.reader.List(ctx, priorityClasses, "")
	if err != nil {
		return nil, fmt.Errorf("list priority classes: %w", err)
	}
	var found []*schedulingv1.PriorityClass
	for _, obj := range all {
		if class, ok := obj.(*schedulingv1.PriorityClass); ok && class.GlobalDefault {
			found = append(found, class)
		}
	}
	return found, nil
}

// Validate refuses a second default class.
func (p *Priority) Validate(ctx context.Context, a *Attributes) error {
	class, ok := a.Object.(*schedulingv1.PriorityClass)
	if !ok || !class.GlobalDefault || a.Operation != Create && a.Operation != Update {
		return nil
	}
	classes, err := p.defaults(ctx)
	if err != nil {
		return err
	}
	for _, other := range classes {
		if other.Name != class.Name {
			return Forbidden(a, fmt.Errorf("PriorityClass %v is already marked as default. Only one default can exist", other.Name))
		}
	}
	return nil
}

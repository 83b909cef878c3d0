package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
)

// LimitRanger fills resources that Pods leave out from the LimitRanges of
// their namespace, and refuses Pods and claims beyond their bounds.
type LimitRanger struct{ reader Reader }

// NewLimitRanger makes the plugin.
func NewLimitRanger(reader Reader) *LimitRanger { return &LimitRanger{reader: reader} }

// Name is the plugin's name in flags and metrics.
func (*LimitRanger) Name() string { return "LimitRanger" }

// limitRangerAnnotation tells a person which values the plugin filled in.
const limitRangerAnnotation = "kubernetes.io/limit-ranger"

var limitRanges = schema.GroupResource{Resource: "limitranges"}

// Mutate fills defaults into a new Pod.
func (p *LimitRanger) Mutate(ctx context.Context, a *Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Operation != Create || !isResource(a, "", "pods", "") {
		return nil
	}
	items, err := p.items(ctx, a.Namespace)
	if err != nil {
		return err
	}
	for _, item := range items {
		if item.Type == corev1.LimitTypeContainer {
			fillPod(pod, item)
		}
	}
	return nil
}

// Validate checks a new Pod, a resized one, and claims.
func (p *LimitRanger) Validate(ctx context.Context, a *Attributes) error {
	var check func(item *corev1.LimitRangeItem) []error
	switch obj := a.Object.(type) {
	case *corev1.Pod:
		if !isResource(a, "", "pods", "resize") && (a.Operation != Create || !isResource(a, "", "pods", "")) {
			return nil
		}
		check = func(item *corev1.LimitRangeItem) []error { return checkPod(obj, item) }
	case *corev1.PersistentVolumeClaim:
		if a.Subresource != "" || a.Operation != Create && a.Operation != Update {
			return nil
		}
		check = func(item *corev1.LimitRangeItem) []error { return checkClaim(obj, item) }
	default:
		return nil
	}
	items, err := p.items(ctx, a.Namespace)
	if err != nil {
		return err
	}
	var faults []error
	for _, item := range items {
		faults = append(faults, check(item)...)
	}
	if len(faults) > 0 {
		return Forbidden(a, utilerrors.NewAggregate(faults))
	}
	return nil
}

// items are those of all LimitRanges of a namespace, by name.
func (p *LimitRanger) items(ctx context.Context, namespace string) ([]*corev1.LimitRangeItem, error) {
	all, err := p.reader.List(ctx, limitRanges, namespace)
	if err != nil {
		return nil, fmt.Errorf("list limit ranges: %w", err)
	}
	var out []*corev1.LimitRangeItem
	for _, obj := range all {
		limits, ok := obj.(*corev1.LimitRange)
		if !ok {
			return nil, fmt.Errorf("list limit ranges: unexpected object %T", obj)
		}
		for i := range limits.Spec.Limits {
			out = append(out, &limits.Spec.Limits[i])
		}
	}
	return out, nil
}

func fillPod(pod *corev1.Pod, item *corev1.LimitRangeItem) {
	var filled []string
	for i := range pod.Spec.Containers {
		filled = append(filled, fillContainer("container", &pod.Spec.Containers[i], item)...)
	}
	for i := range pod.Spec.InitContainers {
		filled = append(filled, fillContainer("init container", &pod.Spec.InitContainers[i], item)...)
	}
	if len(filled) == 0 {
		return
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	text := strings.Join(filled, "; ")
	if before := pod.Annotations[limitRangerAnnotation]; before != "" {
		pod.Annotations[limitRangerAnnotation] = before + "; " + text
		return
	}
	pod.Annotations[limitRangerAnnotation] = "LimitRanger plugin set: " + text
}

// fillContainer says what it filled in.
func fillContainer(kind string, c *corev1.Container, item *corev1.LimitRangeItem) []string {
	var filled []string
	if names := fillMissing(&c.Resources.Requests, item.DefaultRequest); len(names) > 0 {
		filled = append(filled, fmt.Sprintf("%s request for %s %s", strings.Join(names, ", "), kind, c.Name))
	}
	if names := fillMissing(&c.Resources.Limits, item.Default); len(names) > 0 {
		filled = append(filled, fmt.Sprintf("%s limit for %s %s", strings.Join(names, ", "), kind, c.Name))
	}
	return filled
}

func fillMissing(target *corev1.ResourceList, defaults corev1.ResourceList) []string {
	var names []string
	for name, quantity := range defaults {
		if _, given := (*target)[name]; given {
			continue
		}
		if *target == nil {
			*target = corev1.ResourceList{}
		}
		(*target)[name] = quantity.DeepCopy()
		names = append(names, string(name))
	}
	slices.Sort(names)
	return names
}

func checkPod(pod *corev1.Pod, item *corev1.LimitRangeItem) []error {
	switch item.Type {
	case corev1.LimitTypeContainer:
		var faults []error
		for _, containers := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
			for i := range containers {
				faults = append(faults, checkBounds(item, containers[i].Resources.Requests, containers[i].Resources.Limits)...)
			}
		}
		return faults
	case corev1.LimitTypePod:
		return checkBounds(item, podTotal(pod, requestsOf), podTotal(pod, limitsOf))
	}
	return nil
}

func checkClaim(claim *corev1.PersistentVolumeClaim, item *corev1.LimitRangeItem) []error {
	if item.Type != corev1.LimitTypePersistentVolumeClaim {
		return nil
	}
	var faults []error
	for _, name := range boundNames(item.Min, item.Max) {
		requested, given := claim.Spec.Resources.Requests[name]
		if low, ok := item.Min[name]; ok {
			faults = append(faults, boundFault("minimum", "request", name, item.Type, low.String(), requested.String(), given, requested.Cmp(low) >= 0)...)
		}
		if high, ok := item.Max[name]; ok {
			faults = append(faults, boundFault("maximum", "request", name, item.Type, high.String(), requested.String(), given, requested.Cmp(high) <= 0)...)
		}
	}
	return faults
}

func boundFault(bound, what string, name corev1.ResourceName, kind corev1.LimitType, limit, value string, given, good bool) []error {
	switch {
	case !given:
		return []error{fmt.Errorf("%s %s usage per %s is %s.  No %s is specified", bound, name, kind, limit, what)}
	case !good:
		return []error{fmt.Errorf("%s %s usage per %s is %s, but %s is %s", bound, name, kind, limit, what, value)}
	}
	return nil
}

// checkBounds compares requests and limits with an item's min, max and ratio.
func checkBounds(item *corev1.LimitRangeItem, requests, limits corev1.ResourceList) []error {
	var faults []error
	for _, name := range boundNames(item.Min) {
		low, request := item.Min[name], requests[name]
		_, given := requests[name]
		faults = append(faults, boundFault("minimum", "request", name, item.Type, low.String(), request.String(), given, request.Cmp(low) >= 0)...)
		if limit, ok := limits[name]; ok {
			faults = append(faults, boundFault("minimum", "limit", name, item.Type, low.String(), limit.String(), true, limit.Cmp(low) >= 0)...)
		}
	}
	for _, name := range boundNames(item.Max) {
		high, limit := item.Max[name], limits[name]
		_, given := limits[name]
		faults = append(faults, boundFault("maximum", "limit", name, item.Type, high.String(), limit.String(), given, limit.Cmp(high) <= 0)...)
		if request, ok := requests[name]; ok {
			faults = append(faults, boundFault("maximum", "request", name, item.Type, high.String(), request.String(), true, request.Cmp(high) <= 0)...)
		}
	}
	for _, name := range boundNames(item.MaxLimitRequestRatio) {
		if err := checkRatio(item, name, requests, limits); err != nil {
			faults = append(faults, err)
		}
	}
	return faults
}

func checkRatio(item *corev1.LimitRangeItem, name corev1.ResourceName, requests, limits corev1.ResourceList) error {
	highest, request, limit := item.MaxLimitRequestRatio[name], requests[name], limits[name]
	head := fmt.Sprintf("%s max limit to request ratio per %s is %s, but ", name, item.Type, highest.String())
	if request.IsZero() {
		return errors.New(head + "no request is specified or request is 0")
	}
	if limit.IsZero() {
		return errors.New(head + "no limit is specified or limit is 0")
	}
	ratio := limit.AsApproximateFloat64() / request.AsApproximateFloat64()
	if ratio > highest.AsApproximateFloat64() {
		return fmt.Errorf("%sprovided ratio is %f", head, ratio)
	}
	return nil
}

func requestsOf(c *corev1.Container) corev1.ResourceList { return c.Resources.Requests }
func limitsOf(c *corev1.Container) corev1.ResourceList   { return c.Resources.Limits }

// podTotal is what a Pod comes to: of its containers and sidecars together,
// or of an init container with the sidecars before it, whichever is more.
func podTotal(pod *corev1.Pod, of func(*corev1.Container) corev1.ResourceList) corev1.ResourceList {
	total, sidecars, peak := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			addTo(sidecars, of(c))
			raise(peak, sidecars)
			continue
		}
		step := sidecars.DeepCopy()
		addTo(step, of(c))
		raise(peak, step)
	}
	addTo(total, sidecars)
	for i := range pod.Spec.Containers {
		addTo(total, of(&pod.Spec.Containers[i]))
	}
	raise(total, peak)
	return total
}

func addTo(sum, more corev1.ResourceList) {
	for name, quantity := range more {
		have := sum[name]
		have.Add(quantity)
		sum[name] = have
	}
}

func raise(target, other corev1.ResourceList) {
	for name, quantity := range other {
		if have, ok := target[name]; !ok || quantity.Cmp(have) > 0 {
			target[name] = quantity.DeepCopy()
		}
	}
}

// boundNames are the resources of some lists, sorted.
func boundNames(lists ...corev1.ResourceList) []corev1.ResourceName {
	var names []corev1.ResourceName
	for _, list := range lists {
		for name := range list {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

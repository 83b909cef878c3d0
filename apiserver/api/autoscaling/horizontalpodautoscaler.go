package autoscaling

import (
	"fmt"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Defaults of the API reference.
const (
	defaultUtilization = 80
	defaultPodStep     = 4
	defaultPercentStep = 100
	defaultPeriod      = 15
)

// HorizontalPodAutoscaler defines the kind.
func HorizontalPodAutoscaler() *resource.Definition {
	d := &resource.Definition{
		Kind:                     autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
		Resource:                 "horizontalpodautoscalers",
		ShortNames:               []string{"hpa"},
		Categories:               []string{"all"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &autoscalingv2.HorizontalPodAutoscaler{} },
		NewList:                  func() runtime.Object { return &autoscalingv2.HorizontalPodAutoscalerList{} },
		Default:                  typed.Do(defaultAutoscaler),
		Validate:                 typed.Check(validateAutoscaler),
		ValidateUpdate:           typed.CheckAgain(validateAutoscaler),
		AllowUnconditionalUpdate: true,
		Columns: []column.Definition{
			column.Name(),
			column.Text("Reference", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["scaleTargetRef"]),
			column.Text("Targets", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["metrics"]),
			column.Text("MinPods", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["minReplicas"]),
			column.Number("MaxPods", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["maxReplicas"]),
			column.Number("Replicas", autoscalingv2.HorizontalPodAutoscalerStatus{}.SwaggerDoc()["currentReplicas"]),
			column.Age(),
		},
		Row: typed.Row(autoscalerRow),
	}
	typed.Parts[*autoscalingv2.HorizontalPodAutoscaler, autoscalingv2.HorizontalPodAutoscalerSpec, autoscalingv2.HorizontalPodAutoscalerStatus]{
		Spec: func(h *autoscalingv2.HorizontalPodAutoscaler) *autoscalingv2.HorizontalPodAutoscalerSpec {
			return &h.Spec
		},
		Status: func(h *autoscalingv2.HorizontalPodAutoscaler) *autoscalingv2.HorizontalPodAutoscalerStatus {
			return &h.Status
		},
		Generation: true,
	}.Apply(d)
	return d
}

func defaultAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) {
	if h.Spec.MinReplicas == nil {
		h.Spec.MinReplicas = ptr.To[int32](1)
	}
	if len(h.Spec.Metrics) == 0 {
		h.Spec.Metrics = []autoscalingv2.MetricSpec{{
			Type: autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{
				Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr.To[int32](defaultUtilization),
			}},
		}}
	}
	if b := h.Spec.Behavior; b != nil {
		percent := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: defaultPercentStep, PeriodSeconds: defaultPeriod}
		pods := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: defaultPodStep, PeriodSeconds: defaultPeriod}
		b.ScaleUp = defaultRules(b.ScaleUp, ptr.To[int32](0), pods, percent)
		b.ScaleDown = defaultRules(b.ScaleDown, nil, percent)
	}
}

func defaultRules(r *autoscalingv2.HPAScalingRules, window *int32, policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	if r == nil {
		r = &autoscalingv2.HPAScalingRules{}
	}
	if r.SelectPolicy == nil {
		r.SelectPolicy = ptr.To(autoscalingv2.MaxChangePolicySelect)
	}
	if r.StabilizationWindowSeconds == nil {
		r.StabilizationWindowSeconds = window
	}
	if r.Policies == nil {
		r.Policies = policies
	}
	return r
}

func autoscalerRow(h *autoscalingv2.HorizontalPodAutoscaler, now metav1.Time) []any {
	least := "<unset>"
	if h.Spec.MinReplicas != nil {
		least = fmt.Sprint(*h.Spec.MinReplicas)
	}
	return []any{
		h.Name, h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name, targets(h), least,
		int64(h.Spec.MaxReplicas), int64(h.Status.CurrentReplicas), column.Since(h.CreationTimestamp, now),
	}
}

// shownTargets is how many metrics are written out.
const shownTargets = 2

// targets is "current/wanted" per metric.
func targets(h *autoscalingv2.HorizontalPodAutoscaler) string {
	var list []string
	for i, m := range h.Spec.Metrics {
		current := autoscalingv2.MetricValueStatus{}
		if i < len(h.Status.CurrentMetrics) {
			current = currentOf(h.Status.CurrentMetrics[i])
		}
		name, wanted := targetOf(m)
		if wanted == nil {
			list = append(list, column.Unknown)
			continue
		}
		list = append(list, name+amount(current.AverageUtilization, current.AverageValue, current.Value)+"/"+
			amount(wanted.AverageUtilization, wanted.AverageValue, wanted.Value))
	}
	if len(list) == 0 {
		return column.None
	}
	if more := len(list) - shownTargets; more > 0 {
		return strings.Join(list[:shownTargets], ", ") + fmt.Sprintf(" + %d more...", more)
	}
	return strings.Join(list, ", ")
}

func amount(utilization *int32, quantities ...*apiresource.Quantity) string {
	if utilization != nil {
		return fmt.Sprintf("%d%%", *utilization)
	}
	for _, q := range quantities {
		if q != nil {
			return q.String()
		}
	}
	return column.Unknown
}

// targetOf is what a metric shall come to; nil for one without a source.
func targetOf(m autoscalingv2.MetricSpec) (name string, target *autoscalingv2.MetricTarget) {
	switch {
	case m.Resource != nil:
		return string(m.Resource.Name) + ": ", &m.Resource.Target
	case m.ContainerResource != nil:
		return string(m.ContainerResource.Name) + ": ", &m.ContainerResource.Target
	case m.Pods != nil:
		return "", &m.Pods.Target
	case m.Object != nil:
		return "", &m.Object.Target
	case m.External != nil:
		return "", &m.External.Target
	}
	return "", nil
}

func currentOf(m autoscalingv2.MetricStatus) autoscalingv2.MetricValueStatus {
	switch {
	case m.Resource != nil:
		return m.Resource.Current
	case m.ContainerResource != nil:
		return m.ContainerResource.Current
	case m.Pods != nil:
		return m.Pods.Current
	case m.Object != nil:
		return m.Object.Current
	case m.External != nil:
		return m.External.Current
	}
	return autoscalingv2.MetricValueStatus{}
}

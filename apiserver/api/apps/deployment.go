package apps

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/scale"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/podspec"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Deployment defines the kind.
func Deployment() *resource.Definition {
	d := &resource.Definition{
		Kind:                     appsv1.SchemeGroupVersion.WithKind("Deployment"),
		Resource:                 "deployments",
		ShortNames:               []string{"deploy"},
		Categories:               []string{"all"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &appsv1.Deployment{} },
		NewList:                  func() runtime.Object { return &appsv1.DeploymentList{} },
		Default:                  typed.Do(defaultDeployment),
		Validate:                 typed.Check(validateDeployment),
		ValidateUpdate:           typed.Check2(validateDeploymentUpdate),
		AllowUnconditionalUpdate: true,
		Columns:                  deploymentColumns(),
		Row:                      typed.Row(deploymentRow),
		Status:                   &resource.StatusUpdate{Validate: typed.Check2(validateDeploymentStatus)},
		Subresources: []resource.Subresource{scale.Subresource(scale.Target[*appsv1.Deployment]{
			Get: func(d *appsv1.Deployment) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus) {
				return scaleOf(d.Spec.Replicas, d.Status.Replicas, d.Spec.Selector)
			},
			Set: func(d *appsv1.Deployment, replicas int32) { d.Spec.Replicas = &replicas },
		})},
	}
	typed.Parts[*appsv1.Deployment, appsv1.DeploymentSpec, appsv1.DeploymentStatus]{
		Spec:       func(d *appsv1.Deployment) *appsv1.DeploymentSpec { return &d.Spec },
		Status:     func(d *appsv1.Deployment) *appsv1.DeploymentStatus { return &d.Status },
		Generation: true,
		KeepLabels: true,
	}.Apply(d)
	return d
}

func scaleOf(wanted *int32, observed int32, selector *metav1.LabelSelector) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus) {
	return autoscalingv1.ScaleSpec{Replicas: ptr.Deref(wanted, 1)}, autoscalingv1.ScaleStatus{
		Replicas: observed,
		Selector: selectorText(selector),
	}
}

// selectorText is the selector in the form that list requests take. A stored
// selector has been validated; one that cannot be read is shown as it is.
func selectorText(selector *metav1.LabelSelector) string {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return metav1.FormatLabelSelector(selector)
	}
	return parsed.String()
}

func defaultDeployment(d *appsv1.Deployment) {
	spec := &d.Spec
	podspec.Default(&spec.Template.Spec)
	setPointer(&spec.Replicas, 1)
	if spec.Strategy.Type == "" {
		spec.Strategy.Type = appsv1.RollingUpdateDeploymentStrategyType
	}
	if spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		if spec.Strategy.RollingUpdate == nil {
			spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{}
		}
		setPointer(&spec.Strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		setPointer(&spec.Strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	setPointer(&spec.RevisionHistoryLimit, 10)
	setPointer(&spec.ProgressDeadlineSeconds, 600)
}

func setPointer[T any](target **T, value T) {
	if *target == nil {
		*target = &value
	}
}

func deploymentColumns() []column.Definition {
	status := appsv1.DeploymentStatus{}.SwaggerDoc()
	columns := []column.Definition{
		column.Name(),
		column.Text("Ready", "Number of the pod with ready state"),
		column.Text("Up-to-date", status["updatedReplicas"]),
		column.Text("Available", status["availableReplicas"]),
		column.Age(),
	}
	columns = append(columns, column.Containers()...)
	return append(columns, column.Wide(column.Text("Selector", appsv1.DeploymentSpec{}.SwaggerDoc()["selector"]))...)
}

func deploymentRow(d *appsv1.Deployment, now metav1.Time) []any {
	names, images := column.ContainerCells(d.Spec.Template.Spec.Containers)
	return []any{
		d.Name,
		fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, ptr.Deref(d.Spec.Replicas, 1)),
		int64(d.Status.UpdatedReplicas), int64(d.Status.AvailableReplicas),
		column.Since(d.CreationTimestamp, now), names, images, selectorText(d.Spec.Selector),
	}
}

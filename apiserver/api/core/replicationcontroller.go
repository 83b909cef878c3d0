package core

import (
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"maps"
	"strconv"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/scale"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/podspec"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// ReplicationController defines the kind, the predecessor of ReplicaSet.
func ReplicationController() *resource.Definition {
	d := &resource.Definition{
		Kind:                     corev1.SchemeGroupVersion.WithKind("ReplicationController"),
		Resource:                 "replicationcontrollers",
		ShortNames:               []string{"rc"},
		Categories:               []string{"all"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &corev1.ReplicationController{} },
		NewList:                  func() runtime.Object { return &corev1.ReplicationControllerList{} },
		StorePrefix:              "controllers",
		Default:                  typed.Do(defaultReplicationController),
		Validate:                 typed.Check(validateReplicationController),
		ValidateUpdate:           typed.CheckAgain(validateReplicationController),
		AllowUnconditionalUpdate: true,
		DefaultDeletePropagation: metav1.DeletePropagationOrphan,
		Fields: typed.Fields(func(rc *corev1.ReplicationController) map[string]string {
			return map[string]string{"status.replicas": strconv.Itoa(int(rc.Status.Replicas))}
		}),
		Columns: replicationControllerColumns(),
		Row:     typed.Row(replicationControllerRow),
		Status:  &resource.StatusUpdate{Validate: typed.Check2(validateReplicationControllerStatus)},
		Subresources: []resource.Subresource{scale.Subresource(scale.Target[*corev1.ReplicationController]{
			Get: func(rc *corev1.ReplicationController) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus) {
				return autoscalingv1.ScaleSpec{Replicas: ptr.Deref(rc.Spec.Replicas, 0)}, autoscalingv1.ScaleStatus{
					Replicas: rc.Status.Replicas,
					Selector: labels.SelectorFromSet(rc.Spec.Selector).String(),
				}
			},
			Set: func(rc *corev1.ReplicationController, replicas int32) { rc.Spec.Replicas = &replicas },
		})},
	}
	typed.Parts[*corev1.ReplicationController, corev1.ReplicationControllerSpec, corev1.ReplicationControllerStatus]{
		Spec:       func(rc *corev1.ReplicationController) *corev1.ReplicationControllerSpec { return &rc.Spec },
		Status:     func(rc *corev1.ReplicationController) *corev1.ReplicationControllerStatus { return &rc.Status },
		Generation: true,
	}.Apply(d)
	return d
}

func defaultReplicationController(rc *corev1.ReplicationController) {
	if template := rc.Spec.Template; template != nil {
		if len(rc.Spec.Selector) == 0 {
			rc.Spec.Selector = maps.Clone(template.Labels)
		}
		if len(rc.Labels) == 0 {
			rc.Labels = maps.Clone(template.Labels)
		}
		podspec.Default(&template.Spec)
	}
	if rc.Spec.Replicas == nil {
		rc.Spec.Replicas = ptr.To[int32](1)
	}
}

func replicationControllerColumns() []column.Definition {
	spec, status := corev1.ReplicationControllerSpec{}.SwaggerDoc(), corev1.ReplicationControllerStatus{}.SwaggerDoc()
	columns := []column.Definition{
		column.Name(),
		column.Number("Desired", spec["replicas"]),
		column.Number("Current", status["replicas"]),
		column.Number("Ready", status["readyReplicas"]),
		column.Age(),
	}
	columns = append(columns, column.Containers()...)
	return append(columns, column.Wide(column.Text("Selector", spec["selector"]))...)
}

func replicationControllerRow(rc *corev1.ReplicationController, now metav1.Time) []any {
	var names, images string
	if rc.Spec.Template != nil {
		names, images = column.ContainerCells(rc.Spec.Template.Spec.Containers)
	}
	return []any{
		rc.Name, int64(ptr.Deref(rc.Spec.Replicas, 0)), int64(rc.Status.Replicas), int64(rc.Status.ReadyReplicas),
		column.Since(rc.CreationTimestamp, now), names, images, labels.FormatLabels(rc.Spec.Selector),
	}
}

package apps

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/scale"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/podspec"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// ReplicaSet defines the kind.
func ReplicaSet() *resource.Definition {
	d := &resource.Definition{
		Kind:                     appsv1.SchemeGroupVersion.WithKind("ReplicaSet"),
		Resource:                 "replicasets",
		ShortNames:               []string{"rs"},
		Categories:               []string{"all"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &appsv1.ReplicaSet{} },
		NewList:                  func() runtime.Object { return &appsv1.ReplicaSetList{} },
		Default:                  typed.Do(defaultReplicaSet),
		Validate:                 typed.Check(validateReplicaSet),
		ValidateUpdate:           typed.Check2(validateReplicaSetUpdate),
		AllowUnconditionalUpdate: true,
		Fields: typed.Fields(func(rs *appsv1.ReplicaSet) map[string]string {
			return map[string]string{"status.replicas": strconv.Itoa(int(rs.Status.Replicas))}
		}),
		Columns: replicaSetColumns(),
		Row:     typed.Row(replicaSetRow),
		Status:  &resource.StatusUpdate{Validate: typed.Check2(validateReplicaSetStatus)},
		Subresources: []resource.Subresource{scale.Subresource(scale.Target[*appsv1.ReplicaSet]{
			Get: func(rs *appsv1.ReplicaSet) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus) {
				return scaleOf(rs.Spec.Replicas, rs.Status.Replicas, rs.Spec.Selector)
			},
			Set: func(rs *appsv1.ReplicaSet, replicas int32) { rs.Spec.Replicas = &replicas },
		})},
	}
	typed.Parts[*appsv1.ReplicaSet, appsv1.ReplicaSetSpec, appsv1.ReplicaSetStatus]{
		Spec:       func(rs *appsv1.ReplicaSet) *appsv1.ReplicaSetSpec { return &rs.Spec },
		Status:     func(rs *appsv1.ReplicaSet) *appsv1.ReplicaSetStatus { return &rs.Status },
		Generation: true,
	}.Apply(d)
	return d
}

func defaultReplicaSet(rs *appsv1.ReplicaSet) {
	podspec.Default(&rs.Spec.Template.Spec)
	setPointer(&rs.Spec.Replicas, 1)
}

func replicaSetColumns() []column.Definition {
	spec, status := appsv1.ReplicaSetSpec{}.SwaggerDoc(), appsv1.ReplicaSetStatus{}.SwaggerDoc()
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

func replicaSetRow(rs *appsv1.ReplicaSet, now metav1.Time) []any {
	names, images := column.ContainerCells(rs.Spec.Template.Spec.Containers)
	return []any{
		rs.Name, int64(ptr.Deref(rs.Spec.Replicas, 1)), int64(rs.Status.Replicas), int64(rs.Status.ReadyReplicas),
		column.Since(rs.CreationTimestamp, now), names, images, metav1.FormatLabelSelector(rs.Spec.Selector),
	}
}

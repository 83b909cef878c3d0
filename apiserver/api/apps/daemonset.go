package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/podspec"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// DaemonSet defines the kind.
func DaemonSet() *resource.Definition {
	d := &resource.Definition{
		Kind:                     appsv1.SchemeGroupVersion.WithKind("DaemonSet"),
		Resource:                 "daemonsets",
		ShortNames:               []string{"ds"},
		Categories:               []string{"all"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &appsv1.DaemonSet{} },
		NewList:                  func() runtime.Object { return &appsv1.DaemonSetList{} },
		Default:                  typed.Do(defaultDaemonSet),
		Validate:                 typed.Check(validateDaemonSet),
		ValidateUpdate:           typed.Check2(validateDaemonSetUpdate),
		AllowUnconditionalUpdate: true,
		Columns:                  daemonSetColumns(),
		Row:                      typed.Row(daemonSetRow),
		Status:                   &resource.StatusUpdate{Validate: typed.Check2(validateDaemonSetStatus)},
	}
	typed.Parts[*appsv1.DaemonSet, appsv1.DaemonSetSpec, appsv1.DaemonSetStatus]{
		Spec:       func(ds *appsv1.DaemonSet) *appsv1.DaemonSetSpec { return &ds.Spec },
		Status:     func(ds *appsv1.DaemonSet) *appsv1.DaemonSetStatus { return &ds.Status },
		Generation: true,
	}.Apply(d)
	return d
}

func defaultDaemonSet(ds *appsv1.DaemonSet) {
	podspec.Default(&ds.Spec.Template.Spec)
	strategy := &ds.Spec.UpdateStrategy
	if strategy.Type == "" {
		strategy.Type = appsv1.RollingUpdateDaemonSetStrategyType
	}
	if strategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		if strategy.RollingUpdate == nil {
			strategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{}
		}
		setPointer(&strategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
		setPointer(&strategy.RollingUpdate.MaxSurge, intstr.FromInt32(0))
	}
	setPointer(&ds.Spec.RevisionHistoryLimit, 10)
}

func daemonSetColumns() []column.Definition {
	status := appsv1.DaemonSetStatus{}.SwaggerDoc()
	columns := []column.Definition{
		column.Name(),
		column.Number("Desired", status["desiredNumberScheduled"]),
		column.Number("Current", status["currentNumberScheduled"]),
		column.Number("Ready", status["numberReady"]),
		column.Number("Up-to-date", status["updatedNumberScheduled"]),
		column.Number("Available", status["numberAvailable"]),
		column.Text("Node Selector", corev1.PodSpec{}.SwaggerDoc()["nodeSelector"]),
		column.Age(),
	}
	columns = append(columns, column.Containers()...)
	return append(columns, column.Wide(column.Text("Selector", appsv1.DaemonSetSpec{}.SwaggerDoc()["selector"]))...)
}

func daemonSetRow(ds *appsv1.DaemonSet, now metav1.Time) []any {
	names, images := column.ContainerCells(ds.Spec.Template.Spec.Containers)
	s := &ds.Status
	return []any{
		ds.Name, int64(s.DesiredNumberScheduled), int64(s.CurrentNumberScheduled), int64(s.NumberReady),
		int64(s.UpdatedNumberScheduled), int64(s.NumberAvailable), labels.FormatLabels(ds.Spec.Template.Spec.NodeSelector),
		column.Since(ds.CreationTimestamp, now), names, images, metav1.FormatLabelSelector(ds.Spec.Selector),
	}
}

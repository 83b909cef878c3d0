package apps

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
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

// StatefulSet defines the kind.
func StatefulSet() *resource.Definition {
	d := &resource.Definition{
		Kind:                     appsv1.SchemeGroupVersion.WithKind("StatefulSet"),
		Resource:                 "statefulsets",
		ShortNames:               []string{"sts"},
		Categories:               []string{"all"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &appsv1.StatefulSet{} },
		NewList:                  func() runtime.Object { return &appsv1.StatefulSetList{} },
		Default:                  typed.Do(defaultStatefulSet),
		Validate:                 typed.Check(validateStatefulSet),
		ValidateUpdate:           typed.Check2(validateStatefulSetUpdate),
		AllowUnconditionalUpdate: true,
		Columns: append([]column.Definition{
			column.Name(),
			column.Text("Ready", "Number of the pod with ready state"),
			column.Age(),
		}, column.Containers()...),
		Row:    typed.Row(statefulSetRow),
		Status: &resource.StatusUpdate{Validate: typed.Check2(validateStatefulSetStatus)},
		Subresources: []resource.Subresource{scale.Subresource(scale.Target[*appsv1.StatefulSet]{
			Get: func(s *appsv1.StatefulSet) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus) {
				return scaleOf(s.Spec.Replicas, s.Status.Replicas, s.Spec.Selector)
			},
			Set: func(s *appsv1.StatefulSet, replicas int32) { s.Spec.Replicas = &replicas },
		})},
	}
	typed.Parts[*appsv1.StatefulSet, appsv1.StatefulSetSpec, appsv1.StatefulSetStatus]{
		Spec:       func(s *appsv1.StatefulSet) *appsv1.StatefulSetSpec { return &s.Spec },
		Status:     func(s *appsv1.StatefulSet) *appsv1.StatefulSetStatus { return &s.Status },
		Generation: true,
	}.Apply(d)
	return d
}

func defaultStatefulSet(s *appsv1.StatefulSet) {
	spec := &s.Spec
	podspec.Default(&spec.Template.Spec)
	if spec.PodManagementPolicy == "" {
		spec.PodManagementPolicy = appsv1.OrderedReadyPodManagement
	}
	if spec.UpdateStrategy.Type == "" {
		spec.UpdateStrategy.Type = appsv1.RollingUpdateStatefulSetStrategyType
		if spec.UpdateStrategy.RollingUpdate == nil {
			spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{}
		}
	}
	if rolling := spec.UpdateStrategy.RollingUpdate; rolling != nil && spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
		setPointer(&rolling.Partition, 0)
		setPointer(&rolling.MaxUnavailable, intstr.FromInt32(1))
	}
	if spec.PersistentVolumeClaimRetentionPolicy == nil {
		spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{}
	}
	retention := spec.PersistentVolumeClaimRetentionPolicy
	if retention.WhenDeleted == "" {
		retention.WhenDeleted = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	}
	if retention.WhenScaled == "" {
		retention.WhenScaled = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	}
	setPointer(&spec.Replicas, 1)
	setPointer(&spec.RevisionHistoryLimit, 10)
	for i := range spec.VolumeClaimTemplates {
		claim := &spec.VolumeClaimTemplates[i]
		claim.APIVersion, claim.Kind = "v1", "PersistentVolumeClaim"
		podspec.DefaultClaimSpec(&claim.Spec)
		if claim.Status.Phase == "" {
			claim.Status.Phase = corev1.ClaimPending
		}
	}
}

func statefulSetRow(s *appsv1.StatefulSet, now metav1.Time) []any {
	names, images := column.ContainerCells(s.Spec.Template.Spec.Containers)
	return []any{
		s.Name, fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, ptr.Deref(s.Spec.Replicas, 1)),
		column.Since(s.CreationTimestamp, now), names, images,
	}
}

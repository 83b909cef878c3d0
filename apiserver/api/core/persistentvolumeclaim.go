package core

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/podspec"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// PersistentVolumeClaim defines the kind.
func PersistentVolumeClaim() *resource.Definition {
	return &resource.Definition{
		Kind:                     corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"),
		Resource:                 "persistentvolumeclaims",
		ShortNames:               []string{"pvc"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &corev1.PersistentVolumeClaim{} },
		NewList:                  func() runtime.Object { return &corev1.PersistentVolumeClaimList{} },
		Default:                  typed.Do(defaultClaim),
		PrepareCreate:            typed.Do(createClaim),
		PrepareUpdate:            typed.Do2(updateClaim),
		Validate:                 typed.Check(validateClaim),
		ValidateUpdate:           typed.Check2(validateClaimUpdate),
		AllowUnconditionalUpdate: true,
		Columns:                  claimColumns(),
		Row:                      typed.Row(claimRow),
		Status: &resource.StatusUpdate{
			Prepare:  typed.Do2(func(c, old *corev1.PersistentVolumeClaim) { c.Spec = old.Spec }),
			Validate: typed.Check2(validateClaimStatus),
		},
	}
}

func defaultClaim(c *corev1.PersistentVolumeClaim) {
	if c.Status.Phase == "" {
		c.Status.Phase = corev1.ClaimPending
	}
	podspec.DefaultClaimSpec(&c.Spec)
}

func createClaim(c *corev1.PersistentVolumeClaim) {
	c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
	normalizeDataSource(&c.Spec)
}

func updateClaim(c, old *corev1.PersistentVolumeClaim) {
	c.Status = old.Status
	normalizeDataSource(&c.Spec)
}

// normalizeDataSource keeps dataSource and dataSourceRef equal where one of
// them is left out and the other says something it can express (KEP-1495).
func normalizeDataSource(spec *corev1.PersistentVolumeClaimSpec) {
	source, ref := spec.DataSource, spec.DataSourceRef
	switch {
	case source != nil && ref == nil:
		spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: source.APIGroup, Kind: source.Kind, Name: source.Name}
	case ref != nil && source == nil && ptr.Deref(ref.Namespace, "") == "":
		spec.DataSource = &corev1.TypedLocalObjectReference{APIGroup: ref.APIGroup, Kind: ref.Kind, Name: ref.Name}
	}
}

func claimColumns() []column.Definition {
	spec, status := corev1.PersistentVolumeClaimSpec{}.SwaggerDoc(), corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()
	return append([]column.Definition{
		column.Name(),
		column.Text("Status", status["phase"]),
		column.Text("Volume", spec["volumeName"]),
		column.Text("Capacity", status["capacity"]),
		column.Text("Access Modes", status["accessModes"]),
		column.Text("StorageClass", "StorageClass of the pvc"),
		column.Text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
		column.Age(),
	}, column.Wide(column.Text("VolumeMode", spec["volumeMode"]))...)
}

func claimRow(c *corev1.PersistentVolumeClaim, now metav1.Time) []any {
	phase := string(c.Status.Phase)
	if c.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	class := ptr.Deref(c.Spec.StorageClassName, "")
	if legacy, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		class = legacy
	}
	capacity, modes := "", ""
	if c.Spec.VolumeName != "" {
		size := c.Status.Capacity[corev1.ResourceStorage]
		capacity, modes = size.String(), accessModes(c.Status.AccessModes)
	}
	return []any{
		c.Name, phase, c.Spec.VolumeName, capacity, modes, class, orUnset(c.Spec.VolumeAttributesClassName),
		column.Since(c.CreationTimestamp, now), volumeMode(c.Spec.VolumeMode),
	}
}

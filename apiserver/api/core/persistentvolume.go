package core

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/podspec"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// PersistentVolume defines the kind.
func PersistentVolume() *resource.Definition {
	return &resource.Definition{
		Kind:       corev1.SchemeGroupVersion.WithKind("PersistentVolume"),
		Resource:   "persistentvolumes",
		ShortNames: []string{"pv"},
		New:        func() runtime.Object { return &corev1.PersistentVolume{} },
		NewList:    func() runtime.Object { return &corev1.PersistentVolumeList{} },
		Default:    typed.Do(defaultPersistentVolume),
		PrepareCreate: typed.Do(func(v *corev1.PersistentVolume) {
			v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending}
		}),
		PrepareUpdate:            typed.Do2(func(v, old *corev1.PersistentVolume) { v.Status = old.Status }),
		Validate:                 typed.Check(validatePersistentVolume),
		ValidateUpdate:           typed.Check2(validatePersistentVolumeUpdate),
		AllowUnconditionalUpdate: true,
		Columns:                  persistentVolumeColumns(),
		Row:                      typed.Row(persistentVolumeRow),
		Status: &resource.StatusUpdate{
			Prepare: typed.Do2(func(v, old *corev1.PersistentVolume) { v.Spec = old.Spec }),
		},
	}
}

func defaultPersistentVolume(v *corev1.PersistentVolume) {
	if v.Status.Phase == "" {
		v.Status.Phase = corev1.VolumePending
	}
	if v.Spec.PersistentVolumeReclaimPolicy == "" {
		v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	}
	if v.Spec.VolumeMode == nil {
		v.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeFilesystem)
	}
	source := &v.Spec.PersistentVolumeSource
	if source.HostPath != nil && source.HostPath.Type == nil {
		source.HostPath.Type = ptr.To(corev1.HostPathUnset)
	}
	if source.ISCSI != nil && source.ISCSI.ISCSIInterface == "" {
		source.ISCSI.ISCSIInterface = "default"
	}
	if source.AzureDisk != nil {
		podspec.DefaultAzureDisk(source.AzureDisk)
	}
	if source.RBD != nil {
		fill(&source.RBD.RBDPool, "rbd")
		fill(&source.RBD.RadosUser, "admin")
		fill(&source.RBD.Keyring, "/etc/ceph/keyring")
	}
	if source.ScaleIO != nil {
		fill(&source.ScaleIO.StorageMode, "ThinProvisioned")
		fill(&source.ScaleIO.FSType, "xfs")
	}
}

func fill(target *string, value string) {
	if *target == "" {
		*target = value
	}
}

func persistentVolumeColumns() []column.Definition {
	spec, status := corev1.PersistentVolumeSpec{}.SwaggerDoc(), corev1.PersistentVolumeStatus{}.SwaggerDoc()
	return append([]column.Definition{
		column.Name(),
		column.Text("Capacity", spec["capacity"]),
		column.Text("Access Modes", spec["accessModes"]),
		column.Text("Reclaim Policy", spec["persistentVolumeReclaimPolicy"]),
		column.Text("Status", status["phase"]),
		column.Text("Claim", spec["claimRef"]),
		column.Text("StorageClass", "StorageClass of the pv"),
		column.Text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
		column.Text("Reason", status["reason"]),
		column.Age(),
	}, column.Wide(column.Text("VolumeMode", spec["volumeMode"]))...)
}

func persistentVolumeRow(v *corev1.PersistentVolume, now metav1.Time) []any {
	claim := ""
	if ref := v.Spec.ClaimRef; ref != nil {
		claim = ref.Namespace + "/" + ref.Name
	}
	phase := string(v.Status.Phase)
	if v.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	class := v.Spec.StorageClassName
	if legacy, ok := v.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		class = legacy
	}
	size := v.Spec.Capacity[corev1.ResourceStorage]
	return []any{
		v.Name, size.String(), accessModes(v.Spec.AccessModes), string(v.Spec.PersistentVolumeReclaimPolicy), phase, claim,
		class, orUnset(v.Spec.VolumeAttributesClassName), v.Status.Reason, column.Since(v.CreationTimestamp, now), volumeMode(v.Spec.VolumeMode),
	}
}

func orUnset(name *string) string {
	return ptr.Deref(name, "<unset>")
}

func volumeMode(mode *corev1.PersistentVolumeMode) string {
	return string(ptr.Deref(mode, "<unset>"))
}

// accessModes abbreviates, in a fixed order and each mode once.
func accessModes(modes []corev1.PersistentVolumeAccessMode) string {
	order := []struct {
		mode corev1.PersistentVolumeAccessMode
		text string
	}{
		{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"},
		{corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"},
	}
	var texts []string
	for _, known := range order {
		if slices.Contains(modes, known.mode) {
			texts = append(texts, known.text)
		}
	}
	return strings.Join(texts, ",")
}

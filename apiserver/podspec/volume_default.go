package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// fileMode is what files of configMap, secret, downwardAPI and projected
// volumes get when nothing else is said (core/v1 *VolumeSource.defaultMode).
const fileMode int32 = 0o644

// tokenSeconds is the life of a projected token (core/v1
// ServiceAccountTokenProjection.expirationSeconds).
const tokenSeconds int64 = 3600

func defaultVolume(v *corev1.Volume) {
	if v.VolumeSource == (corev1.VolumeSource{}) {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	defaultLocalVolume(&v.VolumeSource)
	defaultNetworkVolume(&v.VolumeSource)
}

func defaultLocalVolume(s *corev1.VolumeSource) {
	if s.Secret != nil {
		setPointer(&s.Secret.DefaultMode, fileMode)
	}
	if s.ConfigMap != nil {
		setPointer(&s.ConfigMap.DefaultMode, fileMode)
	}
	if s.DownwardAPI != nil {
		setPointer(&s.DownwardAPI.DefaultMode, fileMode)
		defaultDownwardFiles(s.DownwardAPI.Items)
	}
	if s.Projected != nil {
		setPointer(&s.Projected.DefaultMode, fileMode)
		defaultProjections(s.Projected.Sources)
	}
	if s.HostPath != nil {
		setPointer(&s.HostPath.Type, corev1.HostPathUnset)
	}
	if s.Image != nil {
		setString(&s.Image.PullPolicy, pullPolicy(s.Image.Reference))
	}
	if s.Ephemeral != nil && s.Ephemeral.VolumeClaimTemplate != nil {
		DefaultClaimSpec(&s.Ephemeral.VolumeClaimTemplate.Spec)
	}
}

func defaultProjections(sources []corev1.VolumeProjection) {
	for i := range sources {
		if token := sources[i].ServiceAccountToken; token != nil {
			setPointer(&token.ExpirationSeconds, tokenSeconds)
		}
		if downward := sources[i].DownwardAPI; downward != nil {
			defaultDownwardFiles(downward.Items)
		}
	}
}

func defaultDownwardFiles(files []corev1.DownwardAPIVolumeFile) {
	for i := range files {
		defaultFieldRef(files[i].FieldRef)
	}
}

func defaultNetworkVolume(s *corev1.VolumeSource) {
	if s.ISCSI != nil {
		setString(&s.ISCSI.ISCSIInterface, "default")
	}
	if s.RBD != nil {
		setString(&s.RBD.RBDPool, "rbd")
		setString(&s.RBD.RadosUser, "admin")
		setString(&s.RBD.Keyring, "/etc/ceph/keyring")
	}
	if s.AzureDisk != nil {
		DefaultAzureDisk(s.AzureDisk)
	}
	if s.ScaleIO != nil {
		setString(&s.ScaleIO.StorageMode, "ThinProvisioned")
		setString(&s.ScaleIO.FSType, "xfs")
	}
}

// DefaultAzureDisk fills the unset fields of an Azure disk source, which Pods
// and PersistentVolumes share.
func DefaultAzureDisk(disk *corev1.AzureDiskVolumeSource) {
	setPointer(&disk.CachingMode, corev1.AzureDataDiskCachingReadWrite)
	setPointer(&disk.Kind, corev1.AzureSharedBlobDisk)
	setPointer(&disk.FSType, "ext4")
	setPointer(&disk.ReadOnly, false)
}

// DefaultClaimSpec fills the unset fields of a PersistentVolumeClaim's spec.
func DefaultClaimSpec(spec *corev1.PersistentVolumeClaimSpec) {
	setPointer(&spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	roundResources(spec.Resources.Limits)
	roundResources(spec.Resources.Requests)
}

func setPointer[T any](target **T, value T) {
	if *target == nil {
		*target = ptr.To(value)
	}
}

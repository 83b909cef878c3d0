package core

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/podspec"
)

func validatePersistentVolume(v *corev1.PersistentVolume) field.ErrorList {
	spec := field.NewPath("spec")
	errs := podspec.ValidateAccessModes(v.Spec.AccessModes, spec.Child("accessModes"))
	errs = append(errs, validateCapacity(v.Spec.Capacity, spec.Child("capacity"))...)
	policies := []corev1.PersistentVolumeReclaimPolicy{corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain}
	if !slices.Contains(policies, v.Spec.PersistentVolumeReclaimPolicy) {
		errs = append(errs, field.NotSupported(spec.Child("persistentVolumeReclaimPolicy"), v.Spec.PersistentVolumeReclaimPolicy, policies))
	}
	modes := []corev1.PersistentVolumeMode{corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem}
	if mode := v.Spec.VolumeMode; mode != nil && !slices.Contains(modes, *mode) {
		errs = append(errs, field.NotSupported(spec.Child("volumeMode"), *mode, modes))
	}
	if class := v.Spec.StorageClassName; class != "" {
		for _, msg := range validation.IsDNS1123Subdomain(class) {
			errs = append(errs, field.Invalid(spec.Child("storageClassName"), class, msg))
		}
	}
	if affinity := v.Spec.NodeAffinity; affinity != nil {
		at := spec.Child("nodeAffinity", "required")
		if affinity.Required == nil {
			errs = append(errs, field.Required(at, "must specify required node constraints"))
		} else {
			errs = append(errs, podspec.ValidateNodeSelector(affinity.Required, at)...)
		}
	}
	return append(errs, validateVolumeSource(v, spec)...)
}

func validateCapacity(capacity corev1.ResourceList, path *field.Path) field.ErrorList {
	if len(capacity) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	size, ok := capacity[corev1.ResourceStorage]
	if !ok || len(capacity) > 1 {
		return field.ErrorList{field.NotSupported(path, capacity, []corev1.ResourceName{corev1.ResourceStorage})}
	}
	if size.Sign() <= 0 {
		return field.ErrorList{field.Invalid(path.Key(string(corev1.ResourceStorage)), size.String(), "must be greater than zero")}
	}
	return nil
}

func validateVolumeSource(v *corev1.PersistentVolume, spec *field.Path) field.ErrorList {
	source := &v.Spec.PersistentVolumeSource
	var errs field.ErrorList
	set := volumeSources(source)
	switch len(set) {
	case 0:
		errs = append(errs, field.Required(spec, "must specify a volume type"))
	case 1:
	default:
		for _, name := range set[1:] {
			errs = append(errs, field.Forbidden(spec.Child(name), "may not specify more than 1 volume type"))
		}
	}
	if source.HostPath != nil {
		errs = append(errs, podspec.ValidateHostPath(source.HostPath, spec.Child("hostPath"))...)
		if source.HostPath.Path == "/" && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
			errs = append(errs, field.Forbidden(spec.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
		}
	}
	if source.NFS != nil {
		errs = append(errs, podspec.ValidateNFS(source.NFS, spec.Child("nfs"))...)
	}
	if source.Local != nil {
		if source.Local.Path == "" {
			errs = append(errs, field.Required(spec.Child("local", "path"), ""))
		}
		if v.Spec.NodeAffinity == nil {
			errs = append(errs, field.Required(spec.Child("nodeAffinity"), "Local volume requires node affinity"))
		}
	}
	if csi := source.CSI; csi != nil {
		if csi.Driver == "" {
			errs = append(errs, field.Required(spec.Child("csi", "driver"), ""))
		}
		if csi.VolumeHandle == "" {
			errs = append(errs, field.Required(spec.Child("csi", "volumeHandle"), ""))
		}
	}
	return errs
}

// volumeSources names the members of the union that are set.
func volumeSources(s *corev1.PersistentVolumeSource) []string {
	var set []string
	for _, member := range []struct {
		name string
		set  bool
	}{
		{"hostPath", s.HostPath != nil}, {"nfs", s.NFS != nil}, {"local", s.Local != nil}, {"csi", s.CSI != nil},
		{"iscsi", s.ISCSI != nil}, {"fc", s.FC != nil}, {"flexVolume", s.FlexVolume != nil},
		{"gcePersistentDisk", s.GCEPersistentDisk != nil}, {"awsElasticBlockStore", s.AWSElasticBlockStore != nil},
		{"glusterfs", s.Glusterfs != nil}, {"rbd", s.RBD != nil}, {"cephfs", s.CephFS != nil}, {"cinder", s.Cinder != nil},
		{"flocker", s.Flocker != nil}, {"azureDisk", s.AzureDisk != nil}, {"azureFile", s.AzureFile != nil},
		{"vsphereVolume", s.VsphereVolume != nil}, {"quobyte", s.Quobyte != nil}, {"photonPersistentDisk", s.PhotonPersistentDisk != nil},
		{"portworxVolume", s.PortworxVolume != nil}, {"scaleIO", s.ScaleIO != nil}, {"storageos", s.StorageOS != nil},
	} {
		if member.set {
			set = append(set, member.name)
		}
	}
	return set
}

func validatePersistentVolumeUpdate(v, old *corev1.PersistentVolume) field.ErrorList {
	errs := validatePersistentVolume(v)
	spec := field.NewPath("spec")
	if !equality.Semantic.DeepEqual(allowedSource(v, old), old.Spec.PersistentVolumeSource) {
		errs = append(errs, field.Forbidden(spec.Child("persistentvolumesource"), "spec.persistentvolumesource is immutable after creation"))
	}
	errs = append(errs, apivalidation.ValidateImmutableField(v.Spec.VolumeMode, old.Spec.VolumeMode, spec.Child("volumeMode"))...)
	if old.Spec.NodeAffinity != nil && !equality.Semantic.DeepEqual(v.Spec.NodeAffinity, old.Spec.NodeAffinity) {
		errs = append(errs, field.Invalid(spec.Child("nodeAffinity"), v.Spec.NodeAffinity, "field is immutable, except for updating from beta label to GA"))
	}
	return errs
}

// allowedSource lets a CSI volume's secrets for expansion be set.
func allowedSource(v, old *corev1.PersistentVolume) corev1.PersistentVolumeSource {
	source := *v.Spec.PersistentVolumeSource.DeepCopy()
	if source.CSI != nil && old.Spec.CSI != nil && (old.Spec.CSI.ControllerExpandSecretRef == nil || v.DeletionTimestamp != nil) {
		source.CSI.ControllerExpandSecretRef = old.Spec.CSI.ControllerExpandSecretRef
	}
	return source
}

func validateClaim(c *corev1.PersistentVolumeClaim) field.ErrorList {
	return podspec.ValidateClaimSpec(&c.Spec, field.NewPath("spec"))
}

func validateClaimUpdate(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	errs := validateClaim(c)
	spec := field.NewPath("spec")
	// The binder sets volumeName once; a storage class may be named as long
	// as none is; requests may grow once bound.
	allowed := c.Spec.DeepCopy()
	if old.Spec.VolumeName == "" {
		allowed.VolumeName = old.Spec.VolumeName
	}
	if ptr.Deref(old.Spec.StorageClassName, "") == "" && old.Status.Phase != corev1.ClaimBound {
		allowed.StorageClassName = old.Spec.StorageClassName
	}
	allowed.VolumeAttributesClassName = old.Spec.VolumeAttributesClassName
	size, before := c.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	if old.Status.Phase == corev1.ClaimBound {
		if size.Cmp(before) < 0 && size.Cmp(old.Status.Capacity[corev1.ResourceStorage]) <= 0 {
			errs = append(errs, field.Forbidden(spec.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
		}
		allowed.Resources.Requests = old.Spec.Resources.Requests
	}
	if !equality.Semantic.DeepEqual(allowed, &old.Spec) {
		errs = append(errs, field.Forbidden(spec, "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"))
	}
	return append(errs, apivalidation.ValidateImmutableField(c.Spec.VolumeMode, old.Spec.VolumeMode, spec.Child("volumeMode"))...)
}

func validateClaimStatus(c, _ *corev1.PersistentVolumeClaim) field.ErrorList {
	var errs field.ErrorList
	status := field.NewPath("status")
	for name, list := range map[string]corev1.ResourceList{"capacity": c.Status.Capacity, "allocatedResources": c.Status.AllocatedResources} {
		for resource, quantity := range list {
			errs = append(errs, podspec.ValidateQuantity(resource, quantity, status.Child(name).Key(string(resource)))...)
		}
	}
	return errs
}

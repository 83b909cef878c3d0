package podspec

import (
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateVolumes returns the volumes by name, for mounts to refer to.
func validateVolumes(volumes []corev1.Volume, at *field.Path) (map[string]*corev1.Volume, field.ErrorList) {
	var errs field.ErrorList
	byName := map[string]*corev1.Volume{}
	for i := range volumes {
		v, here := &volumes[i], at.Index(i)
		switch {
		case v.Name == "":
			errs = append(errs, field.Required(here.Child("name"), ""))
		case byName[v.Name] != nil:
			errs = append(errs, field.Duplicate(here.Child("name"), v.Name))
		default:
			errs = append(errs, invalidAll(here.Child("name"), v.Name, validation.IsDNS1123Label(v.Name))...)
		}
		byName[v.Name] = v
		errs = append(errs, validateVolumeSource(&v.VolumeSource, here)...)
	}
	return byName, errs
}

// source is one member of the union VolumeSource.
type source struct {
	name     string
	set      bool
	validate func(*field.Path) field.ErrorList
}

func validateVolumeSource(s *corev1.VolumeSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	count := 0
	for _, member := range append(localSources(s), networkSources(s)...) {
		if !member.set {
			continue
		}
		if count++; count > 1 {
			errs = append(errs, field.Forbidden(at.Child(member.name), "may not specify more than 1 volume type"))
			continue
		}
		errs = append(errs, member.validate(at.Child(member.name))...)
	}
	if count == 0 {
		errs = append(errs, field.Required(at, "must specify a volume type"))
	}
	return errs
}

// localSources are the types a node makes by itself or from API objects.
func localSources(s *corev1.VolumeSource) []source {
	return []source{
		{"emptyDir", s.EmptyDir != nil, func(at *field.Path) field.ErrorList { return validateEmptyDir(s.EmptyDir, at) }},
		{"hostPath", s.HostPath != nil, func(at *field.Path) field.ErrorList { return ValidateHostPath(s.HostPath, at) }},
		{"secret", s.Secret != nil, func(at *field.Path) field.ErrorList {
			errs := requiredText(s.Secret.SecretName, at.Child("secretName"))
			errs = append(errs, validateMode(s.Secret.DefaultMode, at.Child("defaultMode"))...)
			return append(errs, validateItems(s.Secret.Items, at.Child("items"))...)
		}},
		{"configMap", s.ConfigMap != nil, func(at *field.Path) field.ErrorList {
			errs := requiredText(s.ConfigMap.Name, at.Child("name"))
			errs = append(errs, validateMode(s.ConfigMap.DefaultMode, at.Child("defaultMode"))...)
			return append(errs, validateItems(s.ConfigMap.Items, at.Child("items"))...)
		}},
		{"downwardAPI", s.DownwardAPI != nil, func(at *field.Path) field.ErrorList {
			errs := validateMode(s.DownwardAPI.DefaultMode, at.Child("defaultMode"))
			return append(errs, validateDownwardFiles(s.DownwardAPI.Items, at)...)
		}},
		{"projected", s.Projected != nil, func(at *field.Path) field.ErrorList { return validateProjected(s.Projected, at) }},
		{"persistentVolumeClaim", s.PersistentVolumeClaim != nil, func(at *field.Path) field.ErrorList {
			return requiredText(s.PersistentVolumeClaim.ClaimName, at.Child("claimName"))
		}},
		{"ephemeral", s.Ephemeral != nil, func(at *field.Path) field.ErrorList { return validateEphemeral(s.Ephemeral, at) }},
		{"image", s.Image != nil, func(at *field.Path) field.ErrorList { return validateImageVolume(s.Image, at) }},
		{"gitRepo", s.GitRepo != nil, func(at *field.Path) field.ErrorList {
			errs := requiredText(s.GitRepo.Repository, at.Child("repository"))
			return append(errs, validateDescendingPath(s.GitRepo.Directory, at.Child("directory"))...)
		}},
	}
}

// networkSources are the types that need a server, a cloud or a driver.
func networkSources(s *corev1.VolumeSource) []source {
	return append([]source{
		{"nfs", s.NFS != nil, func(at *field.Path) field.ErrorList { return ValidateNFS(s.NFS, at) }},
		{"csi", s.CSI != nil, func(at *field.Path) field.ErrorList { return requiredText(s.CSI.Driver, at.Child("driver")) }},
		{"iscsi", s.ISCSI != nil, func(at *field.Path) field.ErrorList {
			errs := requiredText(s.ISCSI.TargetPortal, at.Child("targetPortal"))
			errs = append(errs, requiredText(s.ISCSI.IQN, at.Child("iqn"))...)
			if s.ISCSI.Lun < 0 || s.ISCSI.Lun > 255 {
				errs = append(errs, field.Invalid(at.Child("lun"), s.ISCSI.Lun, validation.InclusiveRangeError(0, 255)))
			}
			return errs
		}},
		{"fc", s.FC != nil, func(at *field.Path) field.ErrorList {
			if len(s.FC.TargetWWNs) == 0 && len(s.FC.WWIDs) == 0 {
				return field.ErrorList{field.Required(at.Child("targetWWNs"), "must specify either targetWWNs or wwids, but not both")}
			}
			return nil
		}},
		{"flexVolume", s.FlexVolume != nil, func(at *field.Path) field.ErrorList {
			return requiredText(s.FlexVolume.Driver, at.Child("driver"))
		}},
	}, cloudSources(s)...)
}

// cloudSources are in-tree types of clouds and storage systems; CSI drivers
// have taken them over.
func cloudSources(s *corev1.VolumeSource) []source {
	return []source{
		{"gcePersistentDisk", s.GCEPersistentDisk != nil, func(at *field.Path) field.ErrorList {
			return requiredText(s.GCEPersistentDisk.PDName, at.Child("pdName"))
		}},
		{"awsElasticBlockStore", s.AWSElasticBlockStore != nil, func(at *field.Path) field.ErrorList {
			return requiredText(s.AWSElasticBlockStore.VolumeID, at.Child("volumeID"))
		}},
		{"glusterfs", s.Glusterfs != nil, func(at *field.Path) field.ErrorList {
			return append(requiredText(s.Glusterfs.EndpointsName, at.Child("endpoints")), requiredText(s.Glusterfs.Path, at.Child("path"))...)
		}},
		{"rbd", s.RBD != nil, func(at *field.Path) field.ErrorList {
			errs := requiredText(s.RBD.RBDImage, at.Child("image"))
			if len(s.RBD.CephMonitors) == 0 {
				errs = append(errs, field.Required(at.Child("monitors"), ""))
			}
			return errs
		}},
		{"cephfs", s.CephFS != nil, func(at *field.Path) field.ErrorList {
			if len(s.CephFS.Monitors) == 0 {
				return field.ErrorList{field.Required(at.Child("monitors"), "")}
			}
			return nil
		}},
		{"cinder", s.Cinder != nil, func(at *field.Path) field.ErrorList { return requiredText(s.Cinder.VolumeID, at.Child("volumeID")) }},
		{"flocker", s.Flocker != nil, func(at *field.Path) field.ErrorList {
			if s.Flocker.DatasetName == "" && s.Flocker.DatasetUUID == "" {
				return field.ErrorList{field.Required(at, "one of datasetName and datasetUUID is required")}
			}
			return nil
		}},
		{"azureDisk", s.AzureDisk != nil, func(at *field.Path) field.ErrorList {
			return append(requiredText(s.AzureDisk.DiskName, at.Child("diskName")), requiredText(s.AzureDisk.DataDiskURI, at.Child("diskURI"))...)
		}},
		{"azureFile", s.AzureFile != nil, func(at *field.Path) field.ErrorList {
			return append(requiredText(s.AzureFile.SecretName, at.Child("secretName")), requiredText(s.AzureFile.ShareName, at.Child("shareName"))...)
		}},
		{"vsphereVolume", s.VsphereVolume != nil, func(at *field.Path) field.ErrorList {
			return requiredText(s.VsphereVolume.VolumePath, at.Child("volumePath"))
		}},
		{"quobyte", s.Quobyte != nil, func(at *field.Path) field.ErrorList {
			return append(requiredText(s.Quobyte.Registry, at.Child("registry")), requiredText(s.Quobyte.Volume, at.Child("volume"))...)
		}},
		{"photonPersistentDisk", s.PhotonPersistentDisk != nil, func(at *field.Path) field.ErrorList {
			return requiredText(s.PhotonPersistentDisk.PdID, at.Child("pdID"))
		}},
		{"portworxVolume", s.PortworxVolume != nil, func(at *field.Path) field.ErrorList {
			return requiredText(s.PortworxVolume.VolumeID, at.Child("volumeID"))
		}},
		{"scaleIO", s.ScaleIO != nil, func(at *field.Path) field.ErrorList {
			errs := requiredText(s.ScaleIO.Gateway, at.Child("gateway"))
			errs = append(errs, requiredText(s.ScaleIO.System, at.Child("system"))...)
			return append(errs, requiredText(s.ScaleIO.VolumeName, at.Child("volumeName"))...)
		}},
		{"storageos", s.StorageOS != nil, func(at *field.Path) field.ErrorList {
			return requiredText(s.StorageOS.VolumeName, at.Child("volumeName"))
		}},
	}
}

func requiredText(text string, at *field.Path) field.ErrorList {
	if text == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return nil
}

func validateEmptyDir(dir *corev1.EmptyDirVolumeSource, at *field.Path) field.ErrorList {
	if dir.SizeLimit != nil && dir.SizeLimit.Sign() < 0 {
		return field.ErrorList{field.Forbidden(at.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity")}
	}
	return nil
}

// ValidateHostPath checks a path on the node, for Pods and PersistentVolumes.
func ValidateHostPath(host *corev1.HostPathVolumeSource, at *field.Path) field.ErrorList {
	if host.Path == "" {
		return field.ErrorList{field.Required(at.Child("path"), "")}
	}
	errs := validateNoBacksteps(host.Path, at.Child("path"))
	if host.Type == nil || *host.Type == corev1.HostPathUnset {
		return errs
	}
	known := []corev1.HostPathType{
		corev1.HostPathBlockDev, corev1.HostPathCharDev, corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate,
		corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket,
	}
	if !slices.Contains(known, *host.Type) {
		errs = append(errs, field.NotSupported(at.Child("type"), *host.Type, known))
	}
	return errs
}

// ValidateNFS checks an NFS export, for Pods and PersistentVolumes.
func ValidateNFS(nfs *corev1.NFSVolumeSource, at *field.Path) field.ErrorList {
	errs := append(requiredText(nfs.Server, at.Child("server")), requiredText(nfs.Path, at.Child("path"))...)
	if !path.IsAbs(nfs.Path) {
		errs = append(errs, field.Invalid(at.Child("path"), nfs.Path, "must be an absolute path"))
	}
	return errs
}

func validateMode(mode *int32, at *field.Path) field.ErrorList {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		return field.ErrorList{field.Invalid(at, *mode, "must be a number between 0 and 0777 (octal), both inclusive")}
	}
	return nil
}

func validateItems(items []corev1.KeyToPath, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, item := range items {
		here := at.Index(i)
		errs = append(errs, requiredText(item.Key, here.Child("key"))...)
		errs = append(errs, validateFilePath(item.Path, here.Child("path"))...)
		errs = append(errs, validateMode(item.Mode, here.Child("mode"))...)
	}
	return errs
}

// validateFilePath checks where a file appears in a volume. Names that begin
// with two dots are what atomic updates of the volume use.
func validateFilePath(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	errs := validateDescendingPath(name, at)
	if len(errs) == 0 && strings.HasPrefix(name, "..") {
		errs = append(errs, field.Invalid(at, name, "must not start with '..'"))
	}
	return errs
}

// volumeFields are the fields of a Pod a file may be filled from; labels and
// annotations also as a whole.
var volumeFields = []string{"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"}

func validateDownwardFiles(files []corev1.DownwardAPIVolumeFile, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range files {
		file := &files[i]
		errs = append(errs, validateFilePath(file.Path, at.Child("path"))...)
		switch {
		case file.FieldRef != nil:
			errs = append(errs, validateFieldRef(file.FieldRef, volumeFields, at.Child("fieldRef"))...)
			if file.ResourceFieldRef != nil {
				errs = append(errs, field.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
			}
		case file.ResourceFieldRef != nil:
			errs = append(errs, validateResourceRef(file.ResourceFieldRef, true, at.Child("resourceFieldRef"))...)
		default:
			errs = append(errs, field.Required(at.Child("fieldRef"), "one of fieldRef and resourceFieldRef is required"))
		}
		errs = append(errs, validateMode(file.Mode, at.Child("mode"))...)
	}
	return errs
}

func validateProjected(p *corev1.ProjectedVolumeSource, at *field.Path) field.ErrorList {
	errs := validateMode(p.DefaultMode, at.Child("defaultMode"))
	files := map[string]bool{}
	for i := range p.Sources {
		here := at.Child("sources").Index(i)
		errs = append(errs, validateProjection(&p.Sources[i], here)...)
		for _, name := range projectedPaths(&p.Sources[i]) {
			if files[name] {
				errs = append(errs, field.Invalid(at, name, "conflicting duplicate paths"))
			}
			files[name] = true
		}
	}
	return errs
}

func projectedPaths(s *corev1.VolumeProjection) []string {
	var names []string
	if s.Secret != nil {
		for _, item := range s.Secret.Items {
			names = append(names, item.Path)
		}
	}
	if s.ConfigMap != nil {
		for _, item := range s.ConfigMap.Items {
			names = append(names, item.Path)
		}
	}
	if s.DownwardAPI != nil {
		for _, item := range s.DownwardAPI.Items {
			names = append(names, item.Path)
		}
	}
	if s.ServiceAccountToken != nil && s.ServiceAccountToken.Path != "" {
		names = append(names, s.ServiceAccountToken.Path)
	}
	if s.ClusterTrustBundle != nil && s.ClusterTrustBundle.Path != "" {
		names = append(names, s.ClusterTrustBundle.Path)
	}
	return names
}

func validateProjection(s *corev1.VolumeProjection, at *field.Path) field.ErrorList {
	members := []source{
		{"secret", s.Secret != nil, func(at *field.Path) field.ErrorList {
			return append(requiredText(s.Secret.Name, at.Child("name")), validateItems(s.Secret.Items, at.Child("items"))...)
		}},
		{"configMap", s.ConfigMap != nil, func(at *field.Path) field.ErrorList {
			return append(requiredText(s.ConfigMap.Name, at.Child("name")), validateItems(s.ConfigMap.Items, at.Child("items"))...)
		}},
		{"downwardAPI", s.DownwardAPI != nil, func(at *field.Path) field.ErrorList { return validateDownwardFiles(s.DownwardAPI.Items, at) }},
		{"serviceAccountToken", s.ServiceAccountToken != nil, func(at *field.Path) field.ErrorList {
			return validateTokenProjection(s.ServiceAccountToken, at)
		}},
		{"clusterTrustBundle", s.ClusterTrustBundle != nil, func(at *field.Path) field.ErrorList {
			return validateTrustBundle(s.ClusterTrustBundle, at)
		}},
		{"podCertificate", s.PodCertificate != nil, func(at *field.Path) field.ErrorList {
			return append(requiredText(s.PodCertificate.SignerName, at.Child("signerName")), requiredText(s.PodCertificate.KeyType, at.Child("keyType"))...)
		}},
	}
	var errs field.ErrorList
	count := 0
	for _, member := range members {
		if !member.set {
			continue
		}
		if count++; count > 1 {
			errs = append(errs, field.Forbidden(at.Child(member.name), "may not specify more than 1 volume type per source"))
			continue
		}
		errs = append(errs, member.validate(at.Child(member.name))...)
	}
	if count == 0 {
		errs = append(errs, field.Required(at, "must specify a volume type"))
	}
	return errs
}

func validateTokenProjection(token *corev1.ServiceAccountTokenProjection, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if seconds := token.ExpirationSeconds; seconds != nil {
		switch {
		case *seconds < 600:
			errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *seconds, "may not specify a duration less than 10 minutes"))
		case *seconds > 1<<32:
			errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *seconds, "may not specify a duration larger than 2^32 seconds"))
		}
	}
	return append(errs, validateFilePath(token.Path, at.Child("path"))...)
}

func validateTrustBundle(bundle *corev1.ClusterTrustBundleProjection, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	named, signed := bundle.Name != nil, bundle.SignerName != nil
	switch {
	case named && signed:
		errs = append(errs, field.Invalid(at, bundle, "only one of name and signerName may be used"))
	case !named && !signed:
		errs = append(errs, field.Required(at, "either name or signerName must be specified"))
	}
	if bundle.LabelSelector != nil {
		errs = append(errs, metavalidation.ValidateLabelSelector(bundle.LabelSelector, metavalidation.LabelSelectorValidationOptions{}, at.Child("labelSelector"))...)
	}
	return append(errs, validateFilePath(bundle.Path, at.Child("path"))...)
}

func validateEphemeral(e *corev1.EphemeralVolumeSource, at *field.Path) field.ErrorList {
	if e.VolumeClaimTemplate == nil {
		return field.ErrorList{field.Required(at.Child("volumeClaimTemplate"), "")}
	}
	return ValidateClaimSpec(&e.VolumeClaimTemplate.Spec, at.Child("volumeClaimTemplate", "spec"))
}

func validateImageVolume(image *corev1.ImageVolumeSource, at *field.Path) field.ErrorList {
	errs := requiredText(image.Reference, at.Child("reference"))
	return append(errs, oneOf(image.PullPolicy, at.Child("pullPolicy"), corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
}

// accessModes are the ways a volume can be mounted.
var accessModes = []corev1.PersistentVolumeAccessMode{
	corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod,
}

// ValidateAccessModes checks modes of a volume or claim.
func ValidateAccessModes(modes []corev1.PersistentVolumeAccessMode, at *field.Path) field.ErrorList {
	if len(modes) == 0 {
		return field.ErrorList{field.Required(at, "at least 1 access mode is required")}
	}
	var errs field.ErrorList
	for _, mode := range modes {
		if !slices.Contains(accessModes, mode) {
			errs = append(errs, field.NotSupported(at, mode, accessModes))
		}
	}
	if len(modes) > 1 && slices.Contains(modes, corev1.ReadWriteOncePod) {
		errs = append(errs, field.Forbidden(at, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

// ValidateClaimSpec checks the spec of a PersistentVolumeClaim.
func ValidateClaimSpec(spec *corev1.PersistentVolumeClaimSpec, at *field.Path) field.ErrorList {
	errs := ValidateAccessModes(spec.AccessModes, at.Child("accessModes"))
	if spec.Selector != nil {
		errs = append(errs, metavalidation.ValidateLabelSelector(spec.Selector, metavalidation.LabelSelectorValidationOptions{}, at.Child("selector"))...)
	}
	storage, ok := spec.Resources.Requests[corev1.ResourceStorage]
	requests := at.Child("resources")
	switch {
	case !ok:
		errs = append(errs, field.Required(requests.Key(string(corev1.ResourceStorage)), ""))
	case storage.Sign() <= 0:
		errs = append(errs, field.Invalid(requests.Key(string(corev1.ResourceStorage)), storage.String(), notPositive))
	}
	if class := spec.StorageClassName; class != nil && *class != "" {
		errs = append(errs, invalidAll(at.Child("storageClassName"), *class, validation.IsDNS1123Subdomain(*class))...)
	}
	if spec.VolumeMode != nil {
		errs = append(errs, oneOf(*spec.VolumeMode, at.Child("volumeMode"), corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	}
	if source := spec.DataSource; source != nil {
		errs = append(errs, validateDataSource(source.APIGroup, source.Kind, source.Name, at.Child("dataSource"))...)
	}
	if ref := spec.DataSourceRef; ref != nil {
		errs = append(errs, validateDataSource(ref.APIGroup, ref.Kind, ref.Name, at.Child("dataSourceRef"))...)
	}
	if class := spec.VolumeAttributesClassName; class != nil && *class != "" {
		errs = append(errs, invalidAll(at.Child("volumeAttributesClassName"), *class, validation.IsDNS1123Subdomain(*class))...)
	}
	return errs
}

func validateDataSource(group *string, kind, name string, at *field.Path) field.ErrorList {
	errs := append(requiredText(name, at.Child("name")), requiredText(kind, at.Child("kind"))...)
	if (group == nil || *group == "") && kind != "" && kind != "PersistentVolumeClaim" {
		errs = append(errs, field.Invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
	}
	return errs
}

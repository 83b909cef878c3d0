package storage

import (
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// VolumeAttachment defines the kind.
func VolumeAttachment() *resource.Definition {
	spec := storagev1.VolumeAttachmentSpec{}.SwaggerDoc()
	d := &resource.Definition{
		Kind:           storagev1.SchemeGroupVersion.WithKind("VolumeAttachment"),
		Resource:       "volumeattachments",
		New:            func() runtime.Object { return &storagev1.VolumeAttachment{} },
		NewList:        func() runtime.Object { return &storagev1.VolumeAttachmentList{} },
		Validate:       typed.Check(validateVolumeAttachment),
		ValidateUpdate: typed.Check2(validateVolumeAttachmentUpdate),
		Columns: []column.Definition{
			column.Name(),
			column.Text("Attacher", spec["attacher"]),
			column.Text("PV", storagev1.VolumeAttachmentSource{}.SwaggerDoc()["persistentVolumeName"]),
			column.Text("Node", spec["nodeName"]),
			column.Bool("Attached", storagev1.VolumeAttachmentStatus{}.SwaggerDoc()["attached"]),
			column.Age(),
		},
		Row: typed.Row(func(a *storagev1.VolumeAttachment, now metav1.Time) []any {
			return []any{
				a.Name, a.Spec.Attacher, ptr.Deref(a.Spec.Source.PersistentVolumeName, ""), a.Spec.NodeName,
				a.Status.Attached, column.Since(a.CreationTimestamp, now),
			}
		}),
	}
	typed.Parts[*storagev1.VolumeAttachment, storagev1.VolumeAttachmentSpec, storagev1.VolumeAttachmentStatus]{
		Spec:   func(a *storagev1.VolumeAttachment) *storagev1.VolumeAttachmentSpec { return &a.Spec },
		Status: func(a *storagev1.VolumeAttachment) *storagev1.VolumeAttachmentStatus { return &a.Status },
	}.Apply(d)
	return d
}

func validateVolumeAttachment(a *storagev1.VolumeAttachment) field.ErrorList {
	spec := field.NewPath("spec")
	errs := validateDriverName(a.Spec.Attacher, spec.Child("attacher"))
	source := a.Spec.Source
	switch {
	case source.InlineVolumeSpec == nil && source.PersistentVolumeName == nil:
		errs = append(errs, field.Required(spec.Child("source"), "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
	case source.InlineVolumeSpec != nil && source.PersistentVolumeName != nil:
		errs = append(errs, field.Forbidden(spec.Child("source"), "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
	case source.PersistentVolumeName != nil:
		for _, msg := range validation.IsDNS1123Subdomain(*source.PersistentVolumeName) {
			errs = append(errs, field.Invalid(spec.Child("source", "persistentVolumeName"), *source.PersistentVolumeName, msg))
		}
	}
	for _, msg := range validation.IsDNS1123Subdomain(a.Spec.NodeName) {
		errs = append(errs, field.Invalid(spec.Child("nodeName"), a.Spec.NodeName, msg))
	}
	return errs
}

func validateVolumeAttachmentUpdate(a, old *storagev1.VolumeAttachment) field.ErrorList {
	errs := validateVolumeAttachment(a)
	if !equality.Semantic.DeepEqual(a.Spec, old.Spec) {
		errs = append(errs, field.Invalid(field.NewPath("spec"), a.Spec, "field is immutable"))
	}
	return errs
}

func validateDriverName(name string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name == "" {
		return field.ErrorList{field.Required(at, name)}
	}
	// 63 characters: the name ends up in label values and socket paths.
	if len(name) > 63 {
		errs = append(errs, field.TooLong(at, name, 63))
	}
	for _, msg := range validation.IsDNS1123Subdomain(lower(name)) {
		errs = append(errs, field.Invalid(at, name, msg))
	}
	return errs
}

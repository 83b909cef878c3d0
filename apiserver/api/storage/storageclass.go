package storage

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"strings"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// StorageClass defines the kind.
func StorageClass() *resource.Definition {
	doc := storagev1.StorageClass{}.SwaggerDoc()
	return &resource.Definition{
		Kind:                     storagev1.SchemeGroupVersion.WithKind("StorageClass"),
		Resource:                 "storageclasses",
		ShortNames:               []string{"sc"},
		New:                      func() runtime.Object { return &storagev1.StorageClass{} },
		NewList:                  func() runtime.Object { return &storagev1.StorageClassList{} },
		Default:                  typed.Do(defaultStorageClass),
		Validate:                 typed.Check(validateStorageClass),
		ValidateUpdate:           typed.Check2(validateStorageClassUpdate),
		AllowUnconditionalUpdate: true,
		Columns: []column.Definition{
			column.Name(),
			column.Text("Provisioner", doc["provisioner"]),
			column.Text("ReclaimPolicy", doc["reclaimPolicy"]),
			column.Text("VolumeBindingMode", doc["volumeBindingMode"]),
			column.Bool("AllowVolumeExpansion", doc["allowVolumeExpansion"]),
			column.Age(),
		},
		Row: typed.Row(func(c *storagev1.StorageClass, now metav1.Time) []any {
			name := c.Name
			if c.Annotations[defaultClassAnnotation] == "true" || c.Annotations[betaDefaultClassAnnotation] == "true" {
				name += " (default)"
			}
			return []any{
				name, c.Provisioner, string(ptr.Deref(c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)),
				string(ptr.Deref(c.VolumeBindingMode, storagev1.VolumeBindingImmediate)),
				ptr.Deref(c.AllowVolumeExpansion, false), column.Since(c.CreationTimestamp, now),
			}
		}),
	}
}

// Annotations that make a class the default one.
const (
	defaultClassAnnotation     = "storageclass.kubernetes.io/is-default-class"
	betaDefaultClassAnnotation = "storageclass.beta.kubernetes.io/is-default-class"
)

func defaultStorageClass(c *storagev1.StorageClass) {
	if c.ReclaimPolicy == nil {
		c.ReclaimPolicy = ptr.To(corev1.PersistentVolumeReclaimDelete)
	}
	if c.VolumeBindingMode == nil {
		c.VolumeBindingMode = ptr.To(storagev1.VolumeBindingImmediate)
	}
}

func validateStorageClass(c *storagev1.StorageClass) field.ErrorList {
	var errs field.ErrorList
	if c.Provisioner == "" {
		errs = append(errs, field.Required(field.NewPath("provisioner"), c.Provisioner))
	} else {
		for _, msg := range validation.IsQualifiedName(strings.ToLower(c.Provisioner)) {
			errs = append(errs, field.Invalid(field.NewPath("provisioner"), c.Provisioner, msg))
		}
	}
	// 512 entries, 256 KiB: bounds of storage/v1.
	if len(c.Parameters) > 512 {
		errs = append(errs, field.TooLong(field.NewPath("parameters"), "Provisioner Parameters exceeded max allowed", 512))
	}
	for key := range c.Parameters {
		if key == "" {
			errs = append(errs, field.Invalid(field.NewPath("parameters"), key, "field can not be empty"))
		}
	}
	if p := c.ReclaimPolicy; p != nil && *p != corev1.PersistentVolumeReclaimDelete && *p != corev1.PersistentVolumeReclaimRetain {
		known := []corev1.PersistentVolumeReclaimPolicy{corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain}
		errs = append(errs, field.NotSupported(field.NewPath("reclaimPolicy"), *p, known))
	}
	if m := c.VolumeBindingMode; m == nil {
		errs = append(errs, field.Required(field.NewPath("volumeBindingMode"), ""))
	} else if *m != storagev1.VolumeBindingImmediate && *m != storagev1.VolumeBindingWaitForFirstConsumer {
		known := []storagev1.VolumeBindingMode{storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer}
		errs = append(errs, field.NotSupported(field.NewPath("volumeBindingMode"), *m, known))
	}
	return errs
}

func validateStorageClassUpdate(c, old *storagev1.StorageClass) field.ErrorList {
	errs := validateStorageClass(c)
	forbid := func(name string) {
		errs = append(errs, field.Forbidden(field.NewPath(name), "updates to "+name+" are forbidden."))
	}
	if len(apivalidation.ValidateImmutableField(c.Parameters, old.Parameters, nil)) > 0 {
		forbid("parameters")
	}
	if c.Provisioner != old.Provisioner {
		forbid("provisioner")
	}
	if !ptr.Equal(c.ReclaimPolicy, old.ReclaimPolicy) {
		forbid("reclaimPolicy")
	}
	return append(errs, apivalidation.ValidateImmutableField(c.VolumeBindingMode, old.VolumeBindingMode, field.NewPath("volumeBindingMode"))...)
}

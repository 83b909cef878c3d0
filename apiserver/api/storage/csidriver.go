package storage

import (
	"slices"
	"strconv"
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// CSIDriver defines the kind.
func CSIDriver() *resource.Definition {
	spec := storagev1.CSIDriverSpec{}.SwaggerDoc()
	d := &resource.Definition{
		Kind:           storagev1.SchemeGroupVersion.WithKind("CSIDriver"),
		Resource:       "csidrivers",
		New:            func() runtime.Object { return &storagev1.CSIDriver{} },
		NewList:        func() runtime.Object { return &storagev1.CSIDriverList{} },
		Default:        typed.Do(defaultCSIDriver),
		Validate:       typed.Check(validateCSIDriver),
		ValidateUpdate: typed.Check2(validateCSIDriverUpdate),
		Columns: []column.Definition{
			column.Name(),
			column.Bool("AttachRequired", spec["attachRequired"]),
			column.Bool("PodInfoOnMount", spec["podInfoOnMount"]),
			column.Bool("StorageCapacity", spec["storageCapacity"]),
			column.Text("TokenRequests", spec["tokenRequests"]),
			column.Bool("RequiresRepublish", spec["requiresRepublish"]),
			column.Text("Modes", spec["volumeLifecycleModes"]),
			column.Age(),
		},
		Row: typed.Row(csiDriverRow),
	}
	typed.Generation(d, func(c *storagev1.CSIDriver) *storagev1.CSIDriverSpec { return &c.Spec })
	return d
}

func defaultCSIDriver(c *storagev1.CSIDriver) {
	spec := &c.Spec
	setPointer(&spec.AttachRequired, true)
	setPointer(&spec.PodInfoOnMount, false)
	setPointer(&spec.StorageCapacity, false)
	setPointer(&spec.RequiresRepublish, false)
	setPointer(&spec.SELinuxMount, false)
	setPointer(&spec.FSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
	if len(spec.VolumeLifecycleModes) == 0 {
		spec.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
}

func setPointer[T any](target **T, value T) {
	if *target == nil {
		*target = &value
	}
}

func lower(name string) string { return strings.ToLower(name) }

func csiDriverRow(c *storagev1.CSIDriver, now metav1.Time) []any {
	var modes, audiences []string
	for _, mode := range c.Spec.VolumeLifecycleModes {
		modes = append(modes, string(mode))
	}
	for _, request := range c.Spec.TokenRequests {
		audiences = append(audiences, request.Audience)
	}
	tokens := "<unset>"
	if len(audiences) > 0 {
		tokens = strings.Join(audiences, ",")
	}
	return []any{
		c.Name, ptr.Deref(c.Spec.AttachRequired, true), ptr.Deref(c.Spec.PodInfoOnMount, false), ptr.Deref(c.Spec.StorageCapacity, false),
		tokens, ptr.Deref(c.Spec.RequiresRepublish, false), column.OrNone(strings.Join(modes, ",")), column.Since(c.CreationTimestamp, now),
	}
}

func validateCSIDriver(c *storagev1.CSIDriver) field.ErrorList {
	errs := validateDriverName(c.Name, field.NewPath("metadata", "name"))
	spec := field.NewPath("spec")
	for i, mode := range c.Spec.VolumeLifecycleModes {
		known := []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent, storagev1.VolumeLifecycleEphemeral}
		if !slices.Contains(known, mode) {
			errs = append(errs, field.NotSupported(spec.Child("volumeLifecycleModes").Index(i), mode, known))
		}
	}
	policies := []storagev1.FSGroupPolicy{storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy, storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy}
	if p := c.Spec.FSGroupPolicy; p != nil && !slices.Contains(policies, *p) {
		errs = append(errs, field.NotSupported(spec.Child("fsGroupPolicy"), *p, policies))
	}
	seen := map[string]bool{}
	for i, request := range c.Spec.TokenRequests {
		path := spec.Child("tokenRequests").Index(i)
		if seen[request.Audience] {
			errs = append(errs, field.Duplicate(path.Child("audience"), request.Audience))
		}
		seen[request.Audience] = true
		if s := request.ExpirationSeconds; s != nil && (*s < 600 || *s > 1<<32) {
			errs = append(errs, field.Invalid(path.Child("expirationSeconds"), strconv.FormatInt(*s, 10), "may not specify a duration less than 10 minutes or larger than 2^32 seconds"))
		}
	}
	return errs
}

func validateCSIDriverUpdate(c, old *storagev1.CSIDriver) field.ErrorList {
	errs := validateCSIDriver(c)
	spec := field.NewPath("spec")
	errs = append(errs, apivalidation.ValidateImmutableField(c.Spec.AttachRequired, old.Spec.AttachRequired, spec.Child("attachRequired"))...)
	return append(errs, apivalidation.ValidateImmutableField(c.Spec.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes, spec.Child("volumeLifecycleModes"))...)
}

package storage

import (
	"slices"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// CSINode defines the kind.
func CSINode() *resource.Definition {
	return &resource.Definition{
		Kind:           storagev1.SchemeGroupVersion.WithKind("CSINode"),
		Resource:       "csinodes",
		New:            func() runtime.Object { return &storagev1.CSINode{} },
		NewList:        func() runtime.Object { return &storagev1.CSINodeList{} },
		Validate:       typed.Check(validateCSINode),
		ValidateUpdate: typed.Check2(validateCSINodeUpdate),
		Columns: []column.Definition{
			column.Name(),
			column.Number("Drivers", storagev1.CSINodeSpec{}.SwaggerDoc()["drivers"]),
			column.Age(),
		},
		Row: typed.Row(func(n *storagev1.CSINode, now metav1.Time) []any {
			return []any{n.Name, int64(len(n.Spec.Drivers)), column.Since(n.CreationTimestamp, now)}
		}),
	}
}

func validateCSINode(n *storagev1.CSINode) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i := range n.Spec.Drivers {
		driver, path := &n.Spec.Drivers[i], field.NewPath("spec", "drivers").Index(i)
		errs = append(errs, validateDriverName(driver.Name, path.Child("name"))...)
		if driver.NodeID == "" {
			errs = append(errs, field.Required(path.Child("nodeID"), driver.NodeID))
		}
		// CSI allows node ids of up to 192 bytes.
		if len(driver.NodeID) > 192 {
			errs = append(errs, field.Invalid(path.Child("nodeID"), driver.NodeID, "must be 192 characters or less"))
		}
		if driver.Allocatable != nil && driver.Allocatable.Count != nil && *driver.Allocatable.Count < 0 {
			errs = append(errs, field.Invalid(path.Child("allocatable", "count"), *driver.Allocatable.Count, "must be greater than or equal to 0"))
		}
		for j, key := range driver.TopologyKeys {
			for _, msg := range validation.IsQualifiedName(key) {
				errs = append(errs, field.Invalid(path.Child("topologyKeys").Index(j), key, msg))
			}
			if slices.Contains(driver.TopologyKeys[:j], key) {
				errs = append(errs, field.Duplicate(path.Child("topologyKeys").Index(j), key))
			}
		}
		if seen[driver.Name] {
			errs = append(errs, field.Duplicate(path.Child("name"), driver.Name))
		}
		seen[driver.Name] = true
	}
	return errs
}

// validateCSINodeUpdate lets drivers come and go but not change.
func validateCSINodeUpdate(n, old *storagev1.CSINode) field.ErrorList {
	errs := validateCSINode(n)
	for i := range n.Spec.Drivers {
		driver := &n.Spec.Drivers[i]
		for j := range old.Spec.Drivers {
			before := old.Spec.Drivers[j].DeepCopy()
			if before.Name != driver.Name {
				continue
			}
			// The number of volumes a driver can take may be corrected.
			before.Allocatable = driver.Allocatable
			if !equality.Semantic.DeepEqual(before, driver) {
				errs = append(errs, field.Invalid(field.NewPath("spec", "drivers").Index(i), driver, "field is immutable"))
			}
		}
	}
	return errs
}

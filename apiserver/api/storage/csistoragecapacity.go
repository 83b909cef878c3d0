package storage

import (
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	definition "github.com/skeg-dev/skeg/apiserver/resource"
)

// CSIStorageCapacity defines the kind.
func CSIStorageCapacity() *definition.Definition {
	doc := storagev1.CSIStorageCapacity{}.SwaggerDoc()
	return &definition.Definition{
		Kind:           storagev1.SchemeGroupVersion.WithKind("CSIStorageCapacity"),
		Resource:       "csistoragecapacities",
		Namespaced:     true,
		New:            func() runtime.Object { return &storagev1.CSIStorageCapacity{} },
		NewList:        func() runtime.Object { return &storagev1.CSIStorageCapacityList{} },
		Validate:       typed.Check(validateCapacity),
		ValidateUpdate: typed.Check2(validateCapacityUpdate),
		Columns: []column.Definition{
			column.Name(),
			column.Text("StorageClassName", doc["storageClassName"]),
			column.Text("Capacity", doc["capacity"]),
		},
		Row: typed.Row(func(c *storagev1.CSIStorageCapacity, _ metav1.Time) []any {
			capacity := "<unset>"
			if c.Capacity != nil {
				capacity = c.Capacity.String()
			}
			return []any{c.Name, c.StorageClassName, capacity}
		}),
	}
}

func validateCapacity(c *storagev1.CSIStorageCapacity) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsDNS1123Subdomain(c.StorageClassName) {
		errs = append(errs, field.Invalid(field.NewPath("storageClassName"), c.StorageClassName, msg))
	}
	errs = append(errs, notNegative(c.Capacity, field.NewPath("capacity"))...)
	errs = append(errs, notNegative(c.MaximumVolumeSize, field.NewPath("maximumVolumeSize"))...)
	if c.NodeTopology != nil {
		errs = append(errs, metavalidation.ValidateLabelSelector(c.NodeTopology, metavalidation.LabelSelectorValidationOptions{}, field.NewPath("nodeTopology"))...)
	}
	return errs
}

func notNegative(quantity *resource.Quantity, at *field.Path) field.ErrorList {
	if quantity == nil || quantity.Sign() >= 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(at, quantity.String(), "must be greater than or equal to 0")}
}

func validateCapacityUpdate(c, old *storagev1.CSIStorageCapacity) field.ErrorList {
	errs := validateCapacity(c)
	if c.StorageClassName != old.StorageClassName {
		errs = append(errs, field.Invalid(field.NewPath("storageClassName"), c.StorageClassName, "field is immutable"))
	}
	if !equality.Semantic.DeepEqual(c.NodeTopology, old.NodeTopology) {
		errs = append(errs, field.Invalid(field.NewPath("nodeTopology"), c.NodeTopology, "field is immutable"))
	}
	return errs
}

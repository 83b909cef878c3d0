package scheduling

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// HighestUserPriority is the highest value a class that is not the system's
// may have (scheduling/v1 API reference).
const HighestUserPriority = int32(1_000_000_000)

// SystemPrefix is reserved for the system's own classes.
const SystemPrefix = "system-"

// SystemClasses are the classes every cluster has, with their values.
var SystemClasses = map[string]int32{
	"system-cluster-critical": 2_000_000_000,
	"system-node-critical":    2_000_001_000,
}

// PriorityClass defines the kind.
func PriorityClass() *resource.Definition {
	d := &resource.Definition{
		Kind:       schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"),
		Resource:   "priorityclasses",
		ShortNames: []string{"pc"},
		New:        func() runtime.Object { return &schedulingv1.PriorityClass{} },
		NewList:    func() runtime.Object { return &schedulingv1.PriorityClassList{} },
		Default: typed.Do(func(p *schedulingv1.PriorityClass) {
			if p.PreemptionPolicy == nil {
				p.PreemptionPolicy = ptr.To(corev1.PreemptLowerPriority)
			}
		}),
		PrepareCreate:            typed.Do(func(p *schedulingv1.PriorityClass) { p.Generation = 1 }),
		Validate:                 typed.Check(validatePriorityClass),
		ValidateUpdate:           typed.Check2(validatePriorityClassUpdate),
		AllowUnconditionalUpdate: true,
		Columns: []column.Definition{
			column.Name(),
			column.Number("Value", schedulingv1.PriorityClass{}.SwaggerDoc()["value"]),
			column.Bool("Global-Default", schedulingv1.PriorityClass{}.SwaggerDoc()["globalDefault"]),
			column.Age(),
			column.Text("PreemptionPolicy", schedulingv1.PriorityClass{}.SwaggerDoc()["preemptionPolicy"]),
		},
		Row: typed.Row(func(p *schedulingv1.PriorityClass, now metav1.Time) []any {
			return []any{p.Name, int64(p.Value), p.GlobalDefault, column.Since(p.CreationTimestamp, now), string(ptr.Deref(p.PreemptionPolicy, corev1.PreemptLowerPriority))}
		}),
	}
	return d
}

func validatePriorityClass(p *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if strings.HasPrefix(p.Name, SystemPrefix) {
		errs = append(errs, validateSystemClass(p)...)
	} else if p.Value > HighestUserPriority {
		errs = append(errs, field.Forbidden(field.NewPath("value"), fmt.Sprintf("maximum allowed value of a user defined priority is %v", HighestUserPriority)))
	}
	switch policy := ptr.Deref(p.PreemptionPolicy, ""); policy {
	case corev1.PreemptLowerPriority, corev1.PreemptNever:
	case "":
		errs = append(errs, field.Required(field.NewPath("preemptionPolicy"), ""))
	default:
		errs = append(errs, field.NotSupported(field.NewPath("preemptionPolicy"), policy, []corev1.PreemptionPolicy{corev1.PreemptLowerPriority, corev1.PreemptNever}))
	}
	return errs
}

func validateSystemClass(p *schedulingv1.PriorityClass) field.ErrorList {
	value, known := SystemClasses[p.Name]
	forbidden := func(why string) field.ErrorList {
		detail := fmt.Sprintf("priority class names with '%s' prefix are reserved for system use only. error: %s", SystemPrefix, why)
		return field.ErrorList{field.Forbidden(field.NewPath("metadata", "name"), detail)}
	}
	switch {
	case !known:
		return forbidden(fmt.Sprintf("%v is not a known system priority class", p.Name))
	case p.Value != value:
		return forbidden(fmt.Sprintf("value of %v PriorityClass must be %v", p.Name, value))
	case p.GlobalDefault:
		return forbidden(fmt.Sprintf("globalDefault of %v PriorityClass must be false", p.Name))
	}
	return nil
}

func validatePriorityClassUpdate(p, old *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if p.Value != old.Value {
		errs = append(errs, field.Invalid(field.NewPath("value"), p.Value, "field is immutable"))
	}
	if ptr.Deref(p.PreemptionPolicy, "") != ptr.Deref(old.PreemptionPolicy, "") {
		errs = append(errs, field.Invalid(field.NewPath("preemptionPolicy"), p.PreemptionPolicy, "field is immutable"))
	}
	return errs
}

package flowcontrol

import (
	"math/bits"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Defaults of the API reference, and the entropy a shuffled hand may need.
const (
	defaultShares      = 30
	defaultQueues      = 64
	defaultHandSize    = 8
	defaultQueueLength = 50
	maxQueues          = 10_000_000
	maxHandBits        = 60
)

// PriorityLevelConfiguration defines the kind.
func PriorityLevelConfiguration() *resource.Definition {
	d := &resource.Definition{
		Kind:                     flowcontrolv1.SchemeGroupVersion.WithKind("PriorityLevelConfiguration"),
		Resource:                 "prioritylevelconfigurations",
		New:                      func() runtime.Object { return &flowcontrolv1.PriorityLevelConfiguration{} },
		NewList:                  func() runtime.Object { return &flowcontrolv1.PriorityLevelConfigurationList{} },
		Default:                  typed.Do(defaultLevel),
		Validate:                 typed.Check(validateLevel),
		ValidateUpdate:           typed.CheckAgain(validateLevel),
		AllowUnconditionalUpdate: true,
		Columns: []column.Definition{
			column.Name(),
			column.Text("Type", flowcontrolv1.PriorityLevelConfigurationSpec{}.SwaggerDoc()["type"]),
			column.Text("NominalConcurrencyShares", flowcontrolv1.LimitedPriorityLevelConfiguration{}.SwaggerDoc()["nominalConcurrencyShares"]),
			column.Text("Queues", flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()["queues"]),
			column.Text("HandSize", flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()["handSize"]),
			column.Text("QueueLengthLimit", flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()["queueLengthLimit"]),
			column.Age(),
		},
		Row: typed.Row(levelRow),
	}
	typed.Parts[*flowcontrolv1.PriorityLevelConfiguration, flowcontrolv1.PriorityLevelConfigurationSpec, flowcontrolv1.PriorityLevelConfigurationStatus]{
		Spec: func(l *flowcontrolv1.PriorityLevelConfiguration) *flowcontrolv1.PriorityLevelConfigurationSpec {
			return &l.Spec
		},
		Status: func(l *flowcontrolv1.PriorityLevelConfiguration) *flowcontrolv1.PriorityLevelConfigurationStatus {
			return &l.Status
		},
		Generation: true,
	}.Apply(d)
	return d
}

func defaultLevel(l *flowcontrolv1.PriorityLevelConfiguration) {
	if e := l.Spec.Exempt; e != nil {
		setDefault(&e.NominalConcurrencyShares, 0)
		setDefault(&e.LendablePercent, 0)
	}
	limited := l.Spec.Limited
	if limited == nil {
		return
	}
	setDefault(&limited.NominalConcurrencyShares, defaultShares)
	setDefault(&limited.LendablePercent, 0)
	if q := limited.LimitResponse.Queuing; q != nil {
		for _, f := range []struct {
			value *int32
			usual int32
		}{{&q.Queues, defaultQueues}, {&q.HandSize, defaultHandSize}, {&q.QueueLengthLimit, defaultQueueLength}} {
			if *f.value == 0 {
				*f.value = f.usual
			}
		}
	}
}

func setDefault(p **int32, value int32) {
	if *p == nil {
		*p = ptr.To(value)
	}
}

func levelRow(l *flowcontrolv1.PriorityLevelConfiguration, now metav1.Time) []any {
	var shares, queues, hand, length any = column.None, column.None, column.None, column.None
	if limited := l.Spec.Limited; limited != nil {
		shares = int64(ptr.Deref(limited.NominalConcurrencyShares, 0))
		if q := limited.LimitResponse.Queuing; q != nil {
			queues, hand, length = int64(q.Queues), int64(q.HandSize), int64(q.QueueLengthLimit)
		}
	}
	return []any{l.Name, string(l.Spec.Type), shares, queues, hand, length, column.Since(l.CreationTimestamp, now)}
}

func validateLevel(l *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
	spec := field.NewPath("spec")
	switch l.Spec.Type {
	case flowcontrolv1.PriorityLevelEnablementExempt:
		if l.Spec.Limited != nil {
			return field.ErrorList{field.Forbidden(spec.Child("limited"), "must be nil if the type is not Limited")}
		}
		if e := l.Spec.Exempt; e != nil {
			return validateShares(e.NominalConcurrencyShares, e.LendablePercent, spec.Child("exempt"))
		}
	case flowcontrolv1.PriorityLevelEnablementLimited:
		if l.Spec.Exempt != nil {
			return field.ErrorList{field.Forbidden(spec.Child("exempt"), "must be nil if the type is Limited")}
		}
		if l.Spec.Limited == nil {
			return field.ErrorList{field.Required(spec.Child("limited"), "must not be empty when type is Limited")}
		}
		return validateLimited(l.Spec.Limited, spec.Child("limited"))
	default:
		known := []flowcontrolv1.PriorityLevelEnablement{flowcontrolv1.PriorityLevelEnablementExempt, flowcontrolv1.PriorityLevelEnablementLimited}
		return field.ErrorList{field.NotSupported(spec.Child("type"), l.Spec.Type, known)}
	}
	return nil
}

func validateShares(shares, lendable *int32, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if ptr.Deref(shares, 0) < 0 {
		errs = append(errs, field.Invalid(path.Child("nominalConcurrencyShares"), *shares, "must be a non-negative integer"))
	}
	if p := ptr.Deref(lendable, 0); p < 0 || p > 100 {
		errs = append(errs, field.Invalid(path.Child("lendablePercent"), p, "must be between 0 and 100, inclusive"))
	}
	return errs
}

func validateLimited(l *flowcontrolv1.LimitedPriorityLevelConfiguration, path *field.Path) field.ErrorList {
	errs := validateShares(l.NominalConcurrencyShares, l.LendablePercent, path)
	if p := l.BorrowingLimitPercent; p != nil && *p < 0 {
		errs = append(errs, field.Invalid(path.Child("borrowingLimitPercent"), *p, "if specified, must be a non-negative integer"))
	}
	response := path.Child("limitResponse")
	switch l.LimitResponse.Type {
	case flowcontrolv1.LimitResponseTypeReject:
		if l.LimitResponse.Queuing != nil {
			errs = append(errs, field.Forbidden(response.Child("queuing"), "must be nil if limited.limitResponse.type is not Limited"))
		}
	case flowcontrolv1.LimitResponseTypeQueue:
		if l.LimitResponse.Queuing == nil {
			return append(errs, field.Required(response.Child("queuing"), "must not be empty if limited.limitResponse.type is Limited"))
		}
		errs = append(errs, validateQueuing(l.LimitResponse.Queuing, response.Child("queuing"))...)
	default:
		known := []flowcontrolv1.LimitResponseType{flowcontrolv1.LimitResponseTypeQueue, flowcontrolv1.LimitResponseTypeReject}
		errs = append(errs, field.NotSupported(response.Child("type"), l.LimitResponse.Type, known))
	}
	return errs
}

func validateQueuing(q *flowcontrolv1.QueuingConfiguration, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case q.Queues <= 0:
		errs = append(errs, field.Invalid(path.Child("queues"), q.Queues, "must be positive"))
	case q.Queues > maxQueues:
		errs = append(errs, field.Invalid(path.Child("queues"), q.Queues, "must not be greater than 10000000"))
	}
	switch {
	case q.HandSize <= 0:
		errs = append(errs, field.Invalid(path.Child("handSize"), q.HandSize, "must be positive"))
	case q.HandSize > q.Queues:
		errs = append(errs, field.Invalid(path.Child("handSize"), q.HandSize, "should not be greater than queues"))
	case q.Queues > 0 && handBits(q.Queues, q.HandSize) > maxHandBits:
		errs = append(errs, field.Invalid(path.Child("handSize"), q.HandSize, "required entropy bits of deckSize and handSize should not be greater than 60"))
	}
	if q.QueueLengthLimit <= 0 {
		errs = append(errs, field.Invalid(path.Child("queueLengthLimit"), q.QueueLengthLimit, "must be positive"))
	}
	return errs
}

// handBits is how many bits choose a hand of that many queues: the logarithm
// of queues·(queues-1)·… , rounded up.
func handBits(queues, hand int32) int {
	high, whole := uint64(1), 0
	for i := range min(hand, queues) {
		overflow, low := bits.Mul64(high, uint64(queues-i))
		for overflow != 0 || low>>32 != 0 { // keep 32 significant bits
			low = low>>1 | overflow<<63
			overflow >>= 1
			whole++
		}
		high = low
	}
	return whole + bits.Len64(high-1)
}

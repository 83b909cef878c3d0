package events

import (
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/api/core"
)

func validateEvent(e *eventsv1.Event) field.ErrorList {
	errs := core.ValidateEventWords(toCore(e), "reportingController", "note")
	if e.EventTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("eventTime"), ""))
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		errs = append(errs, field.Invalid(field.NewPath("type"), "", "has invalid value: "+e.Type))
	}
	home := e.Regarding.Namespace
	if home == "" && e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem || home != "" && home != e.Namespace {
		errs = append(errs, field.Invalid(field.NewPath("regarding", "namespace"), home, "does not match event.namespace"))
	}
	for name, set := range map[string]bool{
		"deprecatedCount":          e.DeprecatedCount != 0,
		"deprecatedFirstTimestamp": !e.DeprecatedFirstTimestamp.IsZero(),
		"deprecatedLastTimestamp":  !e.DeprecatedLastTimestamp.IsZero(),
		"deprecatedSource":         e.DeprecatedSource != (corev1.EventSource{}),
	} {
		if set {
			errs = append(errs, field.Invalid(field.NewPath(name), "", "must be unset"))
		}
	}
	return append(errs, validateSeries(e)...)
}

func validateSeries(e *eventsv1.Event) field.ErrorList {
	if e.Series == nil {
		return nil
	}
	var errs field.ErrorList
	path := field.NewPath("series")
	if e.Series.Count < 2 {
		errs = append(errs, field.Invalid(path.Child("count"), "", "should be at least 2"))
	}
	if e.Series.LastObservedTime.IsZero() {
		errs = append(errs, field.Required(path.Child("lastObservedTime"), ""))
	}
	return errs
}

// validateEventUpdate lets only the series go on. Events written through the
// older group may carry what a new one may not, so they are not checked whole.
func validateEventUpdate(e, old *eventsv1.Event) field.ErrorList {
	allowed := e.DeepCopy()
	allowed.Series = old.Series
	allowed.ObjectMeta = old.ObjectMeta
	allowed.TypeMeta = old.TypeMeta
	allowed.EventTime = old.EventTime
	var errs field.ErrorList
	if !equality.Semantic.DeepEqual(allowed, old) {
		errs = append(errs, field.Forbidden(field.NewPath(""), "event updates may change only series and metadata"))
	}
	// The stored time has microseconds; a client may have read it coarser.
	if !e.EventTime.Time.Truncate(1000).Equal(old.EventTime.Time.Truncate(1000)) {
		errs = append(errs, field.Invalid(field.NewPath("eventTime"), e.EventTime, "field is immutable"))
	}
	return append(errs, validateSeries(e)...)
}

package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Bounds of an event of the newer form (events/v1 API reference).
const (
	maxEventWord = 128
	maxEventNote = 1024
)

// validateEvent checks little where the event is of the older form (no
// eventTime), which writers of all ages send.
func validateEvent(e *corev1.Event) field.ErrorList {
	var errs field.ErrorList
	if e.EventTime.IsZero() {
		errs = validateEventHome(e, metav1.NamespaceDefault)
	} else {
		errs = validateEventHome(e, metav1.NamespaceDefault, metav1.NamespaceSystem)
		errs = append(errs, ValidateEventWords(e, "reportingComponent", "message")...)
	}
	for _, msg := range validation.IsDNS1123Subdomain(e.Namespace) {
		errs = append(errs, field.Invalid(field.NewPath("namespace"), e.Namespace, msg))
	}
	return errs
}

// validateEventHome: an event lives with its object; about objects without a
// namespace, in one of the given ones.
func validateEventHome(e *corev1.Event, homes ...string) field.ErrorList {
	home := e.InvolvedObject.Namespace
	if home == e.Namespace {
		return nil
	}
	if home == "" {
		for _, allowed := range homes {
			if e.Namespace == allowed {
				return nil
			}
		}
	}
	return field.ErrorList{field.Invalid(field.NewPath("involvedObject", "namespace"), home, "does not match event.namespace")}
}

// ValidateEventWords checks what a new event must say; the two names differ
// between the groups.
func ValidateEventWords(e *corev1.Event, controllerField, noteField string) field.ErrorList {
	var errs field.ErrorList
	if e.ReportingController == "" {
		errs = append(errs, field.Required(field.NewPath(controllerField), ""))
	} else {
		for _, msg := range validation.IsQualifiedName(e.ReportingController) {
			errs = append(errs, field.Invalid(field.NewPath(controllerField), e.ReportingController, msg))
		}
	}
	for _, word := range []struct{ name, value string }{
		{"reportingInstance", e.ReportingInstance}, {"action", e.Action}, {"reason", e.Reason},
	} {
		switch {
		case word.value == "":
			errs = append(errs, field.Required(field.NewPath(word.name), ""))
		case len(word.value) > maxEventWord:
			errs = append(errs, field.Invalid(field.NewPath(word.name), "", fmt.Sprintf("can have at most %v characters", maxEventWord)))
		}
	}
	if len(e.Message) > maxEventNote {
		errs = append(errs, field.Invalid(field.NewPath(noteField), "", fmt.Sprintf("can have at most %v characters", maxEventNote)))
	}
	return errs
}

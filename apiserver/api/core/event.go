package core

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// EventTTLSeconds is how long events are kept (kube-apiserver --event-ttl).
const EventTTLSeconds = 3600

// Event defines the kind.
func Event() *resource.Definition {
	return &resource.Definition{
		Kind:                     corev1.SchemeGroupVersion.WithKind("Event"),
		Resource:                 "events",
		ShortNames:               []string{"ev"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &corev1.Event{} },
		NewList:                  func() runtime.Object { return &corev1.EventList{} },
		TTLSeconds:               EventTTLSeconds,
		Validate:                 typed.Check(validateEvent),
		ValidateUpdate:           typed.Check2(func(e, _ *corev1.Event) field.ErrorList { return validateEvent(e) }),
		AllowUnconditionalUpdate: true,
		AllowCreateOnUpdate:      true,
		Fields:                   typed.Fields(EventFields),
		Columns:                  EventColumns(),
		Row:                      typed.Row(EventRow),
	}
}

// EventFields lists the field-selector values of an event in either group.
func EventFields(e *corev1.Event) map[string]string {
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	return map[string]string{
		"involvedObject.kind":            e.InvolvedObject.Kind,
		"involvedObject.namespace":       e.InvolvedObject.Namespace,
		"involvedObject.name":            e.InvolvedObject.Name,
		"involvedObject.uid":             string(e.InvolvedObject.UID),
		"involvedObject.apiVersion":      e.InvolvedObject.APIVersion,
		"involvedObject.resourceVersion": e.InvolvedObject.ResourceVersion,
		"involvedObject.fieldPath":       e.InvolvedObject.FieldPath,
		"reason":                         e.Reason,
		"reportingComponent":             e.ReportingController,
		"source":                         source,
		"type":                           e.Type,
	}
}

// EventColumns are the columns of an event in either group.
func EventColumns() []column.Definition {
	doc, object := corev1.Event{}.SwaggerDoc(), corev1.ObjectReference{}.SwaggerDoc()
	columns := []column.Definition{
		column.Text("Last Seen", doc["lastTimestamp"]),
		column.Text("Type", doc["type"]),
		column.Text("Reason", doc["reason"]),
		column.Text("Object", doc["involvedObject"]),
	}
	columns = append(columns, column.Wide(
		column.Text("Subobject", object["fieldPath"]),
		column.Text("Source", doc["source"]),
	)...)
	columns = append(columns, column.Text("Message", doc["message"]))
	return append(columns, column.Wide(
		column.Text("First Seen", doc["firstTimestamp"]),
		column.Text("Count", doc["count"]),
		column.Name(),
	)...)
}

// EventRow makes the cells of an event in either group.
func EventRow(e *corev1.Event, now metav1.Time) []any {
	first := column.Since(e.FirstTimestamp, now)
	if e.FirstTimestamp.IsZero() {
		first = column.Since(metav1.Time(e.EventTime), now)
	}
	last := column.Since(e.LastTimestamp, now)
	if e.LastTimestamp.IsZero() {
		last = first
	}
	count := e.Count
	if e.Series != nil {
		last = column.Since(metav1.Time(e.Series.LastObservedTime), now)
		count = e.Series.Count
	} else if count == 0 {
		// A singleton event: it happened once.
		count = 1
	}
	object := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		object += "/" + e.InvolvedObject.Name
	}
	return []any{
		last, e.Type, e.Reason, object, e.InvolvedObject.FieldPath, eventSource(e),
		strings.TrimSpace(e.Message), first, int64(count), e.Name,
	}
}

func eventSource(e *corev1.Event) string {
	component, instance := e.Source.Component, e.Source.Host
	if component == "" {
		component = e.ReportingController
	}
	if instance == "" {
		instance = e.ReportingInstance
	}
	if instance == "" {
		return component
	}
	return component + ", " + instance
}

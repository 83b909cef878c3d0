package events

import (
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skeg-dev/skeg/apiserver/api/core"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Event defines the kind: another view of core/v1 Event, which is what the
// store keeps.
func Event() *resource.Definition {
	return &resource.Definition{
		Kind:                     eventsv1.SchemeGroupVersion.WithKind("Event"),
		Resource:                 "events",
		ShortNames:               []string{"ev"},
		Namespaced:               true,
		New:                      func() runtime.Object { return &eventsv1.Event{} },
		NewList:                  func() runtime.Object { return &eventsv1.EventList{} },
		TTLSeconds:               core.EventTTLSeconds,
		Validate:                 typed.Check(validateEvent),
		ValidateUpdate:           typed.Check2(validateEventUpdate),
		AllowUnconditionalUpdate: true,
		AllowCreateOnUpdate:      true,
		Stored: &resource.Conversion{
			Kind: corev1.SchemeGroupVersion.WithKind("Event"),
			To:   func(served runtime.Object) runtime.Object { return toCore(served.(*eventsv1.Event)) },
			From: func(stored runtime.Object) runtime.Object { return fromCore(stored.(*corev1.Event)) },
		},
		Fields:  typed.Fields(eventFields),
		Columns: core.EventColumns(),
		Row: typed.Row(func(e *eventsv1.Event, now metav1.Time) []any {
			return core.EventRow(toCore(e), now)
		}),
	}
}

// eventFields names the fields as this group does.
func eventFields(e *eventsv1.Event) map[string]string {
	fields := core.EventFields(toCore(e))
	for _, name := range []string{"kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"} {
		fields["regarding."+name] = fields["involvedObject."+name]
		delete(fields, "involvedObject."+name)
	}
	fields["reportingController"] = e.ReportingController
	return fields
}

func toCore(e *eventsv1.Event) *corev1.Event {
	e = e.DeepCopy()
	stored := &corev1.Event{
		ObjectMeta:          e.ObjectMeta,
		InvolvedObject:      e.Regarding,
		Related:             e.Related,
		Reason:              e.Reason,
		Message:             e.Note,
		Type:                e.Type,
		Action:              e.Action,
		EventTime:           e.EventTime,
		ReportingController: e.ReportingController,
		ReportingInstance:   e.ReportingInstance,
		Source:              e.DeprecatedSource,
		FirstTimestamp:      e.DeprecatedFirstTimestamp,
		LastTimestamp:       e.DeprecatedLastTimestamp,
		Count:               e.DeprecatedCount,
	}
	if e.Series != nil {
		stored.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	stored.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Event"))
	return stored
}

func fromCore(e *corev1.Event) *eventsv1.Event {
	e = e.DeepCopy()
	served := &eventsv1.Event{
		ObjectMeta:               e.ObjectMeta,
		Regarding:                e.InvolvedObject,
		Related:                  e.Related,
		Reason:                   e.Reason,
		Note:                     e.Message,
		Type:                     e.Type,
		Action:                   e.Action,
		EventTime:                e.EventTime,
		ReportingController:      e.ReportingController,
		ReportingInstance:        e.ReportingInstance,
		DeprecatedSource:         e.Source,
		DeprecatedFirstTimestamp: e.FirstTimestamp,
		DeprecatedLastTimestamp:  e.LastTimestamp,
		DeprecatedCount:          e.Count,
	}
	if e.Series != nil {
		served.Series = &eventsv1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	served.SetGroupVersionKind(eventsv1.SchemeGroupVersion.WithKind("Event"))
	return served
}

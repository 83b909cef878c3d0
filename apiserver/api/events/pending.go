package events

import (
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateEvent(_ *eventsv1.Event) field.ErrorList { return nil }

func validateEventUpdate(_, _ *eventsv1.Event) field.ErrorList { return nil }

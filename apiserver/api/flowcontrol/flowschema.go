package flowcontrol

import (
	"fmt"
	"slices"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/api/column"
	"github.com/skeg-dev/skeg/apiserver/api/typed"
	"github.com/skeg-dev/skeg/apiserver/resource"
)

// defaultPrecedence is that of a FlowSchema that names none.
const defaultPrecedence = 1000

// FlowSchema defines the kind.
func FlowSchema() *resource.Definition {
	d := &resource.Definition{
		Kind:                     flowcontrolv1.SchemeGroupVersion.WithKind("FlowSchema"),
		Resource:                 "flowschemas",
		New:                      func() runtime.Object { return &flowcontrolv1.FlowSchema{} },
		NewList:                  func() runtime.Object { return &flowcontrolv1.FlowSchemaList{} },
		Default:                  typed.Do(defaultFlowSchema),
		Validate:                 typed.Check(validateFlowSchema),
		ValidateUpdate:           typed.CheckAgain(validateFlowSchema),
		AllowUnconditionalUpdate: true,
		Columns: []column.Definition{
			column.Name(),
			column.Text("PriorityLevel", "Name of the PriorityLevelConfiguration that requests of the schema belong to."),
			column.Number("MatchingPrecedence", flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()["matchingPrecedence"]),
			column.Text("DistinguisherMethod", flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()["distinguisherMethod"]),
			column.Age(),
			column.Text("MissingPL", "Whether the priority level does not exist."),
		},
		Row: typed.Row(flowSchemaRow),
	}
	typed.Parts[*flowcontrolv1.FlowSchema, flowcontrolv1.FlowSchemaSpec, flowcontrolv1.FlowSchemaStatus]{
		Spec:       func(s *flowcontrolv1.FlowSchema) *flowcontrolv1.FlowSchemaSpec { return &s.Spec },
		Status:     func(s *flowcontrolv1.FlowSchema) *flowcontrolv1.FlowSchemaStatus { return &s.Status },
		Generation: true,
	}.Apply(d)
	return d
}

func defaultFlowSchema(s *flowcontrolv1.FlowSchema) {
	if s.Spec.MatchingPrecedence == 0 {
		s.Spec.MatchingPrecedence = defaultPrecedence
	}
}

func flowSchemaRow(s *flowcontrolv1.FlowSchema, now metav1.Time) []any {
	method := column.None
	if s.Spec.DistinguisherMethod != nil {
		method = string(s.Spec.DistinguisherMethod.Type)
	}
	missing := "?"
	for _, c := range s.Status.Conditions {
		if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
			missing = string(c.Status)
		}
	}
	return []any{s.Name, s.Spec.PriorityLevelConfiguration.Name, int64(s.Spec.MatchingPrecedence), method, column.Since(s.CreationTimestamp, now), missing}
}

func validateFlowSchema(s *flowcontrolv1.FlowSchema) field.ErrorList {
	var errs field.ErrorList
	spec := field.NewPath("spec")
	if p := s.Spec.MatchingPrecedence; p <= 0 || p > flowcontrolv1.FlowSchemaMaxMatchingPrecedence {
		errs = append(errs, field.Invalid(spec.Child("matchingPrecedence"), p, fmt.Sprintf("must be in [1, %d]", flowcontrolv1.FlowSchemaMaxMatchingPrecedence)))
	} else if p == 1 && s.Name != flowcontrolv1.FlowSchemaNameExempt {
		errs = append(errs, field.Invalid(spec.Child("matchingPrecedence"), p, "only the schema named 'exempt' may have matchingPrecedence 1"))
	}
	if m := s.Spec.DistinguisherMethod; m != nil && m.Type != flowcontrolv1.FlowDistinguisherMethodByUserType && m.Type != flowcontrolv1.FlowDistinguisherMethodByNamespaceType {
		known := []flowcontrolv1.FlowDistinguisherMethodType{flowcontrolv1.FlowDistinguisherMethodByNamespaceType, flowcontrolv1.FlowDistinguisherMethodByUserType}
		errs = append(errs, field.NotSupported(spec.Child("distinguisherMethod"), m, known))
	}
	level := spec.Child("priorityLevelConfiguration", "name")
	if s.Spec.PriorityLevelConfiguration.Name == "" {
		errs = append(errs, field.Required(level, "must reference a priority level"))
	} else {
		for _, msg := range validation.IsDNS1123Subdomain(s.Spec.PriorityLevelConfiguration.Name) {
			errs = append(errs, field.Invalid(level, s.Spec.PriorityLevelConfiguration.Name, msg))
		}
	}
	for i := range s.Spec.Rules {
		errs = append(errs, validateRule(&s.Spec.Rules[i], spec.Child("rules").Index(i))...)
	}
	return errs
}

func validateRule(r *flowcontrolv1.PolicyRulesWithSubjects, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(r.Subjects) == 0 {
		errs = append(errs, field.Required(path.Child("subjects"), "subjects must contain at least one value"))
	}
	for i := range r.Subjects {
		errs = append(errs, validateSubject(&r.Subjects[i], path.Child("subjects").Index(i))...)
	}
	if len(r.ResourceRules) == 0 && len(r.NonResourceRules) == 0 {
		errs = append(errs, field.Required(path, "at least one of resourceRules and nonResourceRules has to be non-empty"))
	}
	for i, rule := range r.ResourceRules {
		at := path.Child("resourceRules").Index(i)
		errs = append(errs, requireSome(rule.Verbs, at.Child("verbs"))...)
		errs = append(errs, requireSome(rule.APIGroups, at.Child("apiGroups"))...)
		errs = append(errs, requireSome(rule.Resources, at.Child("resources"))...)
		if len(rule.Namespaces) == 0 && !rule.ClusterScope {
			errs = append(errs, field.Required(at.Child("namespaces"), "resource rules that are not cluster scoped must supply at least one namespace"))
		}
	}
	for i, rule := range r.NonResourceRules {
		at := path.Child("nonResourceRules").Index(i)
		errs = append(errs, requireSome(rule.Verbs, at.Child("verbs"))...)
		errs = append(errs, requireSome(rule.NonResourceURLs, at.Child("nonResourceURLs"))...)
	}
	return errs
}

func requireSome(values []string, path *field.Path) field.ErrorList {
	if len(values) == 0 {
		return field.ErrorList{field.Required(path, "must contain at least one value")}
	}
	if len(values) > 1 && slices.Contains(values, "*") {
		return field.ErrorList{field.Invalid(path, values, "if '*' is present, must not specify other values")}
	}
	return nil
}

func validateSubject(s *flowcontrolv1.Subject, path *field.Path) field.ErrorList {
	named := func(set bool, name, child string) field.ErrorList {
		switch {
		case !set:
			return field.ErrorList{field.Required(path.Child(child), fmt.Sprintf("%s is required when subject kind is '%s'", child, s.Kind))}
		case name == "":
			return field.ErrorList{field.Required(path.Child(child, "name"), "")}
		}
		return nil
	}
	switch s.Kind {
	case flowcontrolv1.SubjectKindUser:
		return named(s.User != nil, deref(s.User).Name, "user")
	case flowcontrolv1.SubjectKindGroup:
		return named(s.Group != nil, deref(s.Group).Name, "group")
	case flowcontrolv1.SubjectKindServiceAccount:
		errs := named(s.ServiceAccount != nil, deref(s.ServiceAccount).Name, "serviceAccount")
		if s.ServiceAccount != nil && s.ServiceAccount.Namespace == "" {
			errs = append(errs, field.Required(path.Child("serviceAccount", "namespace"), "must specify namespace for service account"))
		}
		return errs
	}
	known := []flowcontrolv1.SubjectKind{flowcontrolv1.SubjectKindGroup, flowcontrolv1.SubjectKindServiceAccount, flowcontrolv1.SubjectKindUser}
	return field.ErrorList{field.NotSupported(path.Child("kind"), s.Kind, known)}
}

// deref is the value pointed to, or the zero value.
func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

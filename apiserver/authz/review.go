package authz

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skeg-dev/skeg/apiserver/authn"
)

// Reviewer answers the posted kinds of authorization.k8s.io. Each method
// returns a copy of obj with its status filled, or an API status error.
type Reviewer struct {
	authorizer Authorizer
	resolver   RuleResolver
}

// NewReviewer reviews with the same authorizer that requests go through.
func NewReviewer(authorizer Authorizer, resolver RuleResolver) *Reviewer {
	return &Reviewer{authorizer, resolver}
}

// SubjectAccessReview answers what somebody else may do.
func (v *Reviewer) SubjectAccessReview(ctx context.Context, _ authn.User, obj runtime.Object) (runtime.Object, error) {
	review, ok := obj.(*authorizationv1.SubjectAccessReview)
	if !ok {
		return nil, wrongKind("SubjectAccessReview", obj)
	}
	if faults := validateSubject(&review.Spec, field.NewPath("spec")); len(faults) > 0 {
		return nil, invalid("SubjectAccessReview", faults)
	}
	out := review.DeepCopy()
	out.Status = v.decide(ctx, subjectOf(&out.Spec), out.Spec.ResourceAttributes, out.Spec.NonResourceAttributes)
	return out, nil
}

// LocalSubjectAccessReview is SubjectAccessReview within the object's namespace.
func (v *Reviewer) LocalSubjectAccessReview(ctx context.Context, _ authn.User, obj runtime.Object) (runtime.Object, error) {
	review, ok := obj.(*authorizationv1.LocalSubjectAccessReview)
	if !ok {
		return nil, wrongKind("LocalSubjectAccessReview", obj)
	}
	path := field.NewPath("spec")
	faults := validateSubject(&review.Spec, path)
	if review.Spec.ResourceAttributes != nil && review.Spec.ResourceAttributes.Namespace != review.Namespace {
		faults = append(faults, field.Invalid(path.Child("resourceAttributes", "namespace"), review.Spec.ResourceAttributes.Namespace, "must match metadata.namespace"))
	}
	if review.Spec.NonResourceAttributes != nil {
		faults = append(faults, field.Invalid(path.Child("nonResourceAttributes"), review.Spec.NonResourceAttributes, "disallowed on this kind of request"))
	}
	if len(faults) > 0 {
		return nil, invalid("LocalSubjectAccessReview", faults)
	}
	out := review.DeepCopy()
	out.Status = v.decide(ctx, subjectOf(&out.Spec), out.Spec.ResourceAttributes, nil)
	return out, nil
}

// SelfSubjectAccessReview answers what the asker may do.
func (v *Reviewer) SelfSubjectAccessReview(ctx context.Context, user authn.User, obj runtime.Object) (runtime.Object, error) {
	review, ok := obj.(*authorizationv1.SelfSubjectAccessReview)
	if !ok {
		return nil, wrongKind("SelfSubjectAccessReview", obj)
	}
	if faults := validateQuestion(review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes, field.NewPath("spec")); len(faults) > 0 {
		return nil, invalid("SelfSubjectAccessReview", faults)
	}
	out := review.DeepCopy()
	out.Status = v.decide(ctx, user, out.Spec.ResourceAttributes, out.Spec.NonResourceAttributes)
	return out, nil
}

// SelfSubjectRulesReview lists what the asker may do in a namespace.
func (v *Reviewer) SelfSubjectRulesReview(_ context.Context, user authn.User, obj runtime.Object) (runtime.Object, error) {
	review, ok := obj.(*authorizationv1.SelfSubjectRulesReview)
	if !ok {
		return nil, wrongKind("SelfSubjectRulesReview", obj)
	}
	if review.Spec.Namespace == "" {
		return nil, apierrors.NewBadRequest("no namespace on request")
	}
	out := review.DeepCopy()
	var rules []rbacv1.PolicyRule
	var incomplete error
	if user.InGroup(authn.GroupMasters) {
		rules = everything
	} else {
		rules, incomplete = v.resolver.RulesFor(user, review.Spec.Namespace)
	}
	out.Status = authorizationv1.SubjectRulesReviewStatus{
		ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{}, Incomplete: incomplete != nil,
	}
	if incomplete != nil {
		out.Status.EvaluationError = incomplete.Error()
	}
	for _, rule := range rules {
		if len(rule.Resources) > 0 {
			out.Status.ResourceRules = append(out.Status.ResourceRules, authorizationv1.ResourceRule{
				Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames,
			})
		}
		if len(rule.NonResourceURLs) > 0 {
			out.Status.NonResourceRules = append(out.Status.NonResourceRules, authorizationv1.NonResourceRule{Verbs: rule.Verbs, NonResourceURLs: rule.NonResourceURLs})
		}
	}
	return out, nil
}

func (v *Reviewer) decide(ctx context.Context, user authn.User, res *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	a := Attributes{User: user}
	if res != nil {
		a.Verb, a.Group, a.Version, a.Resource = res.Verb, res.Group, res.Version, res.Resource
		a.Subresource, a.Namespace, a.Name = res.Subresource, res.Namespace, res.Name
		a.FieldSelector, a.LabelSelector = selectorsOf(res)
	} else {
		a.Verb, a.Path = path.Verb, path.Path
	}
	d, reason, err := v.authorizer.Authorize(ctx, a)
	status := authorizationv1.SubjectAccessReviewStatus{Allowed: d == Allow, Denied: d == Deny, Reason: reason}
	if err != nil {
		status.EvaluationError = err.Error()
	}
	return status
}

func subjectOf(spec *authorizationv1.SubjectAccessReviewSpec) authn.User {
	user := authn.User{Name: spec.User, UID: spec.UID, Groups: spec.Groups}
	for name, values := range spec.Extra {
		if user.Extra == nil {
			user.Extra = map[string][]string{}
		}
		user.Extra[name] = values
	}
	return user
}

func validateSubject(spec *authorizationv1.SubjectAccessReviewSpec, path *field.Path) field.ErrorList {
	faults := validateQuestion(spec.ResourceAttributes, spec.NonResourceAttributes, path)
	if spec.User == "" && len(spec.Groups) == 0 {
		faults = append(faults, field.Invalid(path.Child("user"), spec.User, "at least one of user or group must be specified"))
	}
	return faults
}

func validateQuestion(res *authorizationv1.ResourceAttributes, nonRes *authorizationv1.NonResourceAttributes, path *field.Path) field.ErrorList {
	var faults field.ErrorList
	if res != nil && nonRes != nil {
		faults = append(faults, field.Invalid(path.Child("nonResourceAttributes"), nonRes, "cannot be specified in combination with resourceAttributes"))
	}
	if res == nil && nonRes == nil {
		faults = append(faults, field.Invalid(path.Child("resourceAttributes"), res, "exactly one of nonResourceAttributes or resourceAttributes must be specified"))
	}
	return faults
}

// selectorsOf reads what it can of the selectors; what it cannot read is left
// out, which only makes the question broader.
func selectorsOf(res *authorizationv1.ResourceAttributes) (fields.Requirements, labels.Requirements) {
	var byField fields.Requirements
	var byLabel labels.Requirements
	if s := res.FieldSelector; s != nil {
		if parsed, err := fields.ParseSelector(s.RawSelector); err == nil && s.RawSelector != "" {
			byField = parsed.Requirements()
		}
		for _, r := range s.Requirements {
			if len(r.Values) == 1 && (r.Operator == metav1.FieldSelectorOpIn || r.Operator == metav1.FieldSelectorOpNotIn) {
				operator := selection.Equals
				if r.Operator == metav1.FieldSelectorOpNotIn {
					operator = selection.NotEquals
				}
				byField = append(byField, fields.Requirement{Field: r.Key, Operator: operator, Value: r.Values[0]})
			}
		}
	}
	if s := res.LabelSelector; s != nil {
		if parsed, err := labels.ParseToRequirements(s.RawSelector); err == nil && s.RawSelector != "" {
			byLabel = parsed
		}
		if selector, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchExpressions: s.Requirements}); err == nil {
			requirements, _ := selector.Requirements()
			byLabel = append(byLabel, requirements...)
		}
	}
	return byField, byLabel
}

func wrongKind(want string, obj runtime.Object) error {
	return apierrors.NewBadRequest(fmt.Sprintf("not a %s: %T", want, obj))
}

func invalid(kind string, faults field.ErrorList) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName, Kind: kind}, "", faults)
}

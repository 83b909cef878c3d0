package authz

import (
	"context"
	"errors"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/skeg-dev/skeg/apiserver/authn"
)

// union asks authorizers in order.
type union struct{ members []Authorizer }

// NewUnion returns an Authorizer that allows the group system:masters
// everything and else asks members in order; the first who allows or denies
// decides. When none does, the reasons and errors of all are joined.
func NewUnion(members ...Authorizer) Authorizer { return &union{members} }

// Authorize asks.
func (u *union) Authorize(ctx context.Context, a Attributes) (Decision, string, error) {
	if a.User.InGroup(authn.GroupMasters) {
		return Allow, "", nil
	}
	var reasons []string
	var errs []error
	for _, member := range u.members {
		d, reason, err := member.Authorize(ctx, a)
		if d != NoOpinion {
			return d, reason, err
		}
		if reason != "" {
			reasons = append(reasons, reason)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return NoOpinion, strings.Join(reasons, "\n"), errors.Join(errs...)
}

type always struct{ decision Decision }

// AlwaysAllow returns an Authorizer for tests and for --authorization-mode.
func AlwaysAllow() Authorizer { return always{Allow} }

// Authorize returns the fixed decision.
func (d always) Authorize(context.Context, Attributes) (Decision, string, error) {
	return d.decision, "", nil
}

// RuleResolver lists what a user may do in a namespace. incomplete says why
// there may be more.
type RuleResolver interface {
	RulesFor(user authn.User, namespace string) (rules []rbacv1.PolicyRule, incomplete error)
}

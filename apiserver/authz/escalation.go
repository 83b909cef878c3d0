package authz

import (
	"context"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-helpers/auth/rbac/validation"

	"github.com/skeg-dev/skeg/apiserver/authn"
)

// Escalation keeps users from granting what they do not have: who writes a
// Role must hold its rules or the verb escalate on it, who writes a binding
// must hold the role's rules or the verb bind on it (kubernetes.io, "Privilege
// escalation prevention and bootstrapping").
type Escalation struct {
	roles      RoleReader
	authorizer Authorizer
}

// RoleReader finds rules; *RBAC is one.
type RoleReader interface {
	RuleResolver
	RulesOfRole(ref rbacv1.RoleRef, namespace string) (rules []rbacv1.PolicyRule, found bool)
}

// NewEscalation returns the check; authorizer is asked about escalate and bind.
func NewEscalation(roles RoleReader, authorizer Authorizer) *Escalation {
	return &Escalation{roles, authorizer}
}

// everything is what an aggregated role may come to hold.
var everything = []rbacv1.PolicyRule{
	{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
	{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
}

// Check returns nil when user may write obj (old is nil on create), else a
// Forbidden error that lists the missing rules. Objects that are not Roles or
// bindings are not its business.
func (e *Escalation) Check(ctx context.Context, user authn.User, obj, old runtime.Object) error {
	if user.InGroup(authn.GroupMasters) || grantsNothingNew(obj, old) {
		return nil
	}
	switch o := obj.(type) {
	case *rbacv1.Role:
		return e.checkRole(ctx, user, "roles", o.Namespace, o.Name, o.Rules)
	case *rbacv1.ClusterRole:
		rules := o.Rules
		if o.AggregationRule != nil && len(o.AggregationRule.ClusterRoleSelectors) > 0 {
			rules = everything
		}
		return e.checkRole(ctx, user, "clusterroles", "", o.Name, rules)
	case *rbacv1.RoleBinding:
		return e.checkBinding(ctx, user, "rolebindings", o.Namespace, o.Name, o.RoleRef)
	case *rbacv1.ClusterRoleBinding:
		return e.checkBinding(ctx, user, "clusterrolebindings", "", o.Name, o.RoleRef)
	}
	return nil
}

// grantsNothingNew reports an update that leaves rules, subjects and role as
// they were (labels, owner references), which needs no rights of its own.
func grantsNothingNew(obj, old runtime.Object) bool {
	switch o := obj.(type) {
	case *rbacv1.Role:
		before, ok := old.(*rbacv1.Role)
		return ok && equality.Semantic.DeepEqual(before.Rules, o.Rules)
	case *rbacv1.ClusterRole:
		before, ok := old.(*rbacv1.ClusterRole)
		return ok && equality.Semantic.DeepEqual(before.Rules, o.Rules) && equality.Semantic.DeepEqual(before.AggregationRule, o.AggregationRule)
	case *rbacv1.RoleBinding:
		before, ok := old.(*rbacv1.RoleBinding)
		return ok && before.RoleRef == o.RoleRef && equality.Semantic.DeepEqual(before.Subjects, o.Subjects)
	case *rbacv1.ClusterRoleBinding:
		before, ok := old.(*rbacv1.ClusterRoleBinding)
		return ok && before.RoleRef == o.RoleRef && equality.Semantic.DeepEqual(before.Subjects, o.Subjects)
	}
	return false
}

func (e *Escalation) checkRole(ctx context.Context, user authn.User, resource, namespace, name string, rules []rbacv1.PolicyRule) error {
	allowed, err := e.may(ctx, user, "escalate", resource, namespace, name)
	if allowed || err != nil {
		return err
	}
	return e.confirm(user, resource, namespace, name, rules)
}

func (e *Escalation) checkBinding(ctx context.Context, user authn.User, resource, namespace, name string, ref rbacv1.RoleRef) error {
	roles, roleNamespace := "clusterroles", namespace
	if ref.Kind == "Role" {
		roles = "roles"
	}
	allowed, err := e.may(ctx, user, "bind", roles, roleNamespace, ref.Name)
	if allowed || err != nil {
		return err
	}
	rules, found := e.roles.RulesOfRole(ref, namespace)
	if !found {
		// Upstream's answer too: a role that is not there cannot be compared.
		return apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: roles}, ref.Name)
	}
	return e.confirm(user, resource, namespace, name, rules)
}

func (e *Escalation) may(ctx context.Context, user authn.User, verb, resource, namespace, name string) (bool, error) {
	d, _, err := e.authorizer.Authorize(ctx, Attributes{
		User: user, Verb: verb, Group: rbacv1.GroupName, Version: "*", Resource: resource, Namespace: namespace, Name: name,
	})
	if err != nil && d != Allow {
		return false, apierrors.NewInternalError(fmt.Errorf("check the right to %s: %w", verb, err))
	}
	return d == Allow, nil
}

// confirm compares what is granted with what the granter holds there.
func (e *Escalation) confirm(user authn.User, resource, namespace, name string, rules []rbacv1.PolicyRule) error {
	held, incomplete := e.roles.RulesFor(user, namespace)
	covers, missing := validation.Covers(held, rules)
	if covers {
		return nil
	}
	text := &strings.Builder{}
	fmt.Fprintf(text, "user %q (groups=%q) is attempting to grant RBAC permissions not currently held:", user.Name, user.Groups)
	var lines []string
	for i := range missing {
		lines = append(lines, "\n"+compact(&missing[i]))
	}
	slices.Sort(lines)
	for _, line := range slices.Compact(lines) {
		text.WriteString(line)
	}
	if incomplete != nil {
		fmt.Fprintf(text, "; resolution errors: %v", incomplete)
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: rbacv1.GroupName, Resource: resource}, name, fmt.Errorf("%s", text))
}

// compact writes a rule like {APIGroups:[""], Resources:["pods"], Verbs:["get"]}.
func compact(r *rbacv1.PolicyRule) string {
	var parts []string
	add := func(name string, values []string) {
		if len(values) > 0 {
			quoted := make([]string, len(values))
			for i, v := range values {
				quoted[i] = fmt.Sprintf("%q", v)
			}
			parts = append(parts, name+":["+strings.Join(quoted, " ")+"]")
		}
	}
	add("APIGroups", r.APIGroups)
	add("Resources", r.Resources)
	add("NonResourceURLs", r.NonResourceURLs)
	add("ResourceNames", r.ResourceNames)
	add("Verbs", r.Verbs)
	return "{" + strings.Join(parts, ", ") + "}"
}

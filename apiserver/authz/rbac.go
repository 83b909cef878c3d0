package authz

import (
	"context"
	"fmt"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/internal/component"
)

// RBACStores are where Roles and bindings are; all required.
type RBACStores struct {
	Roles, RoleBindings, ClusterRoles, ClusterRoleBindings store.Store
}

// RBAC allows what the Roles bound to a user say. It keeps an index of
// bindings by subject in memory, so that a question costs a few map look-ups
// and no decoding. It is also a RuleResolver.
type RBAC struct {
	index   *bindingIndex
	mirrors []*mirror
}

// NewRBAC returns the authorizer; it knows nothing until Parts run.
func NewRBAC(stores RBACStores) *RBAC {
	index := newBindingIndex()
	return &RBAC{index: index, mirrors: []*mirror{
		{name: "clusterroles", source: stores.ClusterRoles, follower: &roleFollower{index: index, cluster: true}},
		{name: "roles", source: stores.Roles, follower: &roleFollower{index: index}},
		{name: "clusterrolebindings", source: stores.ClusterRoleBindings, follower: &bindingFollower{index: index, cluster: true}},
		{name: "rolebindings", source: stores.RoleBindings, follower: &bindingFollower{index: index}},
	}}
}

// Parts keep the index up to date; app/ runs them.
func (r *RBAC) Parts() []component.Part { return parts("rbac-", r.mirrors) }

// Ready returns nil once all objects were read.
func (r *RBAC) Ready() error { return allReady(r.mirrors) }

func parts(prefix string, mirrors []*mirror) []component.Part {
	var list []component.Part
	for _, m := range mirrors {
		list = append(list, component.Part{Name: prefix + m.name, Runnable: m})
	}
	return list
}

func allReady(mirrors []*mirror) error {
	for _, m := range mirrors {
		if err := m.Ready(); err != nil {
			return err
		}
	}
	return nil
}

// Authorize looks at the bindings of the user and of each of their groups, for
// the whole cluster and for the namespace.
func (r *RBAC) Authorize(_ context.Context, a Attributes) (Decision, string, error) {
	var missing []string
	allowedBy := ""
	r.index.visit(a.User, a.Namespace, func(b *binding, s *rbacv1.Subject, rules []rbacv1.PolicyRule, found bool) bool {
		if !found {
			missing = append(missing, fmt.Sprintf("%s %q not found", strings.ToLower(b.ref.Kind)+"."+rbacv1.GroupName, b.ref.Name))
			return true
		}
		if !RulesAllow(rules, &a) {
			return true
		}
		allowedBy = describe(b, s)
		return false
	})
	if allowedBy != "" {
		return Allow, allowedBy, nil
	}
	if len(missing) > 0 {
		return NoOpinion, "RBAC: " + strings.Join(missing, ", "), nil
	}
	return NoOpinion, "", nil
}

// RulesFor lists the rules of all bindings of user in namespace ("" is the
// whole cluster only).
func (r *RBAC) RulesFor(user authn.User, namespace string) ([]rbacv1.PolicyRule, error) {
	var rules []rbacv1.PolicyRule
	var missing []string
	r.index.visit(user, namespace, func(b *binding, _ *rbacv1.Subject, bound []rbacv1.PolicyRule, found bool) bool {
		if !found {
			missing = append(missing, fmt.Sprintf("%s %q not found", strings.ToLower(b.ref.Kind)+"."+rbacv1.GroupName, b.ref.Name))
		}
		rules = append(rules, bound...)
		return true
	})
	if len(missing) > 0 {
		return rules, fmt.Errorf("resolve rules: %s", strings.Join(missing, ", "))
	}
	return rules, nil
}

// RulesOfRole returns the rules that a reference in a namespace stands for.
func (r *RBAC) RulesOfRole(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, bool) {
	return r.index.rulesOf(ref, namespace)
}

func describe(b *binding, s *rbacv1.Subject) string {
	kind, name := "ClusterRoleBinding", b.name
	if b.namespace != "" {
		kind, name = "RoleBinding", b.name+"/"+b.namespace
	}
	subject := s.Name
	if s.Kind == rbacv1.ServiceAccountKind {
		namespace := s.Namespace
		if namespace == "" {
			namespace = b.namespace
		}
		subject += "/" + namespace
	}
	return fmt.Sprintf("RBAC: allowed by %s %q of %s %q to %s %q", kind, name, b.ref.Kind, b.ref.Name, s.Kind, subject)
}

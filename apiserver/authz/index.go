package authz

import (
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// binding is a RoleBinding (namespace set) or ClusterRoleBinding.
type binding struct {
	namespace, name string
	ref             rbacv1.RoleRef
	subjects        []rbacv1.Subject
}

// scope is a namespace and a subject in it: "u:" and a user name, or "g:" and
// a group name. Service accounts are users by their user name.
type scope struct{ namespace, subject string }

// grant is one subject's line in a binding.
type grant struct {
	binding *binding
	subject *rbacv1.Subject
}

// roleKey names a Role, or a ClusterRole with namespace "".
type roleKey struct{ namespace, name string }

// bindingIndex answers "which bindings concern this subject here" with one
// look-up. Its maps belong to the mirrors' goroutines for writing and to
// everybody for reading, under the lock.
type bindingIndex struct {
	mu       sync.RWMutex // guards all below; rules and bindings themselves are read-only
	roles    map[roleKey][]rbacv1.PolicyRule
	bindings map[roleKey]*binding // by the binding's own name
	grants   map[scope][]grant
}

func newBindingIndex() *bindingIndex {
	return &bindingIndex{roles: map[roleKey][]rbacv1.PolicyRule{}, bindings: map[roleKey]*binding{}, grants: map[scope][]grant{}}
}

// visit calls do for each grant to user in the cluster and in namespace, until
// it returns false. found says whether the role exists.
func (x *bindingIndex) visit(user authn.User, namespace string, do func(b *binding, s *rbacv1.Subject, rules []rbacv1.PolicyRule, found bool) bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if !x.visitIn("", user, do) || namespace == "" {
		return
	}
	x.visitIn(namespace, user, do)
}

func (x *bindingIndex) visitIn(namespace string, user authn.User, do func(*binding, *rbacv1.Subject, []rbacv1.PolicyRule, bool) bool) bool {
	if !x.visitScope(scope{namespace, "u:" + user.Name}, do) {
		return false
	}
	for _, group := range user.Groups {
		if !x.visitScope(scope{namespace, "g:" + group}, do) {
			return false
		}
	}
	return true
}

func (x *bindingIndex) visitScope(s scope, do func(*binding, *rbacv1.Subject, []rbacv1.PolicyRule, bool) bool) bool {
	for _, g := range x.grants[s] {
		rules, found := x.roles[roleOf(g.binding.ref, g.binding.namespace)]
		if !do(g.binding, g.subject, rules, found) {
			return false
		}
	}
	return true
}

func (x *bindingIndex) rulesOf(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	rules, ok := x.roles[roleOf(ref, namespace)]
	return rules, ok
}

func roleOf(ref rbacv1.RoleRef, namespace string) roleKey {
	if ref.Kind == "ClusterRole" {
		return roleKey{"", ref.Name}
	}
	return roleKey{namespace, ref.Name}
}

// subjectKey returns "" for a subject that cannot be anybody.
func subjectKey(s *rbacv1.Subject, bindingNamespace string) string {
	switch s.Kind {
	case rbacv1.UserKind:
		return "u:" + s.Name
	case rbacv1.GroupKind:
		return "g:" + s.Name
	case rbacv1.ServiceAccountKind:
		namespace := s.Namespace
		if namespace == "" {
			namespace = bindingNamespace
		}
		if namespace != "" {
			return "u:" + authn.ServiceAccountPrefix + namespace + ":" + s.Name
		}
	}
	return ""
}

func (x *bindingIndex) setRole(key roleKey, rules []rbacv1.PolicyRule) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.roles[key] = rules
}

func (x *bindingIndex) removeRole(key roleKey) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.roles, key)
}

func (x *bindingIndex) setBinding(b *binding) {
	x.mu.Lock()
	defer x.mu.Unlock()
	key := roleKey{b.namespace, b.name}
	x.dropBinding(key)
	x.bindings[key] = b
	for i := range b.subjects {
		if subject := subjectKey(&b.subjects[i], b.namespace); subject != "" {
			s := scope{b.namespace, subject}
			x.grants[s] = append(x.grants[s], grant{b, &b.subjects[i]})
		}
	}
}

func (x *bindingIndex) removeBinding(key roleKey) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.dropBinding(key)
}

// dropBinding needs the lock.
func (x *bindingIndex) dropBinding(key roleKey) {
	old, ok := x.bindings[key]
	if !ok {
		return
	}
	delete(x.bindings, key)
	for i := range old.subjects {
		s := scope{old.namespace, subjectKey(&old.subjects[i], old.namespace)}
		var left []grant
		for _, g := range x.grants[s] {
			if g.binding != old {
				left = append(left, g)
			}
		}
		if len(left) == 0 {
			delete(x.grants, s)
		} else {
			x.grants[s] = left
		}
	}
}

// clear drops all roles, or all bindings, of the cluster or of all namespaces,
// that are not in keep.
func (x *bindingIndex) clear(isBinding, cluster bool, keep map[roleKey]bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	gone := func(key roleKey) bool { return (key.namespace == "") == cluster && !keep[key] }
	if isBinding {
		for key := range x.bindings {
			if gone(key) {
				x.dropBinding(key)
			}
		}
		return
	}
	for key := range x.roles {
		if gone(key) {
			delete(x.roles, key)
		}
	}
}

// roleFollower feeds Roles or ClusterRoles into the index.
type roleFollower struct {
	index   *bindingIndex
	cluster bool
}

func (f *roleFollower) replace(items []*store.Item) {
	keep := map[roleKey]bool{}
	for _, item := range items {
		keep[f.set(item)] = true
	}
	f.index.clear(false, f.cluster, keep)
}

func (f *roleFollower) apply(e *store.Event) {
	if e.Type == store.Deleted {
		f.index.removeRole(roleKey{e.Item.Object.GetNamespace(), e.Item.Object.GetName()})
		return
	}
	f.set(e.Item)
}

func (f *roleFollower) set(item *store.Item) roleKey {
	key := roleKey{item.Object.GetNamespace(), item.Object.GetName()}
	switch role := item.Object.(type) {
	case *rbacv1.ClusterRole:
		f.index.setRole(key, role.Rules)
	case *rbacv1.Role:
		f.index.setRole(key, role.Rules)
	}
	return key
}

// bindingFollower feeds RoleBindings or ClusterRoleBindings into the index.
type bindingFollower struct {
	index   *bindingIndex
	cluster bool
}

func (f *bindingFollower) replace(items []*store.Item) {
	keep := map[roleKey]bool{}
	for _, item := range items {
		keep[f.set(item)] = true
	}
	f.index.clear(true, f.cluster, keep)
}

func (f *bindingFollower) apply(e *store.Event) {
	if e.Type == store.Deleted {
		f.index.removeBinding(roleKey{e.Item.Object.GetNamespace(), e.Item.Object.GetName()})
		return
	}
	f.set(e.Item)
}

func (f *bindingFollower) set(item *store.Item) roleKey {
	b := &binding{namespace: item.Object.GetNamespace(), name: item.Object.GetName()}
	switch o := item.Object.(type) {
	case *rbacv1.ClusterRoleBinding:
		b.ref, b.subjects = o.RoleRef, o.Subjects
	case *rbacv1.RoleBinding:
		b.ref, b.subjects = o.RoleRef, o.Subjects
	}
	f.index.setBinding(b)
	return roleKey{b.namespace, b.name}
}

package bootstrap

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	rbacclient "k8s.io/client-go/kubernetes/typed/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/validation"
)

// ensureRBAC makes the default roles and bindings, and adds to those that are
// there what they lack: missing rules, subjects, labels and annotations. What
// somebody added stays. Objects annotated rbac.authorization.kubernetes.io/
// autoupdate=false are left alone (kubernetes.io, "Auto-reconciliation").
func ensureRBAC(ctx context.Context, client rbacclient.RbacV1Interface) error {
	controllerRoles, controllerBindings := ControllerRoles()
	// Roles first: a binding to a role that is not there allows nothing, and
	// says so in every refusal.
	if err := ensureAll(ctx, client.ClusterRoles(), slices.Concat(ClusterRoles(), controllerRoles), clusterRoleKind(ctx, client)); err != nil {
		return err
	}
	if err := ensureAll(ctx, client.ClusterRoleBindings(), slices.Concat(ClusterRoleBindings(), controllerBindings), clusterBindingKind(ctx, client)); err != nil {
		return err
	}
	for _, namespace := range Namespaces {
		roles := slices.DeleteFunc(Roles(), func(r rbacv1.Role) bool { return r.Namespace != namespace })
		if err := ensureAll(ctx, client.Roles(namespace), roles, roleKind(ctx, client, namespace)); err != nil {
			return err
		}
		bindings := slices.DeleteFunc(RoleBindings(), func(b rbacv1.RoleBinding) bool { return b.Namespace != namespace })
		if err := ensureAll(ctx, client.RoleBindings(namespace), bindings, bindingKind(ctx, client, namespace)); err != nil {
			return err
		}
	}
	return nil
}

// writer is what all four typed clients have.
type writer[T any] interface {
	Create(ctx context.Context, obj *T, opts metav1.CreateOptions) (*T, error)
	Update(ctx context.Context, obj *T, opts metav1.UpdateOptions) (*T, error)
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
}

// kind is what differs between the four.
type kind[T any] struct {
	name string
	list func() ([]T, error)
	meta func(*T) *metav1.ObjectMeta
	// merge adds what wanted has to obj.
	merge func(obj, wanted *T)
	// replaced reports that obj must be deleted and made again, because what
	// differs cannot be changed; nil means never.
	replaced func(obj, wanted *T) bool
}

func ensureAll[T any](ctx context.Context, client writer[T], wanted []T, k kind[T]) error {
	if len(wanted) == 0 {
		return nil
	}
	existing, err := k.list()
	if err != nil {
		return fmt.Errorf("list %ss: %w", k.name, err)
	}
	byName := map[string]*T{}
	for i := range existing {
		byName[k.meta(&existing[i]).Name] = &existing[i]
	}
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.SetLimit(parallel)
	for i := range wanted {
		tasks.Go(func() error {
			name := k.meta(&wanted[i]).Name
			if err := ensureOne(ctx, client, byName[name], &wanted[i], k); err != nil {
				return fmt.Errorf("ensure %s %s: %w", k.name, name, err)
			}
			return nil
		})
	}
	return tasks.Wait()
}

// ensureOne leaves conflicts to the caller's next try.
func ensureOne[T any](ctx context.Context, client writer[T], existing, wanted *T, k kind[T]) error {
	if existing == nil {
		_, err := client.Create(ctx, wanted, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil // another server of this cluster, starting too
		}
		return err
	}
	meta := k.meta(existing)
	if meta.Annotations[rbacv1.AutoUpdateAnnotationKey] == "false" {
		return nil
	}
	if k.replaced != nil && k.replaced(existing, wanted) {
		if err := client.Delete(ctx, meta.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(meta.UID))}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		_, err := client.Create(ctx, wanted, metav1.CreateOptions{})
		return err
	}
	merged := *existing
	target := k.meta(&merged)
	target.Labels = overlay(k.meta(wanted).Labels, meta.Labels)
	target.Annotations = overlay(k.meta(wanted).Annotations, meta.Annotations)
	k.merge(&merged, wanted)
	if equality.Semantic.DeepEqual(existing, &merged) {
		return nil
	}
	_, err := client.Update(ctx, &merged, metav1.UpdateOptions{})
	return err
}

// overlay returns a new map; top wins.
func overlay(bottom, top map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range []map[string]string{bottom, top} {
		for key, value := range m {
			all[key] = value
		}
	}
	return all
}

// addRules returns a new slice with what is missing appended.
func addRules(existing, wanted []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	if covered, missing := validation.Covers(existing, wanted); !covered {
		return slices.Concat(existing, missing)
	}
	return existing
}

func addSubjects(existing, wanted []rbacv1.Subject) []rbacv1.Subject {
	all := slices.Clone(existing)
	for _, subject := range wanted {
		if !slices.Contains(all, subject) {
			all = append(all, subject)
		}
	}
	return all
}

func clusterRoleKind(ctx context.Context, client rbacclient.RbacV1Interface) kind[rbacv1.ClusterRole] {
	return kind[rbacv1.ClusterRole]{
		name: "cluster role",
		list: func() ([]rbacv1.ClusterRole, error) {
			list, err := client.ClusterRoles().List(ctx, metav1.ListOptions{})
			return itemsOf(list, err, func() []rbacv1.ClusterRole { return list.Items })
		},
		meta: func(r *rbacv1.ClusterRole) *metav1.ObjectMeta { return &r.ObjectMeta },
		merge: func(r, wanted *rbacv1.ClusterRole) {
			r.Rules = addRules(r.Rules, wanted.Rules)
			if wanted.AggregationRule == nil {
				r.AggregationRule = nil
				return
			}
			selectors := []metav1.LabelSelector{}
			if r.AggregationRule != nil {
				selectors = slices.Clone(r.AggregationRule.ClusterRoleSelectors)
			}
			for _, selector := range wanted.AggregationRule.ClusterRoleSelectors {
				if !slices.ContainsFunc(selectors, func(s metav1.LabelSelector) bool { return equality.Semantic.DeepEqual(s, selector) }) {
					selectors = append(selectors, selector)
				}
			}
			r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: selectors}
		},
	}
}

func roleKind(ctx context.Context, client rbacclient.RbacV1Interface, namespace string) kind[rbacv1.Role] {
	return kind[rbacv1.Role]{
		name: "role",
		list: func() ([]rbacv1.Role, error) {
			list, err := client.Roles(namespace).List(ctx, metav1.ListOptions{})
			return itemsOf(list, err, func() []rbacv1.Role { return list.Items })
		},
		meta:  func(r *rbacv1.Role) *metav1.ObjectMeta { return &r.ObjectMeta },
		merge: func(r, wanted *rbacv1.Role) { r.Rules = addRules(r.Rules, wanted.Rules) },
	}
}

func clusterBindingKind(ctx context.Context, client rbacclient.RbacV1Interface) kind[rbacv1.ClusterRoleBinding] {
	return kind[rbacv1.ClusterRoleBinding]{
		name: "cluster role binding",
		list: func() ([]rbacv1.ClusterRoleBinding, error) {
			list, err := client.ClusterRoleBindings().List(ctx, metav1.ListOptions{})
			return itemsOf(list, err, func() []rbacv1.ClusterRoleBinding { return list.Items })
		},
		meta:     func(b *rbacv1.ClusterRoleBinding) *metav1.ObjectMeta { return &b.ObjectMeta },
		merge:    func(b, wanted *rbacv1.ClusterRoleBinding) { b.Subjects = addSubjects(b.Subjects, wanted.Subjects) },
		replaced: func(b, wanted *rbacv1.ClusterRoleBinding) bool { return b.RoleRef != wanted.RoleRef },
	}
}

func bindingKind(ctx context.Context, client rbacclient.RbacV1Interface, namespace string) kind[rbacv1.RoleBinding] {
	return kind[rbacv1.RoleBinding]{
		name: "role binding",
		list: func() ([]rbacv1.RoleBinding, error) {
			list, err := client.RoleBindings(namespace).List(ctx, metav1.ListOptions{})
			return itemsOf(list, err, func() []rbacv1.RoleBinding { return list.Items })
		},
		meta:     func(b *rbacv1.RoleBinding) *metav1.ObjectMeta { return &b.ObjectMeta },
		merge:    func(b, wanted *rbacv1.RoleBinding) { b.Subjects = addSubjects(b.Subjects, wanted.Subjects) },
		replaced: func(b, wanted *rbacv1.RoleBinding) bool { return b.RoleRef != wanted.RoleRef },
	}
}

// itemsOf keeps a nil list from being looked into.
func itemsOf[L, T any](_ *L, err error, items func() []T) ([]T, error) {
	if err != nil {
		return nil, err
	}
	return items(), nil
}

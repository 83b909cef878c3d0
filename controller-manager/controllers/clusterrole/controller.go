// Package clusterrole fills the rules of aggregated ClusterRoles with those of
// the roles that their selectors match. app/ lists it; it starts no goroutines.
package clusterrole

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	rbaclisters "k8s.io/client-go/listers/rbac/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/skeg-dev/skeg/controller-manager/reconcile"
)

// Controller reconciles ClusterRoles with an aggregation rule.
type Controller struct {
	client kubernetes.Interface
	roles  cache.SharedIndexInformer
	lister rbaclisters.ClusterRoleLister
}

// New returns the controller.
func New(env reconcile.Env) *Controller {
	roles := env.Informers.Rbac().V1().ClusterRoles()
	return &Controller{client: env.Client, roles: roles.Informer(), lister: roles.Lister()}
}

// Name implements reconcile.Reconciler.
func (c *Controller) Name() string { return "clusterrole-aggregation-controller" }

// Watches implements reconcile.Reconciler: any role may be part of any other.
func (c *Controller) Watches() []reconcile.Watch {
	return []reconcile.Watch{reconcile.On(c.roles, func(q reconcile.Queue, _, _ *rbacv1.ClusterRole) {
		all, err := c.lister.List(labels.Everything())
		if err != nil {
			return
		}
		for _, role := range all {
			if role.AggregationRule != nil {
				q.Add(role.Name)
			}
		}
	})}
}

// Reconcile implements reconcile.Reconciler.
func (c *Controller) Reconcile(ctx context.Context, key string) (reconcile.Result, error) {
	role, err := c.lister.Get(key)
	if apierrors.IsNotFound(err) || (err == nil && role.AggregationRule == nil) {
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	all, err := c.lister.List(labels.Everything())
	if err != nil {
		return reconcile.Result{}, err
	}
	rules, err := aggregate(role, all)
	if err != nil {
		return reconcile.Result{}, err
	}
	if equality.Semantic.DeepEqual(role.Rules, rules) {
		return reconcile.Result{}, nil
	}
	next := role.DeepCopy()
	next.Rules = rules
	if _, err := c.client.RbacV1().ClusterRoles().Update(ctx, next, metav1.UpdateOptions{}); err != nil {
		return reconcile.Result{}, fmt.Errorf("write aggregated rules: %w", err)
	}
	return reconcile.Result{}, nil
}

// aggregate joins the rules of all matching roles in name order, each once.
func aggregate(role *rbacv1.ClusterRole, all []*rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b *rbacv1.ClusterRole) int { return cmp.Compare(a.Name, b.Name) })
	var rules []rbacv1.PolicyRule
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, fmt.Errorf("read selector %d: %w", i, err)
		}
		for _, part := range all {
			if part.Name == role.Name || !selector.Matches(labels.Set(part.Labels)) {
				continue
			}
			for _, rule := range part.Rules {
				if !slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(r, rule) }) {
					rules = append(rules, rule)
				}
			}
		}
	}
	return rules, nil
}

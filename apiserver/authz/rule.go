package authz

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// ruleAllows reports whether one rule covers a question (kubernetes.io, "Using
// RBAC Authorization").
func ruleAllows(r *rbacv1.PolicyRule, a *Attributes) bool {
	if !matches(r.Verbs, a.Verb) {
		return false
	}
	if a.Path != "" {
		return pathMatches(r.NonResourceURLs, a.Path)
	}
	return matches(r.APIGroups, a.Group) &&
		resourceMatches(r.Resources, a.Resource, a.Subresource) &&
		(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, a.Name))
}

// RulesAllow reports whether any of the rules covers a question.
func RulesAllow(rules []rbacv1.PolicyRule, a *Attributes) bool {
	for i := range rules {
		if ruleAllows(&rules[i], a) {
			return true
		}
	}
	return false
}

func matches(allowed []string, value string) bool {
	for _, candidate := range allowed {
		if candidate == value || candidate == rbacv1.VerbAll {
			return true
		}
	}
	return false
}

// resourceMatches knows "pods", "pods/log", "*/scale" and "*".
func resourceMatches(allowed []string, resource, subresource string) bool {
	for _, candidate := range allowed {
		if candidate == rbacv1.ResourceAll {
			return true
		}
		name, sub, _ := strings.Cut(candidate, "/")
		if sub == subresource && (name == resource || (name == "*" && subresource != "")) {
			return true
		}
	}
	return false
}

// pathMatches knows "/version", "/healthz/*" and "*".
func pathMatches(allowed []string, path string) bool {
	for _, candidate := range allowed {
		if candidate == path || candidate == rbacv1.NonResourceAll {
			return true
		}
		if prefix, ok := strings.CutSuffix(candidate, "*"); ok && strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

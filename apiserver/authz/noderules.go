package authz

import rbacv1 "k8s.io/api/rbac/v1"

// NodeRules are what every kubelet may do, as in upstream's ClusterRole
// system:node, without the requests that the node authorizer decides by what
// runs on the node (Secrets, ConfigMaps, volumes, tokens, its own Node, Pods
// and Lease).
func NodeRules() []rbacv1.PolicyRule {
	rule := func(group string, resources []string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}
	}
	return []rbacv1.PolicyRule{
		rule("authentication.k8s.io", []string{"tokenreviews"}, "create"),
		rule("authorization.k8s.io", []string{"subjectaccessreviews", "localsubjectaccessreviews"}, "create"),
		rule("", []string{"services"}, "get", "list", "watch"),
		rule("", []string{"endpoints"}, "get"),
		rule("", []string{"nodes"}, "create"),
		rule("", []string{"nodes/status"}, "patch", "update"),
		rule("", []string{"nodes"}, "patch", "update"),
		rule("", []string{"events"}, "create", "patch", "update"),
		rule("events.k8s.io", []string{"events"}, "create", "patch", "update"),
		rule("", []string{"pods"}, "create", "delete"),
		rule("", []string{"pods/status"}, "patch", "update"),
		rule("", []string{"pods/eviction"}, "create"),
		rule("certificates.k8s.io", []string{"certificatesigningrequests"}, "create", "get", "list", "watch"),
		rule("certificates.k8s.io", []string{"podcertificaterequests"}, "create", "get", "list", "watch"),
		rule("certificates.k8s.io", []string{"clustertrustbundles"}, "get", "list", "watch"),
		rule("storage.k8s.io", []string{"csidrivers"}, "get", "list", "watch"),
		rule("node.k8s.io", []string{"runtimeclasses"}, "get", "list", "watch"),
	}
}

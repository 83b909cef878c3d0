package bootstrap

import (
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/apiserver/authz"
)

// ClusterRoles returns the roles that a cluster has from the start
// (kubernetes.io, "Using RBAC Authorization", default roles), without those
// of controllers.
func ClusterRoles() []rbacv1.ClusterRole {
	return slices.Concat(adminRoles(), userFacingRoles(), componentRoles(), certificateRoles(), addonRoles())
}

func adminRoles() []rbacv1.ClusterRole {
	return []rbacv1.ClusterRole{
		clusterRole("cluster-admin", rule("*", "*", "*"), rbacv1.PolicyRule{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}),
		clusterRole("system:discovery", paths("/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/")),
		clusterRole("system:public-info-viewer", paths("/healthz /livez /readyz /version /version/")),
		clusterRole("system:monitoring", paths("/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*")),
		clusterRole("system:basic-user",
			rule("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
			rule("create", "authentication.k8s.io", "selfsubjectreviews")),
		clusterRole("system:service-account-issuer-discovery",
			paths("/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/")),
	}
}

// userFacingRoles are admin, edit and view, which collect the rules of all
// roles with an aggregate-to label; their own rules are filled here too, so
// that they work before the aggregation controller runs.
func userFacingRoles() []rbacv1.ClusterRole {
	view, edit, admin := viewRules(), editRules(), adminRules()
	aggregated := func(to string, label string, rules ...rbacv1.PolicyRule) rbacv1.ClusterRole {
		r := clusterRole(to, rules...)
		if label != "" {
			r.Labels[aggregatePrefix+label] = "true"
		}
		r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{
			{MatchLabels: map[string]string{aggregatePrefix + to: "true"}},
		}}
		return r
	}
	part := func(to string, rules []rbacv1.PolicyRule) rbacv1.ClusterRole {
		r := clusterRole("system:aggregate-to-"+to, rules...)
		r.Labels[aggregatePrefix+to] = "true"
		return r
	}
	return []rbacv1.ClusterRole{
		aggregated("admin", "", slices.Concat(admin, edit, view)...),
		aggregated("edit", "admin", slices.Concat(edit, view)...),
		aggregated("view", "edit", view...),
		part("admin", admin), part("edit", edit), part("view", view),
	}
}

func adminRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
		rule(readWrite, rbacv1.GroupName, "roles rolebindings"),
	}
}

func editRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(read, "core", "pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy"),
		rule("impersonate", "core", "serviceaccounts"),
		rule(write, "core", "pods pods/attach pods/proxy pods/exec pods/portforward"),
		rule("create", "core", "pods/eviction"),
		rule(write, "core", "replicationcontrollers replicationcontrollers/scale serviceaccounts services services/proxy persistentvolumeclaims configmaps secrets events"),
		rule("create", "core", "serviceaccounts/token"),
		rule(write, "apps", "statefulsets statefulsets/scale daemonsets deployments deployments/scale deployments/rollback replicasets replicasets/scale"),
		rule(write, "autoscaling", "horizontalpodautoscalers"),
		rule(write, "batch", "jobs cronjobs"),
		rule(write, "policy", "poddisruptionbudgets"),
		rule(write, "networking.k8s.io", "networkpolicies ingresses"),
		rule(readWrite, "coordination.k8s.io", "leases"),
		rule(write, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
	}
}

func viewRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(read, "core", "pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status endpoints persistentvolumeclaims persistentvolumeclaims/status configmaps"),
		rule(read, "core", "limitranges resourcequotas bindings events pods/status resourcequotas/status namespaces/status replicationcontrollers/status pods/log"),
		rule(read, "core", "namespaces"),
		rule(read, "discovery.k8s.io", "endpointslices"),
		rule(read, "apps", "controllerrevisions statefulsets statefulsets/status statefulsets/scale daemonsets daemonsets/status deployments deployments/status deployments/scale replicasets replicasets/status replicasets/scale"),
		rule(read, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
		rule(read, "batch", "jobs cronjobs cronjobs/status jobs/status"),
		rule(read, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
		rule(read, "networking.k8s.io", "networkpolicies ingresses ingresses/status"),
		rule(read, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
	}
}

func componentRoles() []rbacv1.ClusterRole {
	return []rbacv1.ClusterRole{
		clusterRole("system:node", append(authz.NodeRules(),
			rule(read, "core", "nodes pods"),
			rule(read, "core", "secrets configmaps"),
			rule("get", "core", "persistentvolumeclaims persistentvolumes"),
			rule("create", "core", "serviceaccounts/token"),
			rule("get update patch", "core", "persistentvolumeclaims/status"),
			rule("get", "storage.k8s.io", "volumeattachments"),
			rule("create delete get patch update", "storage.k8s.io", "csinodes"),
			rule("create delete get patch update", "coordination.k8s.io", "leases"))...),
		clusterRole("system:node-proxier",
			rule("list watch", "core", "services endpoints"),
			rule(read, "core", "nodes"),
			events(),
			rule("list watch", "discovery.k8s.io", "endpointslices"),
			rule("list watch", "networking.k8s.io", "servicecidrs")),
		clusterRole("skeg:network-policy", rule(read, "core", "pods namespaces"), rule(read, "networking.k8s.io", "networkpolicies")),
		clusterRole("system:kubelet-api-admin",
			rule("get list watch proxy", "core", "nodes"),
			rule("*", "core", "nodes/checkpoint nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/stats")),
		clusterRole("system:node-bootstrapper", rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests")),
		clusterRole("system:auth-delegator",
			rule("create", "authentication.k8s.io", "tokenreviews"),
			rule("create", "authorization.k8s.io", "subjectaccessreviews")),
		clusterRole("system:kube-aggregator", rule(read, "core", "services endpoints"), rule(read, "discovery.k8s.io", "endpointslices")),
		controllerManagerRole(), schedulerRole(),
	}
}

func controllerManagerRole() rbacv1.ClusterRole {
	return clusterRole("system:kube-controller-manager",
		events(),
		rule("create", "coordination.k8s.io", "leases"),
		named("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
		rule("create", "core", "secrets serviceaccounts"),
		rule("delete", "core", "secrets"),
		rule("get", "core", "namespaces secrets serviceaccounts configmaps"),
		rule("update", "core", "secrets serviceaccounts"),
		rule("create", "authentication.k8s.io", "tokenreviews"),
		rule("create", "authorization.k8s.io", "subjectaccessreviews"),
		rule("list watch", "*", "*"),
		rule("create", "core", "serviceaccounts/token"))
}

func schedulerRole() rbacv1.ClusterRole {
	return clusterRole("system:kube-scheduler",
		events(),
		rule("create", "coordination.k8s.io", "leases"),
		named("get update list watch", "coordination.k8s.io", "leases", "kube-scheduler"),
		rule(read, "core", "nodes"),
		rule("delete get list watch", "core", "pods"),
		rule("create", "core", "bindings pods/binding"),
		rule("patch update", "core", "pods/status"),
		rule(read, "core", "replicationcontrollers services namespaces"),
		rule(read, "apps extensions", "replicasets"),
		rule(read, "apps", "statefulsets"),
		rule(read, "policy", "poddisruptionbudgets"),
		rule("get list watch patch update", "core", "persistentvolumeclaims persistentvolumes"),
		rule("create", "authentication.k8s.io", "tokenreviews"),
		rule("create", "authorization.k8s.io", "subjectaccessreviews"),
		rule(read, "storage.k8s.io", "csinodes csidrivers csistoragecapacities storageclasses volumeattachments"),
		rule(read, "resource.k8s.io", "resourceclaims resourceslices deviceclasses devicetaintrules"),
		rule("patch update", "resource.k8s.io", "resourceclaims resourceclaims/status"),
		rule(read, "scheduling.k8s.io", "podgroups workloads"),
		rule("update patch", "scheduling.k8s.io", "podgroups/status"))
}

func certificateRoles() []rbacv1.ClusterRole {
	const prefix = "system:certificates.k8s.io:"
	approver := func(name, signer string) rbacv1.ClusterRole {
		return clusterRole(prefix+name, named("approve", "certificates.k8s.io", "signers", signer))
	}
	return []rbacv1.ClusterRole{
		clusterRole(prefix+"certificatesigningrequests:nodeclient", rule("create", "certificates.k8s.io", "certificatesigningrequests/nodeclient")),
		clusterRole(prefix+"certificatesigningrequests:selfnodeclient", rule("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient")),
		approver("kube-apiserver-client-approver", "kubernetes.io/kube-apiserver-client"),
		approver("kube-apiserver-client-kubelet-approver", "kubernetes.io/kube-apiserver-client-kubelet"),
		approver("kubelet-serving-approver", "kubernetes.io/kubelet-serving"),
		approver("legacy-unknown-approver", "kubernetes.io/legacy-unknown"),
		clusterRole("system:cluster-trust-bundle-discovery", rule(read, "certificates.k8s.io", "clustertrustbundles")),
	}
}

func addonRoles() []rbacv1.ClusterRole {
	return []rbacv1.ClusterRole{
		clusterRole("system:kube-dns", rule("list watch", "core", "endpoints services")),
		clusterRole("system:heapster", rule(read, "core", "events namespaces nodes pods"), rule(read, "extensions", "deployments")),
		clusterRole("system:node-problem-detector", rule("get", "core", "nodes"), rule("patch", "core", "nodes/status"), events()),
		clusterRole("system:persistent-volume-provisioner",
			rule("get list watch create delete", "core", "persistentvolumes"),
			rule("get list watch update", "core", "persistentvolumeclaims"),
			rule(read, "storage.k8s.io", "storageclasses"),
			rule("watch", "core", "events"), events()),
		clusterRole("system:volume-scheduler",
			rule("get list watch patch update", "core", "persistentvolumes"),
			rule(read, "storage.k8s.io", "storageclasses"),
			rule("get list watch patch update", "core", "persistentvolumeclaims")),
	}
}

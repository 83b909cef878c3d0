package bootstrap

import (
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/skeg-dev/skeg/apiserver/authn"
)

// controller is what one control loop may do, as upstream's role
// system:controller:<name>.
type controller struct {
	name  string
	rules []rbacv1.PolicyRule
}

// workloadControllers make Pods.
func workloadControllers() []controller {
	return []controller{
		{"deployment-controller", []rbacv1.PolicyRule{
			rule("get list watch update", "apps extensions", "deployments"),
			rule("update", "apps extensions", "deployments/status deployments/finalizers"),
			rule("get list watch create update patch delete", "apps extensions", "replicasets"),
			rule("get list watch update", "core", "pods"), events()}},
		{"replicaset-controller", []rbacv1.PolicyRule{
			rule("get list watch update", "apps extensions", "replicasets"),
			rule("update", "apps extensions", "replicasets/status replicasets/finalizers"),
			rule("list watch create delete patch", "core", "pods"), events()}},
		{"replication-controller", []rbacv1.PolicyRule{
			rule("get list watch update", "core", "replicationcontrollers"),
			rule("update", "core", "replicationcontrollers/status replicationcontrollers/finalizers"),
			rule("list watch create delete patch", "core", "pods"), events()}},
		{"statefulset-controller", []rbacv1.PolicyRule{
			rule("list watch", "core", "pods"),
			rule(read, "apps", "statefulsets"),
			rule("update", "apps", "statefulsets/status statefulsets/finalizers"),
			rule("get create delete update patch", "core", "pods"),
			rule("get create delete update patch list watch", "apps", "controllerrevisions"),
			rule("get create list watch update delete", "core", "persistentvolumeclaims"), events()}},
		{"daemon-set-controller", []rbacv1.PolicyRule{
			rule(read, "apps extensions", "daemonsets"),
			rule("update", "apps extensions", "daemonsets/status daemonsets/finalizers"),
			rule("list watch", "core", "nodes"),
			rule("list watch create delete patch", "core", "pods"),
			rule("create", "core", "pods/binding"),
			rule("get list watch create delete update patch", "apps", "controllerrevisions"), events()}},
		{"job-controller", []rbacv1.PolicyRule{
			rule("get list watch update patch", "batch", "jobs"),
			rule("update", "batch", "jobs/status jobs/finalizers"),
			rule("list watch create delete patch", "core", "pods"), events()}},
		{"cronjob-controller", []rbacv1.PolicyRule{
			rule("get list watch update", "batch", "cronjobs"),
			rule("get list watch create update delete patch", "batch", "jobs"),
			rule("update", "batch", "cronjobs/status cronjobs/finalizers"),
			rule("list watch delete", "core", "pods"), events()}},
		{"horizontal-pod-autoscaler", []rbacv1.PolicyRule{
			rule(read, "autoscaling", "horizontalpodautoscalers"),
			rule("update", "autoscaling", "horizontalpodautoscalers/status"),
			rule("get update", "*", "*/scale"),
			rule("list watch", "core", "pods"),
			rule("list watch", "metrics.k8s.io", "pods"),
			rule(read, "custom.metrics.k8s.io external.metrics.k8s.io", "*"), events()}},
		{"disruption-controller", []rbacv1.PolicyRule{
			rule(read, "apps extensions", "deployments replicasets"),
			rule(read, "core", "replicationcontrollers"),
			rule(read, "policy", "poddisruptionbudgets"),
			rule(read, "apps", "statefulsets"),
			rule("update", "policy", "poddisruptionbudgets/status"),
			rule("patch update", "core", "pods/status"),
			rule("list watch", "core", "pods"),
			rule("get", "*", "*/scale"), events()}},
	}
}

// clusterControllers keep nodes, addresses, namespaces and credentials.
func clusterControllers() []controller {
	return []controller{
		{"endpoint-controller", []rbacv1.PolicyRule{
			rule(read, "core", "services pods"),
			rule("get list watch create update delete", "core", "endpoints"),
			rule("create", "core", "endpoints/restricted"), events()}},
		{"endpointslice-controller", []rbacv1.PolicyRule{
			rule(read, "core", "services pods nodes"),
			rule("update", "core", "services/finalizers"),
			rule("get list watch create update delete", "discovery.k8s.io", "endpointslices"),
			rule("create", "discovery.k8s.io", "endpointslices/restricted"), events()}},
		{"endpointslicemirroring-controller", []rbacv1.PolicyRule{
			rule(read, "core", "services endpoints"),
			rule("update", "core", "services/finalizers endpoints/finalizers"),
			rule("get list watch create update delete", "discovery.k8s.io", "endpointslices"),
			rule("create", "discovery.k8s.io", "endpointslices/restricted"), events()}},
		{"namespace-controller", []rbacv1.PolicyRule{
			rule("get list watch delete", "core", "namespaces"),
			rule("update", "core", "namespaces/finalize namespaces/status"),
			rule("get list delete deletecollection", "*", "*")}},
		{"generic-garbage-collector", []rbacv1.PolicyRule{
			rule("get list watch patch update delete", "*", "*"), events()}},
		{"node-controller", []rbacv1.PolicyRule{
			rule("get list watch update delete patch", "core", "nodes"),
			rule("patch update", "core", "nodes/status"),
			rule("patch update", "core", "pods/status"),
			rule("get list watch delete", "core", "pods"),
			rule(read, "coordination.k8s.io", "leases"), events()}},
		{"pod-garbage-collector", []rbacv1.PolicyRule{
			rule("list watch delete", "core", "pods"),
			rule("get list", "core", "nodes"),
			rule("patch", "core", "pods/status")}},
		{"ttl-controller", []rbacv1.PolicyRule{rule("update patch list watch", "core", "nodes"), events()}},
		{"ttl-after-finished-controller", []rbacv1.PolicyRule{rule("get list watch delete", "batch", "jobs"), events()}},
		{"service-account-controller", []rbacv1.PolicyRule{rule("create", "core", "serviceaccounts"), events()}},
		{"root-ca-cert-publisher", []rbacv1.PolicyRule{rule("create update", "core", "configmaps"), events()}},
		{"resourcequota-controller", []rbacv1.PolicyRule{
			rule("list watch", "*", "*"), rule("update", "core", "resourcequotas/status"), events()}},
		{"clusterrole-aggregation-controller", []rbacv1.PolicyRule{
			rule("escalate get list watch update patch", rbacv1.GroupName, "clusterroles")}},
		{"certificate-controller", []rbacv1.PolicyRule{
			rule("get list watch delete", "certificates.k8s.io", "certificatesigningrequests"),
			rule("update", "certificates.k8s.io", "certificatesigningrequests/status certificatesigningrequests/approval"),
			named("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
			named("sign", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown"),
			// Beyond upstream: serving certificates are approved too, once the
			// names in them were checked against the Node.
			named("approve", "certificates.k8s.io", "signers", "kubernetes.io/kubelet-serving"),
			rule(read, "core", "nodes"),
			rule("create", "authorization.k8s.io", "subjectaccessreviews"), events()}},
		{"persistent-volume-binder", []rbacv1.PolicyRule{
			rule("get list watch update create delete", "core", "persistentvolumes"),
			rule("update", "core", "persistentvolumes/status persistentvolumeclaims/status"),
			rule("get list watch update", "core", "persistentvolumeclaims"),
			rule("list watch get create delete", "core", "pods"),
			rule(read, "storage.k8s.io", "storageclasses"), rule("get list watch", "core", "nodes"), events()}},
		{"pvc-protection-controller", []rbacv1.PolicyRule{
			rule("get list watch update", "core", "persistentvolumeclaims"), rule("list watch get", "core", "pods"), events()}},
		{"pv-protection-controller", []rbacv1.PolicyRule{rule("get list watch update", "core", "persistentvolumes"), events()}},
		{"ephemeral-volume-controller", []rbacv1.PolicyRule{
			rule(read, "core", "pods"), rule("update", "core", "pods/finalizers"),
			rule("get list watch create", "core", "persistentvolumeclaims"), events()}},
		{"legacy-service-account-token-cleaner", []rbacv1.PolicyRule{
			named("get", "core", "configmaps", "kube-apiserver-legacy-service-account-token-tracking"),
			rule("delete patch", "core", "secrets")}},
	}
}

// ControllerRoles returns a role for each controller and its binding: to the
// service account of that name in kube-system, for a controller manager that
// uses one account a controller, and to the controller manager's own user, for
// one that does not.
func ControllerRoles() ([]rbacv1.ClusterRole, []rbacv1.ClusterRoleBinding) {
	var roles []rbacv1.ClusterRole
	var bindings []rbacv1.ClusterRoleBinding
	for _, list := range [][]controller{workloadControllers(), clusterControllers()} {
		for _, c := range list {
			name := controllerPrefix + c.name
			roles = append(roles, clusterRole(name, c.rules...))
			bindings = append(bindings, clusterBinding(name, name, serviceAccount(c.name), user(authn.UserControllerManager)))
		}
	}
	return roles, bindings
}

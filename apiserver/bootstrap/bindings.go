package bootstrap

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/apiserver/authn"
)

// Names of published objects.
const (
	authConfigMap  = "extension-apiserver-authentication"
	clusterInfoMap = "cluster-info"
)

// ClusterRoleBindings returns who has the roles of ClusterRoles.
func ClusterRoleBindings() []rbacv1.ClusterRoleBinding {
	same := func(name string, subjects ...rbacv1.Subject) rbacv1.ClusterRoleBinding {
		return clusterBinding(name, name, subjects...)
	}
	const csr = "system:certificates.k8s.io:certificatesigningrequests:"
	return []rbacv1.ClusterRoleBinding{
		same("cluster-admin", group(authn.GroupMasters)),
		same("system:discovery", group(authn.GroupAuthenticated)),
		same("system:basic-user", group(authn.GroupAuthenticated)),
		same("system:public-info-viewer", group(authn.GroupAuthenticated), group(authn.GroupUnauthenticated)),
		same("system:monitoring", group(authn.GroupMonitoring)),
		same("system:service-account-issuer-discovery", group(authn.GroupServiceAccounts)),
		same("system:kube-controller-manager", user(authn.UserControllerManager)),
		same("system:kube-scheduler", user(authn.UserScheduler)),
		same("system:volume-scheduler", user(authn.UserScheduler)),
		same("system:kube-dns", serviceAccount("kube-dns")),
		same("system:node-proxier", user(authn.UserProxy)),
		same("system:cluster-trust-bundle-discovery", group(authn.GroupServiceAccounts)),
		// Nodes are the node authorizer's business; the binding exists without
		// subjects, as upstream's.
		same("system:node"),
		// A node's proxy, and its kubelet's routes to other nodes, use the
		// node's own certificate where no other was given to them.
		clusterBinding("skeg:node-proxier", "system:node-proxier", group(authn.GroupNodes)),
		clusterBinding("skeg:network-policy", "skeg:network-policy", user(authn.UserProxy)),
		// Joining: who has a bootstrap token may ask for a node's client
		// certificate and gets it; a node may renew its own (kubeadm's names).
		clusterBinding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", group(authn.GroupBootstrappers)),
		clusterBinding("kubeadm:node-autoapprove-bootstrap", csr+"nodeclient", group(authn.GroupBootstrappers)),
		clusterBinding("kubeadm:node-autoapprove-certificate-rotation", csr+"selfnodeclient", group(authn.GroupNodes)),
	}
}

// Roles returns the roles in namespaces.
func Roles() []rbacv1.Role {
	const system = metav1.NamespaceSystem
	leader := func(component string) rbacv1.Role {
		return role(system, "system::leader-locking-"+component, rule("watch", "core", "configmaps"), named("get update", "core", "configmaps", component))
	}
	return []rbacv1.Role{
		role(system, "extension-apiserver-authentication-reader", named(read, "core", "configmaps", authConfigMap)),
		leader(authn.UserControllerManager[len("system:"):]), leader(authn.UserScheduler[len("system:"):]),
		role(system, controllerPrefix+"bootstrap-signer", rule(read, "core", "secrets")),
		role(system, controllerPrefix+"token-cleaner", rule("get list watch delete", "core", "secrets"), events()),
		role(metav1.NamespacePublic, controllerPrefix+"bootstrap-signer",
			rule(read, "core", "configmaps"), named("update", "core", "configmaps", clusterInfoMap), events()),
		role(metav1.NamespacePublic, "kubeadm:bootstrap-signer-clusterinfo", named("get", "core", "configmaps", clusterInfoMap)),
	}
}

// RoleBindings returns who has the roles of Roles.
func RoleBindings() []rbacv1.RoleBinding {
	const system = metav1.NamespaceSystem
	manager, scheduler := user(authn.UserControllerManager), user(authn.UserScheduler)
	same := func(namespace, name string, subjects ...rbacv1.Subject) rbacv1.RoleBinding {
		return binding(namespace, name, name, subjects...)
	}
	return []rbacv1.RoleBinding{
		// Kubelets read the client authorities there when they were given no file.
		binding(system, "system::extension-apiserver-authentication-reader", "extension-apiserver-authentication-reader", manager, scheduler, group(authn.GroupNodes), user(authn.UserProxy)),
		same(system, "system::leader-locking-kube-controller-manager", manager, serviceAccount("kube-controller-manager")),
		same(system, "system::leader-locking-kube-scheduler", scheduler, serviceAccount("kube-scheduler")),
		same(system, controllerPrefix+"bootstrap-signer", serviceAccount("bootstrap-signer"), manager),
		same(system, controllerPrefix+"token-cleaner", serviceAccount("token-cleaner"), manager),
		same(metav1.NamespacePublic, controllerPrefix+"bootstrap-signer", serviceAccount("bootstrap-signer"), manager),
		same(metav1.NamespacePublic, "kubeadm:bootstrap-signer-clusterinfo", user(authn.Anonymous), group(authn.GroupBootstrappers)),
	}
}

// Namespaces are those that a cluster has from the start.
var Namespaces = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease}

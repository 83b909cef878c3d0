package bootstrap

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/authz"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/apiserver/store/memory"
	"github.com/skeg-dev/skeg/internal/component"
	"github.com/skeg-dev/skeg/internal/testkit"
)

func TestObjects(t *testing.T) {
	client := fake.NewClientset()
	objects := &Objects{Client: client, Files: ensure(t, testConfig(t))}
	if objects.Ready() == nil {
		t.Error("ready before the start")
	}
	group := &component.Group{Parts: []component.Part{{Name: "objects", Runnable: objects}}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- group.Run(ctx) }()
	testkit.Eventually(t, "the objects", group.Ready)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, name := range Namespaces {
		if _, err := client.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
	info, err := client.CoreV1().ConfigMaps("kube-public").Get(t.Context(), "cluster-info", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.Load([]byte(info.Data["kubeconfig"]))
	if err != nil || config.Clusters[""].Server != "https://10.1.0.1:6443" {
		t.Errorf("cluster-info %v, %v", config, err)
	}
	client.ClearActions()
	if err := objects.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, action := range client.Actions() {
		if action.GetVerb() != "get" && action.GetVerb() != "list" {
			t.Errorf("a second start does %s %s", action.GetVerb(), action.GetResource().Resource)
		}
	}
}

func TestRBACIsRepairedNotReset(t *testing.T) {
	client := fake.NewClientset()
	objects := &Objects{Client: client, Files: ensure(t, testConfig(t))}
	if err := objects.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	roles, bindings := client.RbacV1().ClusterRoles(), client.RbacV1().ClusterRoleBindings()
	edit := func(name string, change func(r *rbacv1.ClusterRole)) {
		t.Helper()
		r, err := roles.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		if _, err := roles.Update(t.Context(), r, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	extra := rule("get", "example.com", "widgets")
	edit("system:discovery", func(r *rbacv1.ClusterRole) { r.Rules = []rbacv1.PolicyRule{extra} })
	edit("system:basic-user", func(r *rbacv1.ClusterRole) {
		r.Rules, r.Annotations = nil, map[string]string{rbacv1.AutoUpdateAnnotationKey: "false"}
	})
	b, err := bindings.Get(t.Context(), "system:discovery", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b.Subjects = []rbacv1.Subject{user("me")}
	if _, err := bindings.Update(t.Context(), b, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	wrong, err := bindings.Get(t.Context(), "system:kube-dns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wrong.RoleRef.Name = "cluster-admin"
	if _, err := bindings.Update(t.Context(), wrong, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := objects.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := roles.Get(t.Context(), "system:discovery", metav1.GetOptions{}); err != nil || len(r.Rules) < 2 || r.Rules[0].Resources[0] != "widgets" {
		t.Errorf("role %v, %v", r, err)
	}
	if r, err := roles.Get(t.Context(), "system:basic-user", metav1.GetOptions{}); err != nil || len(r.Rules) != 0 {
		t.Errorf("role that opted out: %v, %v", r, err)
	}
	if b, err := bindings.Get(t.Context(), "system:discovery", metav1.GetOptions{}); err != nil || !slices.Equal(b.Subjects, []rbacv1.Subject{user("me"), group(authn.GroupAuthenticated)}) {
		t.Errorf("binding %v, %v", b, err)
	}
	if b, err := bindings.Get(t.Context(), "system:kube-dns", metav1.GetOptions{}); err != nil || b.RoleRef.Name != "system:kube-dns" {
		t.Errorf("binding to another role: %v, %v", b, err)
	}
}

func TestKubernetesService(t *testing.T) {
	client := fake.NewClientset()
	k := &KubernetesService{Client: client, ServiceIP: net.IPv4(10, 96, 0, 1), ServiceCIDRs: []string{"10.96.0.0/12"}, Address: net.IPv4(10, 1, 0, 1), Port: 6443}
	check := func(address string) {
		t.Helper()
		if err := k.Reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		service, err := client.CoreV1().Services("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
		if err != nil || service.Spec.ClusterIP != "10.96.0.1" || service.Spec.Ports[0].TargetPort.IntVal != 6443 {
			t.Errorf("service %v, %v", service, err)
		}
		slice, err := client.DiscoveryV1().EndpointSlices("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
		if err != nil || slice.Endpoints[0].Addresses[0] != address {
			t.Errorf("slice %v, %v", slice, err)
		}
		endpoints, err := client.CoreV1().Endpoints("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
		if err != nil || endpoints.Subsets[0].Addresses[0].IP != address {
			t.Errorf("endpoints %v, %v", endpoints, err)
		}
	}
	check("10.1.0.1")
	client.ClearActions()
	check("10.1.0.1")
	for _, action := range client.Actions() {
		if action.GetVerb() != "get" {
			t.Errorf("unchanged, but %s %s", action.GetVerb(), action.GetResource().Resource)
		}
	}
	k.Address = net.ParseIP("fd00::1")
	check("fd00::1")
}

// TestIdentities asks the real authorizer what the default roles allow.
func TestIdentities(t *testing.T) {
	rbac := defaultRBAC(t)
	question := func(text string) authz.Attributes { // verb group/resource[/sub] [namespace] or verb /path
		words := strings.Fields(text)
		if strings.HasPrefix(words[1], "/") {
			return authz.Attributes{Verb: words[0], Path: words[1]}
		}
		parts := strings.SplitN(words[1], "/", 3)
		a := authz.Attributes{Verb: words[0], Group: strings.TrimSuffix(parts[0], "core"), Resource: parts[1]}
		if len(parts) == 3 {
			a.Subresource = parts[2]
		}
		if len(words) > 2 {
			a.Namespace = words[2]
		}
		if len(words) > 3 {
			a.Name = words[3]
		}
		return a
	}
	for _, who := range []struct {
		user    authn.User
		yes, no []string
	}{
		{authn.User{Name: authn.UserScheduler}, []string{
			"create core/pods/binding ns", "watch core/pods", "update coordination.k8s.io/leases kube-system kube-scheduler",
			"get core/configmaps kube-system extension-apiserver-authentication", "create events.k8s.io/events ns"},
			[]string{"get core/secrets ns", "update coordination.k8s.io/leases kube-system kube-controller-manager", "create core/pods ns"}},
		{authn.User{Name: authn.UserControllerManager}, []string{
			"create core/pods ns", "update apps/deployments/status ns", "watch core/secrets", "create discovery.k8s.io/endpointslices ns",
			"update core/namespaces/finalize", "delete apps/statefulsets ns", "update certificates.k8s.io/certificatesigningrequests/approval",
			"approve certificates.k8s.io/signers - kubernetes.io/kubelet-serving", "update core/nodes", "create core/serviceaccounts ns", "get core/configmaps ns"},
			[]string{"create core/pods/exec ns", "impersonate core/users"}},
		{authn.User{Name: authn.UserProxy}, []string{"watch core/services", "list discovery.k8s.io/endpointslices", "get core/nodes", "watch networking.k8s.io/networkpolicies"},
			[]string{"list core/secrets", "update core/services ns"}},
		{authn.User{Name: "system:serviceaccount:kube-system:deployment-controller", Groups: []string{authn.GroupAuthenticated}},
			[]string{"create apps/replicasets ns"}, []string{"create core/pods ns"}},
		{authn.User{Name: "system:bootstrap:abcdef", Groups: []string{authn.GroupBootstrappers, authn.GroupAuthenticated}}, []string{
			"create certificates.k8s.io/certificatesigningrequests", "watch certificates.k8s.io/certificatesigningrequests",
			"create certificates.k8s.io/certificatesigningrequests/nodeclient", "get core/configmaps kube-public cluster-info"},
			[]string{"create certificates.k8s.io/certificatesigningrequests/selfnodeclient", "get core/nodes", "list core/configmaps kube-public"}},
		{authn.User{Name: "system:node:n1", Groups: []string{authn.GroupNodes, authn.GroupAuthenticated}}, []string{
			"create certificates.k8s.io/certificatesigningrequests/selfnodeclient", "list core/nodes", "watch discovery.k8s.io/endpointslices"},
			[]string{"get core/secrets ns", "list core/pods"}},
		{authn.User{Name: "bob", Groups: []string{authn.GroupAuthenticated}}, []string{
			"get /apis/apps/v1", "get /openapi/v3", "create authorization.k8s.io/selfsubjectaccessreviews", "create authentication.k8s.io/selfsubjectreviews"},
			[]string{"get /metrics", "get core/pods ns", "get /configz"}},
		{authn.User{Name: authn.Anonymous, Groups: []string{authn.GroupUnauthenticated}}, []string{"get /version", "get /readyz"}, []string{"get /api", "get /metrics"}},
		{authn.User{Name: "prom", Groups: []string{authn.GroupMonitoring}}, []string{"get /metrics", "get /livez/etcd"}, []string{"get /debug/pprof"}},
		{authn.User{Name: "system:serviceaccount:ns:x", Groups: []string{authn.GroupServiceAccounts}}, []string{"get /openid/v1/jwks"}, []string{"get core/pods ns"}},
	} {
		for _, list := range []struct {
			want      bool
			questions []string
		}{{true, who.yes}, {false, who.no}} {
			for _, text := range list.questions {
				a := question(text)
				a.User = who.user
				if d, _, _ := rbac.Authorize(t.Context(), a); (d == authz.Allow) != list.want {
					t.Errorf("%s: %s: %v", who.user.Name, text, d)
				}
			}
		}
	}
}

// defaultRBAC is an authorizer over the default roles and bindings.
func defaultRBAC(t *testing.T) *authz.RBAC {
	t.Helper()
	stores := authz.RBACStores{
		Roles: memory.New(memory.Config{}), RoleBindings: memory.New(memory.Config{}),
		ClusterRoles: memory.New(memory.Config{}), ClusterRoleBindings: memory.New(memory.Config{}),
	}
	put := func(s store.Store, obj resource.Object) {
		if _, err := s.Create(t.Context(), strings.TrimPrefix(obj.GetNamespace()+"/"+obj.GetName(), "/"), obj); err != nil {
			t.Fatal(err)
		}
	}
	controllerRoles, controllerBindings := ControllerRoles()
	for _, r := range slices.Concat(ClusterRoles(), controllerRoles) {
		put(stores.ClusterRoles, &r)
	}
	for _, b := range slices.Concat(ClusterRoleBindings(), controllerBindings) {
		put(stores.ClusterRoleBindings, &b)
	}
	for _, r := range Roles() {
		put(stores.Roles, &r)
	}
	for _, b := range RoleBindings() {
		put(stores.RoleBindings, &b)
	}
	rbac := authz.NewRBAC(stores)
	ctx, cancel := context.WithCancel(t.Context())
	group := &component.Group{Parts: rbac.Parts()}
	done := make(chan error)
	go func() { done <- group.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	testkit.Eventually(t, "the roles", group.Ready)
	return rbac
}

func TestServiceCIDR(t *testing.T) {
	for _, test := range []struct {
		name           string
		stored, wanted []string
		published      []string
		ready          metav1.ConditionStatus
	}{
		{"new", nil, []string{"10.96.0.0/12"}, []string{"10.96.0.0/12"}, metav1.ConditionTrue},
		{"kept", []string{"10.96.0.0/12"}, []string{"10.96.0.0/12"}, []string{"10.96.0.0/12"}, metav1.ConditionTrue},
		{"second family", []string{"10.96.0.0/12"}, []string{"10.96.0.0/12", "fd00::/108"}, []string{"10.96.0.0/12", "fd00::/108"}, metav1.ConditionTrue},
		{"another", []string{"10.96.0.0/12"}, []string{"10.32.0.0/16"}, []string{"10.96.0.0/12"}, metav1.ConditionFalse},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := fake.NewClientset()
			k := &KubernetesService{Client: client, ServiceIP: net.IPv4(10, 96, 0, 1), Address: net.IPv4(10, 1, 0, 1), Port: 6443}
			for _, ranges := range [][]string{test.stored, test.wanted} {
				k.ServiceCIDRs = ranges
				if err := k.Reconcile(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			got, err := client.NetworkingV1().ServiceCIDRs().Get(t.Context(), "kubernetes", metav1.GetOptions{})
			if err != nil || !slices.Equal(got.Spec.CIDRs, test.published) || len(got.Status.Conditions) != 1 || got.Status.Conditions[0].Status != test.ready {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

package authz

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/apiserver/store/memory"
	"github.com/skeg-dev/skeg/internal/component"
	"github.com/skeg-dev/skeg/internal/testkit"
)

// cluster is RBAC over stores in memory.
type cluster struct {
	t                                  *testing.T
	roles, bindings, croles, cbindings store.Store
	pods, volumes                      *memory.Store
	rbac                               *RBAC
	node                               *Node
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	revisions := &memory.Revisions{}
	open := func() *memory.Store { return memory.New(memory.Config{Revisions: revisions}) }
	c := &cluster{t: t, roles: open(), bindings: open(), croles: open(), cbindings: open(), pods: open(), volumes: open()}
	c.rbac = NewRBAC(RBACStores{Roles: c.roles, RoleBindings: c.bindings, ClusterRoles: c.croles, ClusterRoleBindings: c.cbindings})
	c.node = NewNode(c.pods, c)
	return c
}

func (c *cluster) start() {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	group := &component.Group{Parts: append(c.rbac.Parts(), c.node.Parts()...)}
	done := make(chan error)
	go func() { done <- group.Run(ctx) }()
	c.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	})
	testkit.Eventually(c.t, "the mirrors", group.Ready)
}

func (c *cluster) Get(ctx context.Context, res schema.GroupResource, namespace, name string) (resource.Object, error) {
	if res.Resource != "persistentvolumes" {
		return nil, apierrors.NewNotFound(res, name)
	}
	item, err := c.volumes.Get(ctx, name, store.Consistency{})
	if err != nil {
		return nil, apierrors.NewNotFound(res, name)
	}
	return item.Object, nil
}

func (c *cluster) GetLatest(ctx context.Context, res schema.GroupResource, namespace, name string) (resource.Object, error) {
	return c.Get(ctx, res, namespace, name)
}

func put(t *testing.T, s store.Store, obj resource.Object) {
	t.Helper()
	key := obj.GetName()
	if obj.GetNamespace() != "" {
		key = obj.GetNamespace() + "/" + key
	}
	if _, err := s.Create(t.Context(), key, obj); err != nil {
		t.Fatal(err)
	}
}

func named(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func rule(verb, resource string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{""}, Resources: []string{resource}, ResourceNames: names}
}

func (c *cluster) fill() {
	t := c.t
	put(t, c.croles, &rbacv1.ClusterRole{ObjectMeta: named("", "reader"), Rules: []rbacv1.PolicyRule{
		rule("get", "pods"), {Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics", "/logs/*"}}}})
	put(t, c.croles, &rbacv1.ClusterRole{ObjectMeta: named("", "scaler"), Rules: []rbacv1.PolicyRule{
		{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*/scale"}}}})
	put(t, c.roles, &rbacv1.Role{ObjectMeta: named("dev", "one-secret"), Rules: []rbacv1.PolicyRule{rule("get", "secrets", "token")}})
	put(t, c.cbindings, &rbacv1.ClusterRoleBinding{ObjectMeta: named("", "ops"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "reader"},
		Subjects: []rbacv1.Subject{{Kind: "Group", Name: "ops"}}})
	put(t, c.cbindings, &rbacv1.ClusterRoleBinding{ObjectMeta: named("", "scale"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "scaler"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "kube-system", Name: "hpa"}}})
	put(t, c.cbindings, &rbacv1.ClusterRoleBinding{ObjectMeta: named("", "dangling"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "missing"},
		Subjects: []rbacv1.Subject{{Kind: "User", Name: "eve"}}})
	put(t, c.bindings, &rbacv1.RoleBinding{ObjectMeta: named("dev", "b1"), RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "one-secret"},
		Subjects: []rbacv1.Subject{{Kind: "User", Name: "alice"}, {Kind: "ServiceAccount", Name: "app"}}})
	put(t, c.bindings, &rbacv1.RoleBinding{ObjectMeta: named("dev", "b2"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "reader"},
		Subjects: []rbacv1.Subject{{Kind: "User", Name: "alice"}}})
}

func question(user, verb, resource, namespace, name string) Attributes {
	u := authn.User{Name: user}
	if group, ok := strings.CutPrefix(user, "@"); ok {
		u = authn.User{Name: "somebody", Groups: []string{group}}
	}
	res, sub, _ := strings.Cut(resource, "/")
	return Attributes{User: u, Verb: verb, Resource: res, Subresource: sub, Namespace: namespace, Name: name}
}

func TestRBAC(t *testing.T) {
	c := newCluster(t)
	c.fill()
	c.start()
	for _, q := range []struct {
		user, verb, resource, namespace, name string
		allow                                 bool
		reason                                string
	}{
		{"@ops", "get", "pods", "dev", "x", true, `RBAC: allowed by ClusterRoleBinding "ops" of ClusterRole "reader" to Group "ops"`},
		{"@ops", "get", "pods", "", "", true, ""},
		{"@ops", "list", "pods", "dev", "", false, ""},
		{"@ops", "get", "pods/log", "dev", "x", false, ""},
		{"@dev", "get", "pods", "dev", "x", false, ""},
		{"alice", "get", "pods", "dev", "x", true, `RoleBinding "b2/dev"`},
		{"alice", "get", "pods", "prod", "x", false, ""},
		{"alice", "get", "pods", "", "", false, ""},
		{"alice", "get", "secrets", "dev", "token", true, ""},
		{"alice", "get", "secrets", "dev", "other", false, ""},
		{"alice", "get", "secrets", "dev", "", false, ""},
		{"system:serviceaccount:dev:app", "get", "secrets", "dev", "token", true, `ServiceAccount "app/dev"`},
		{"system:serviceaccount:prod:app", "get", "secrets", "dev", "token", false, ""},
		{"system:serviceaccount:kube-system:hpa", "update", "deployments/scale", "dev", "d", true, ""},
		{"system:serviceaccount:kube-system:hpa", "update", "deployments", "dev", "d", false, ""},
		{"eve", "get", "pods", "dev", "x", false, `RBAC: clusterrole.rbac.authorization.k8s.io "missing" not found`},
		{"@" + authn.GroupMasters, "delete", "nodes", "", "n", true, ""},
	} {
		d, reason, err := NewUnion(c.rbac).Authorize(t.Context(), question(q.user, q.verb, q.resource, q.namespace, q.name))
		if err != nil || (d == Allow) != q.allow || !strings.Contains(reason, q.reason) {
			t.Errorf("%+v: %v, %q, %v", q, d, reason, err)
		}
	}
	for path, allow := range map[string]bool{"/metrics": true, "/metrics/x": false, "/logs/a/b": true, "/logs": false} {
		d, _, _ := c.rbac.Authorize(t.Context(), Attributes{User: authn.User{Groups: []string{"ops"}}, Verb: "get", Path: path})
		if (d == Allow) != allow {
			t.Errorf("%s: %v", path, d)
		}
	}
}

func TestRBACFollowsChanges(t *testing.T) {
	c := newCluster(t)
	c.fill()
	c.start()
	may := func(want bool) func() error {
		return func() error {
			if d, _, _ := c.rbac.Authorize(t.Context(), question("alice", "get", "pods", "dev", "x")); (d == Allow) != want {
				return fmt.Errorf("decision %v", d)
			}
			return nil
		}
	}
	if err := may(true)(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.bindings.Delete(t.Context(), "dev/b2", nil); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the binding to go", may(false))
	if _, err := c.roles.Update(t.Context(), "dev/one-secret", func(current *store.Item) (resource.Object, error) {
		role := current.Object.DeepCopyObject().(*rbacv1.Role)
		role.Rules = append(role.Rules, rule("get", "pods"))
		return role, nil
	}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the role to grow", may(true))
	if _, err := c.roles.Delete(t.Context(), "dev/one-secret", nil); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the role to go", may(false))
	if len(c.rbac.index.grants) == 0 {
		t.Error("other grants went too")
	}
}

func TestEscalation(t *testing.T) {
	c := newCluster(t)
	c.fill()
	put(t, c.croles, &rbacv1.ClusterRole{ObjectMeta: named("", "granter"), Rules: []rbacv1.PolicyRule{
		{Verbs: []string{"bind"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"clusterroles"}, ResourceNames: []string{"scaler"}},
		{Verbs: []string{"escalate"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles"}}}})
	put(t, c.cbindings, &rbacv1.ClusterRoleBinding{ObjectMeta: named("", "granters"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "granter"},
		Subjects: []rbacv1.Subject{{Kind: "Group", Name: "granters"}}})
	c.start()
	check := NewEscalation(c.rbac, c.rbac)
	alice, granter := authn.User{Name: "alice"}, authn.User{Name: "g", Groups: []string{"granters"}}
	role := func(rules ...rbacv1.PolicyRule) *rbacv1.Role {
		return &rbacv1.Role{ObjectMeta: named("dev", "new"), Rules: rules}
	}
	bind := func(kind, name string) *rbacv1.RoleBinding {
		return &rbacv1.RoleBinding{ObjectMeta: named("dev", "new"), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}}
	}
	aggregate := &rbacv1.ClusterRole{ObjectMeta: named("", "agg"), AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{}}}}
	for name, q := range map[string]struct {
		user     authn.User
		obj, old resource.Object
		is       func(error) bool
	}{
		"what she has":         {alice, role(rule("get", "pods")), nil, nil},
		"more than she has":    {alice, role(rule("get", "pods"), rule("delete", "pods")), nil, apierrors.IsForbidden},
		"unchanged rules":      {alice, role(rule("delete", "pods")), role(rule("delete", "pods")), nil},
		"binding what she has": {alice, bind("ClusterRole", "reader"), nil, nil},
		"binding her role":     {alice, bind("Role", "one-secret"), nil, nil},
		"binding more":         {alice, bind("ClusterRole", "scaler"), nil, apierrors.IsForbidden},
		"binding nothing":      {alice, bind("ClusterRole", "missing"), nil, apierrors.IsNotFound},
		"masters":              {authn.User{Groups: []string{authn.GroupMasters}}, bind("ClusterRole", "missing"), nil, nil},
		"may bind":             {granter, bind("ClusterRole", "scaler"), nil, nil},
		"may bind that only":   {granter, bind("ClusterRole", "reader"), nil, apierrors.IsForbidden},
		"may escalate":         {granter, role(rule("delete", "pods")), nil, nil},
		"aggregation":          {alice, aggregate, nil, apierrors.IsForbidden},
		"another kind":         {alice, testkit.Pod("dev", "p"), nil, nil},
	} {
		var err error
		if q.old == nil {
			err = check.Check(t.Context(), q.user, q.obj, nil)
		} else {
			err = check.Check(t.Context(), q.user, q.obj, q.old)
		}
		if (q.is == nil) != (err == nil) || (err != nil && !q.is(err)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := check.Check(t.Context(), alice, role(rule("delete", "pods")), nil)
	if want := `{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("message %v lacks %s", err, want)
	}
}

func TestNode(t *testing.T) {
	c := newCluster(t)
	pod := testkit.Pod("ns", "web", testkit.OnNode("n1"), func(p *corev1.Pod) {
		p.Spec.ServiceAccountName = "app"
		p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
		p.Spec.Containers[0].Env = []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "env"}}}}}
		p.Spec.Volumes = []corev1.Volume{
			{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}}}}}}},
			{Name: "d", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
		}
	})
	put(t, c.pods, pod)
	put(t, c.pods, testkit.Pod("ns", "mirror", testkit.OnNode("n1"), func(p *corev1.Pod) {
		p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
		p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "stolen"}}}}
	}))
	put(t, c.pods, testkit.Pod("ns", "elsewhere", testkit.OnNode("n2")))
	put(t, c.volumes, &corev1.PersistentVolume{ObjectMeta: named("", "pv1"), Spec: corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{Namespace: "ns", Name: "data"}}})
	put(t, c.volumes, &corev1.PersistentVolume{ObjectMeta: named("", "pv2"), Spec: corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{Namespace: "ns", Name: "other"}}})
	c.start()
	n1 := authn.User{Name: "system:node:n1", Groups: []string{authn.GroupNodes}}
	onNode := fields.OneTermEqualSelector("spec.nodeName", "n1").Requirements()
	for name, q := range map[string]struct {
		a     Attributes
		allow bool
	}{
		"its secret":              {Attributes{Verb: "get", Resource: "secrets", Namespace: "ns", Name: "env"}, true},
		"its pull secret":         {Attributes{Verb: "watch", Resource: "secrets", Namespace: "ns", Name: "pull"}, true},
		"another secret":          {Attributes{Verb: "get", Resource: "secrets", Namespace: "ns", Name: "other"}, false},
		"that namespace's":        {Attributes{Verb: "get", Resource: "secrets", Namespace: "else", Name: "env"}, false},
		"all secrets":             {Attributes{Verb: "list", Resource: "secrets", Namespace: "ns"}, false},
		"writing its secret":      {Attributes{Verb: "update", Resource: "secrets", Namespace: "ns", Name: "env"}, false},
		"a mirror pod's secret":   {Attributes{Verb: "get", Resource: "secrets", Namespace: "ns", Name: "stolen"}, false},
		"its config map":          {Attributes{Verb: "get", Resource: "configmaps", Namespace: "ns", Name: "kube-root-ca.crt"}, true},
		"its claim":               {Attributes{Verb: "get", Resource: "persistentvolumeclaims", Namespace: "ns", Name: "data"}, true},
		"its volume":              {Attributes{Verb: "get", Resource: "persistentvolumes", Name: "pv1"}, true},
		"another volume":          {Attributes{Verb: "get", Resource: "persistentvolumes", Name: "pv2"}, false},
		"its token":               {Attributes{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "ns", Name: "app"}, true},
		"another token":           {Attributes{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "ns", Name: "default"}, false},
		"its pods":                {Attributes{Verb: "watch", Resource: "pods", FieldSelector: onNode}, true},
		"all pods":                {Attributes{Verb: "list", Resource: "pods"}, false},
		"its pod":                 {Attributes{Verb: "get", Resource: "pods", Namespace: "ns", Name: "web"}, true},
		"another node's pod":      {Attributes{Verb: "get", Resource: "pods", Namespace: "ns", Name: "elsewhere"}, false},
		"status":                  {Attributes{Verb: "patch", Resource: "pods", Subresource: "status", Namespace: "ns", Name: "web"}, true},
		"its node":                {Attributes{Verb: "get", Resource: "nodes", Name: "n1"}, true},
		"another node":            {Attributes{Verb: "get", Resource: "nodes", Name: "n2"}, false},
		"its node by selector":    {Attributes{Verb: "list", Resource: "nodes", FieldSelector: fields.OneTermEqualSelector("metadata.name", "n1").Requirements()}, true},
		"registering":             {Attributes{Verb: "create", Resource: "nodes"}, true},
		"its lease":               {Attributes{Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: "n1"}, true},
		"making its lease":        {Attributes{Verb: "create", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease"}, true},
		"another lease":           {Attributes{Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: "n2"}, false},
		"a lease elsewhere":       {Attributes{Verb: "get", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-system", Name: "n1"}, false},
		"services":                {Attributes{Verb: "watch", Resource: "services"}, true},
		"certificate request":     {Attributes{Verb: "create", Group: "certificates.k8s.io", Resource: "certificatesigningrequests"}, true},
		"deployments":             {Attributes{Verb: "list", Group: "apps", Resource: "deployments"}, false},
		"somebody else's metrics": {Attributes{Verb: "get", Path: "/metrics"}, false},
	} {
		q.a.User = n1
		if d, reason, err := c.node.Authorize(t.Context(), q.a); (d == Allow) != q.allow || d == Deny || err != nil {
			t.Errorf("%s: %v %q %v", name, d, reason, err)
		}
	}
	secret := Attributes{User: n1, Verb: "get", Resource: "secrets", Namespace: "ns", Name: "env"}
	for name, user := range map[string]authn.User{"no group": {Name: "system:node:n1"}, "no name": {Name: "system:node:", Groups: []string{authn.GroupNodes}}, "group only": {Name: "bob", Groups: []string{authn.GroupNodes}}} {
		a := secret
		a.User = user
		if d, _, _ := c.node.Authorize(t.Context(), a); d != NoOpinion {
			t.Errorf("%s: %v", name, d)
		}
	}
	if _, err := c.pods.Delete(t.Context(), "ns/web", nil); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the right to go with the pod", func() error {
		if d, _, _ := c.node.Authorize(t.Context(), secret); d == Allow {
			return errors.New("still allowed")
		}
		return nil
	})
}

func TestReviews(t *testing.T) {
	c := newCluster(t)
	c.fill()
	c.start()
	v := NewReviewer(NewUnion(c.node, c.rbac), c.rbac)
	pods := &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods", Namespace: "dev"}
	sar := func(user string, res *authorizationv1.ResourceAttributes) *authorizationv1.SubjectAccessReview {
		return &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: res}}
	}
	out, err := v.SubjectAccessReview(t.Context(), authn.User{}, sar("alice", pods))
	if err != nil || !out.(*authorizationv1.SubjectAccessReview).Status.Allowed {
		t.Errorf("alice: %v, %v", out, err)
	}
	out, err = v.SubjectAccessReview(t.Context(), authn.User{}, sar("bob", pods))
	if err != nil || out.(*authorizationv1.SubjectAccessReview).Status.Allowed {
		t.Errorf("bob: %v, %v", out, err)
	}
	for name, bad := range map[string]*authorizationv1.SubjectAccessReview{"nobody": sar("", pods), "nothing": sar("alice", nil)} {
		if _, err := v.SubjectAccessReview(t.Context(), authn.User{}, bad); !apierrors.IsInvalid(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	self, err := v.SelfSubjectAccessReview(t.Context(), authn.User{Name: "alice"}, &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: pods}})
	if err != nil || !self.(*authorizationv1.SelfSubjectAccessReview).Status.Allowed {
		t.Errorf("self: %v, %v", self, err)
	}
	local := &authorizationv1.LocalSubjectAccessReview{ObjectMeta: named("prod", ""), Spec: authorizationv1.SubjectAccessReviewSpec{User: "alice", ResourceAttributes: pods}}
	if _, err := v.LocalSubjectAccessReview(t.Context(), authn.User{}, local); !apierrors.IsInvalid(err) {
		t.Errorf("local with another namespace: %v", err)
	}
	local.Namespace = "dev"
	if out, err := v.LocalSubjectAccessReview(t.Context(), authn.User{}, local); err != nil || !out.(*authorizationv1.LocalSubjectAccessReview).Status.Allowed {
		t.Errorf("local: %v, %v", out, err)
	}
	rules, err := v.SelfSubjectRulesReview(t.Context(), authn.User{Name: "alice"}, &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "dev"}})
	if err != nil {
		t.Fatal(err)
	}
	if s := rules.(*authorizationv1.SelfSubjectRulesReview).Status; len(s.ResourceRules) != 2 || len(s.NonResourceRules) != 1 || s.Incomplete {
		t.Errorf("rules %+v", s)
	}
	rules, err = v.SelfSubjectRulesReview(t.Context(), authn.User{Name: "eve"}, &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "dev"}})
	if err != nil || !rules.(*authorizationv1.SelfSubjectRulesReview).Status.Incomplete {
		t.Errorf("eve: %v, %v", rules, err)
	}
}

func BenchmarkRBAC(b *testing.B) {
	index := newBindingIndex()
	for i := range 10000 {
		name := fmt.Sprintf("r%d", i)
		index.setRole(roleKey{"ns", name}, []rbacv1.PolicyRule{rule("get", "pods")})
		index.setBinding(&binding{namespace: "ns", name: name, ref: rbacv1.RoleRef{Kind: "Role", Name: name}, subjects: []rbacv1.Subject{{Kind: "User", Name: name}}})
	}
	rbac := &RBAC{index: index}
	a := question("r77", "get", "pods", "ns", "x")
	a.User.Groups = []string{authn.GroupAuthenticated, "a", "b"}
	b.ReportAllocs()
	for b.Loop() {
		if d, _, _ := rbac.Authorize(b.Context(), a); d != Allow {
			b.Fatal(d)
		}
	}
}

package apitest_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skeg-dev/skeg/apiserver/apitest"
	"github.com/skeg-dev/skeg/internal/pki"
)

// as is a client of another user.
func as(t *testing.T, s *apitest.Server, user string, groups ...string) kubernetes.Interface {
	t.Helper()
	config := rest.CopyConfig(s.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: groups}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// allow lets a user do something in the whole cluster, and waits until the
// server knows.
func allow(t *testing.T, s *apitest.Server, user string, rule rbacv1.PolicyRule) {
	t.Helper()
	ctx := t.Context()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}, Rules: []rbacv1.PolicyRule{rule}}
	role, err := s.Client.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	known := func() bool {
		for _, verb := range rule.Verbs {
			review, err := reviewAccess(t, s, user, verb, rule)
			if err != nil {
				t.Fatal(err)
			}
			if !review {
				return false
			}
		}
		return true
	}
	for !known() {
		if err := ctx.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNobodyGrantsWhatTheyLack(t *testing.T) {
	s := apitest.Start(t)
	ctx := t.Context()
	allow(t, s, "eve", rbacv1.PolicyRule{Verbs: []string{"create", "update", "get"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"clusterroles", "rolebindings", "clusterrolebindings"}})
	allow(t, s, "eve", rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}})
	eve := as(t, s, "eve").RbacV1()
	role := func(name, what string) *rbacv1.ClusterRole {
		return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{what}}}}
	}
	bind := func(name, to string) *rbacv1.ClusterRoleBinding {
		return &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: to},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "eve"}}}
	}
	if _, err := eve.ClusterRoles().Create(ctx, role("own", "pods"), metav1.CreateOptions{}); err != nil {
		t.Errorf("role with held rights: %v", err)
	}
	_, err := eve.ClusterRoles().Create(ctx, role("more", "secrets"), metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}`) {
		t.Errorf("role with more: %v", err)
	}
	if _, err := eve.ClusterRoleBindings().Create(ctx, bind("b", "cluster-admin"), metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("binding to more: %v", err)
	}
	allow(t, s, "eve", rbacv1.PolicyRule{Verbs: []string{"bind"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"clusterroles"}, ResourceNames: []string{"view"}})
	if _, err := eve.ClusterRoleBindings().Create(ctx, bind("v", "view"), metav1.CreateOptions{}); err != nil {
		t.Errorf("binding with the verb bind: %v", err)
	}
	allow(t, s, "eve", rbacv1.PolicyRule{Verbs: []string{"escalate"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"clusterroles"}})
	if _, err := eve.ClusterRoles().Create(ctx, role("more", "secrets"), metav1.CreateOptions{}); err != nil {
		t.Errorf("role with the verb escalate: %v", err)
	}
}

func TestApprovalNeedsTheSigner(t *testing.T) {
	s := apitest.Start(t)
	ctx := t.Context()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := pki.NewCSR(key, "someone", nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	csr := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: certificatesv1.CertificateSigningRequestSpec{
		Request: request, SignerName: "example.com/a", Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
	}}
	csr, err = s.Client.CertificatesV1().CertificateSigningRequests().Create(ctx, csr, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	allow(t, s, "ann", rbacv1.PolicyRule{Verbs: []string{"update"}, APIGroups: []string{certificatesv1.GroupName}, Resources: []string{"certificatesigningrequests/approval"}})
	csr.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test"}}
	ann := as(t, s, "ann").CertificatesV1().CertificateSigningRequests()
	if _, err := ann.UpdateApproval(ctx, "r", csr, metav1.UpdateOptions{}); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "not permitted to approve") {
		t.Errorf("approve without the signer: %v", err)
	}
	allow(t, s, "ann", rbacv1.PolicyRule{Verbs: []string{"approve"}, APIGroups: []string{certificatesv1.GroupName}, Resources: []string{"signers"}, ResourceNames: []string{"example.com/*"}})
	if _, err := ann.UpdateApproval(ctx, "r", csr, metav1.UpdateOptions{}); err != nil {
		t.Errorf("approve with the signer's domain: %v", err)
	}
}

func TestAnonymousReadsClusterInfoAndNoMore(t *testing.T) {
	s := apitest.Start(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // who joins knows no authority yet
	defer client.CloseIdleConnections()
	const maps = "/api/v1/namespaces/kube-public/configmaps"
	for _, c := range []struct {
		method, path string
		code         int
	}{
		{http.MethodGet, maps + "/cluster-info", http.StatusOK},
		{http.MethodDelete, maps + "/cluster-info", http.StatusForbidden},
		{http.MethodGet, maps, http.StatusUnauthorized},
		{http.MethodGet, "/api/v1/namespaces/kube-system/secrets", http.StatusUnauthorized},
		{http.MethodGet, "/api", http.StatusUnauthorized},
		{http.MethodGet, "/version", http.StatusOK},
		{http.MethodGet, "/metrics", http.StatusUnauthorized},
	} {
		request, err := http.NewRequestWithContext(t.Context(), c.method, s.URL+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != c.code {
			t.Errorf("%s %s: %d, %v: %s", c.method, c.path, response.StatusCode, err, body)
		}
		if strings.HasSuffix(c.path, "/cluster-info") && c.method == http.MethodGet && !strings.Contains(string(body), "certificate-authority-data") {
			t.Errorf("cluster-info does not hold the authority: %s", body)
		}
	}
}

func TestImpersonationNeedsTheRight(t *testing.T) {
	s := apitest.Start(t)
	key, err := pki.Load(s.PKIDir+"/ca.crt", s.PKIDir+"/ca.key")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := key.Issue(pki.Request{CommonName: "bob", Client: true})
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := pki.EncodeKey(pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	config := &rest.Config{Host: s.Config.Host, TLSClientConfig: rest.TLSClientConfig{
		CAData: pki.EncodeCerts(key.Cert), CertData: pki.EncodeCerts(pair.Cert), KeyData: keyPEM,
	}}
	try := func(user string, groups ...string) error {
		c := rest.CopyConfig(config)
		c.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: groups}
		client, err := kubernetes.NewForConfig(c)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Discovery().ServerGroups() // everybody authenticated may
		return err
	}
	if err := try("ann"); !apierrors.IsForbidden(err) {
		t.Errorf("without the right: %v", err)
	}
	allow(t, s, "bob", rbacv1.PolicyRule{Verbs: []string{"impersonate"}, APIGroups: []string{""}, Resources: []string{"users"}, ResourceNames: []string{"ann"}})
	if err := try("ann"); err != nil {
		t.Errorf("with the right: %v", err)
	}
	if err := try("ann", "system:masters"); !apierrors.IsForbidden(err) {
		t.Errorf("with a group beyond the right: %v", err)
	}
}

// reviewAccess asks the server whether the rule's first resource is allowed.
func reviewAccess(t *testing.T, s *apitest.Server, user, verb string, rule rbacv1.PolicyRule) (bool, error) {
	t.Helper()
	resource, sub, _ := strings.Cut(rule.Resources[0], "/")
	name := ""
	if len(rule.ResourceNames) > 0 {
		name = rule.ResourceNames[0]
	}
	review, err := s.Client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: verb, Group: rule.APIGroups[0], Version: "*", Resource: resource, Subresource: sub, Name: name,
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return review.Status.Allowed, nil
}

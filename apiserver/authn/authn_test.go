package authn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/internal/pki"
)

// objects is a Reader of a map: "secrets/kube-system/x".
type objects map[string]resource.Object

func (o objects) Get(_ context.Context, res schema.GroupResource, namespace, name string) (resource.Object, error) {
	if obj, ok := o[res.Resource+"/"+namespace+"/"+name]; ok {
		return obj, nil
	}
	return nil, apierrors.NewNotFound(res, name)
}

func (o objects) GetLatest(ctx context.Context, res schema.GroupResource, namespace, name string) (resource.Object, error) {
	return o.Get(ctx, res, namespace, name)
}

func meta(namespace, name, uid string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(uid)}
}

func request(path string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func withCertificate(t *testing.T, r *http.Request, ca *pki.Pair, name string, groups ...string) *http.Request {
	t.Helper()
	pair, err := ca.Issue(pki.Request{CommonName: name, Organizations: groups, Client: true})
	if err != nil {
		t.Fatal(err)
	}
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{pair.Cert}}
	return r
}

func newCA(t *testing.T) *pki.Pair {
	t.Helper()
	ca, err := pki.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestUnion(t *testing.T) {
	ca, other, proxyCA := newCA(t), newCA(t), newCA(t)
	union := NewUnion(
		NewFrontProxy(FrontProxyConfig{Pool: proxyCA.Pool, AllowedNames: []string{"front-proxy-client"}}),
		NewCertificates(ca.Pool),
		NewTokens(nil, NewStaticToken("loopback", User{Name: UserAPIServer, Groups: []string{GroupMasters}})),
		NewAnonymous(AnonymousPaths),
	)
	proxied := func(name string, from *pki.Pair) *http.Request {
		return withCertificate(t, request("/api", "X-Remote-User", "alice", "X-Remote-Group", "devs", "X-Remote-Extra-Scopes%2fa", "b"), from, name)
	}
	websocket := request("/api", "Upgrade", "websocket", "Sec-WebSocket-Protocol",
		webSocketToken+base64.RawURLEncoding.EncodeToString([]byte("loopback"))+", v5.channel.k8s.io")
	for _, c := range []struct {
		name    string
		request *http.Request
		user    string
		groups  []string
	}{
		{"certificate", withCertificate(t, request("/api"), ca, "bob", "ops"), "bob", []string{"ops", GroupAuthenticated}},
		{"stranger's certificate", withCertificate(t, request("/api"), other, "bob"), "", nil},
		{"certificate without name", withCertificate(t, request("/api"), ca, ""), "", nil},
		{"stranger's certificate on a public path", withCertificate(t, request("/version"), other, "bob"), "", nil},
		{"token", request("/api", "Authorization", "Bearer loopback"), UserAPIServer, []string{GroupMasters, GroupAuthenticated}},
		{"scheme in lower case", request("/api", "Authorization", "bearer  loopback"), UserAPIServer, []string{GroupMasters, GroupAuthenticated}},
		{"wrong token", request("/api", "Authorization", "Bearer wrong"), "", nil},
		{"wrong token on a public path", request("/livez", "Authorization", "Bearer wrong"), "", nil},
		{"basic on a public path", request("/livez", "Authorization", "Basic eDp5"), "", nil},
		{"huge token", request("/api", "Authorization", "Bearer "+strings.Repeat("x", maxTokenBytes+1)), "", nil},
		{"websocket token", websocket, UserAPIServer, []string{GroupMasters, GroupAuthenticated}},
		{"proxied", proxied("front-proxy-client", proxyCA), "alice", []string{"devs", GroupAuthenticated}},
		{"proxied by another name", proxied("mallory", proxyCA), "", nil},
		{"headers from a user", proxied("bob", ca), "bob", []string{GroupAuthenticated}},
		{"headers from nobody", request("/api", "X-Remote-User", "alice"), "", nil},
		{"anonymous", request("/api"), "", nil},
		{"anonymous on a public path", request("/readyz/etcd"), Anonymous, []string{GroupUnauthenticated}},
		{"anonymous beside a public path", request("/versions"), "", nil},
		{"anonymous who joins", request("/api/v1/namespaces/kube-public/configmaps/cluster-info"), Anonymous, []string{GroupUnauthenticated}},
		{"anonymous beside cluster-info", request("/api/v1/namespaces/kube-public/configmaps"), "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			user, ok, err := union.Authenticate(c.request)
			if ok != (c.user != "") || user.Name != c.user || !slices.Equal(user.Groups, c.groups) {
				t.Fatalf("user %+v, %v, %v", user, ok, err)
			}
			if !ok && err == nil {
				t.Error("refused without a reason")
			}
			for _, name := range []string{"X-Remote-User", "X-Remote-Group", "X-Remote-Extra-Scopes%2fa"} {
				if c.request.Header.Get(name) != "" {
					t.Errorf("%s is passed on", name)
				}
			}
			if ok && strings.Contains(c.request.Header.Get("Authorization")+c.request.Header.Get("Sec-WebSocket-Protocol"), "bearer") {
				t.Error("the token is passed on")
			}
		})
	}
	if user, _, _ := union.Authenticate(proxied("front-proxy-client", proxyCA)); !slices.Equal(user.Extra["scopes/a"], []string{"b"}) {
		t.Errorf("extra %v", user.Extra)
	}
	if _, _, err := union.Authenticate(request("/api")); !errors.Is(err, ErrNoCredentials) {
		t.Errorf("no credentials: %v", err)
	}
}

func TestBootstrapTokens(t *testing.T) {
	data := func(change func(d map[string]string)) *corev1.Secret {
		d := map[string]string{
			BootstrapTokenIDKey: "abcdef", BootstrapTokenSecretKey: "0123456789abcdef", BootstrapTokenUsageKey: "true",
			BootstrapTokenGroupsKey: "system:bootstrappers:kubeadm:default-node-token",
			BootstrapTokenExpiryKey: time.Now().Add(time.Hour).Format(time.RFC3339),
		}
		change(d)
		s := &corev1.Secret{ObjectMeta: meta("kube-system", "bootstrap-token-abcdef", "1"), Type: BootstrapTokenSecretType, Data: map[string][]byte{}}
		for key, value := range d {
			s.Data[key] = []byte(value)
		}
		return s
	}
	none := func(map[string]string) {}
	for name, c := range map[string]struct {
		token  string
		secret *corev1.Secret
		ok     bool
		err    string
	}{
		"good":         {"abcdef.0123456789abcdef", data(none), true, ""},
		"no expiry":    {"abcdef.0123456789abcdef", data(func(d map[string]string) { delete(d, BootstrapTokenExpiryKey) }), true, ""},
		"another kind": {"eyJ.a.b", data(none), false, ""},
		"wrong secret": {"abcdef.0123456789abcdeX", data(none), false, ""},
		"other secret": {"abcdef.1123456789abcdef", data(none), false, "wrong"},
		"unknown":      {"zzzzzz.0123456789abcdef", data(none), false, "unknown"},
		"expired": {"abcdef.0123456789abcdef", data(func(d map[string]string) {
			d[BootstrapTokenExpiryKey] = time.Now().Add(-time.Second).Format(time.RFC3339)
		}), false, "expired"},
		"bad expiry":      {"abcdef.0123456789abcdef", data(func(d map[string]string) { d[BootstrapTokenExpiryKey] = "soon" }), false, "expiration"},
		"not for this":    {"abcdef.0123456789abcdef", data(func(d map[string]string) { d[BootstrapTokenUsageKey] = "false" }), false, "not for authentication"},
		"another id":      {"abcdef.0123456789abcdef", data(func(d map[string]string) { d[BootstrapTokenIDKey] = "ghijkl" }), false, "another id"},
		"group not its":   {"abcdef.0123456789abcdef", data(func(d map[string]string) { d[BootstrapTokenGroupsKey] = "system:masters" }), false, "system:masters"},
		"group with trap": {"abcdef.0123456789abcdef", data(func(d map[string]string) { d[BootstrapTokenGroupsKey] = "system:bootstrappers:a\nsystem:masters" }), false, "group"},
	} {
		t.Run(name, func(t *testing.T) {
			v, ok, err := NewBootstrapTokens(objects{"secrets/kube-system/bootstrap-token-abcdef": c.secret}).VerifyToken(t.Context(), c.token, nil)
			if ok != c.ok || (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
				t.Fatalf("%v, %v", ok, err)
			}
			if ok && (v.User.Name != "system:bootstrap:abcdef" || !slices.Equal(v.User.Groups, []string{GroupBootstrappers, "system:bootstrappers:kubeadm:default-node-token"})) {
				t.Errorf("user %+v", v.User)
			}
		})
	}
}

func TestTokenCacheIsKeyedByAudience(t *testing.T) {
	calls := 0
	tokens := NewTokens([]string{"api"}, verifierFunc(func(audiences []string) bool { calls++; return slices.Contains(audiences, "api") }))
	for range 3 {
		if _, ok, _ := tokens.VerifyToken(t.Context(), "x", []string{"api"}); !ok {
			t.Fatal("refused")
		}
	}
	if calls != 1 {
		t.Errorf("verified %d times", calls)
	}
	if _, ok, _ := tokens.VerifyToken(t.Context(), "x", []string{"other"}); ok {
		t.Error("accepted for another audience")
	}
	review, err := NewReviewer(tokens).TokenReview(t.Context(), User{}, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: "y"}})
	if err != nil || !review.(*authenticationv1.TokenReview).Status.Authenticated {
		t.Errorf("review %v, %v", review, err)
	}
	if _, err := NewReviewer(tokens).TokenReview(t.Context(), User{}, &authenticationv1.TokenReview{}); !apierrors.IsBadRequest(err) {
		t.Errorf("no token: %v", err)
	}
}

type verifierFunc func(audiences []string) bool

func (f verifierFunc) VerifyToken(_ context.Context, _ string, audiences []string) (Verified, bool, error) {
	return Verified{User: User{Name: "u"}, Audiences: audiences}, f(audiences), nil
}

func TestSelfSubjectReview(t *testing.T) {
	out, err := NewReviewer(NewTokens(nil)).SelfSubjectReview(t.Context(), User{Name: "me", Groups: []string{"us"}, Extra: map[string][]string{"k": {"v"}}}, &authenticationv1.SelfSubjectReview{})
	if err != nil {
		t.Fatal(err)
	}
	if info := out.(*authenticationv1.SelfSubjectReview).Status.UserInfo; info.Username != "me" || info.Groups[0] != "us" || info.Extra["k"][0] != "v" {
		t.Errorf("info %+v", info)
	}
}

func TestSplitServiceAccount(t *testing.T) {
	for user, want := range map[string]bool{
		"system:serviceaccount:ns:name": true, "system:serviceaccount:ns": false, "system:serviceaccount::name": false,
		"system:serviceaccount:ns:": false, "system:serviceaccount:a:b:c": false, "bob": false,
	} {
		if _, _, ok := SplitServiceAccount(user); ok != want {
			t.Errorf("%s: %v", user, ok)
		}
	}
}

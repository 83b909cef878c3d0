package authn

import (
	"crypto"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/internal/pki"
)

const testIssuer = "https://kubernetes.default.svc.cluster.local"

// world has an account, its pod on a node, a secret, and another account's pod.
func world() objects {
	return objects{
		"serviceaccounts/ns/app": &corev1.ServiceAccount{ObjectMeta: meta("ns", "app", "sa-uid")},
		"pods/ns/web":            &corev1.Pod{ObjectMeta: meta("ns", "web", "pod-uid"), Spec: corev1.PodSpec{ServiceAccountName: "app", NodeName: "n1"}},
		"pods/ns/foreign":        &corev1.Pod{ObjectMeta: meta("ns", "foreign", "f-uid"), Spec: corev1.PodSpec{ServiceAccountName: "other"}},
		"secrets/ns/s":           &corev1.Secret{ObjectMeta: meta("ns", "s", "secret-uid")},
		"nodes//n1":              &corev1.Node{ObjectMeta: meta("", "n1", "node-uid")},
	}
}

func issuerAndVerifier(t *testing.T, key crypto.Signer, w objects) (*TokenIssuer, TokenVerifier) {
	t.Helper()
	issuer, err := NewTokenIssuer(IssuerConfig{Issuer: testIssuer, Key: key, Reader: w, ExtendExpiration: true})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := NewServiceAccountTokens(ServiceAccountConfig{Issuers: []string{testIssuer}, Keys: []crypto.PublicKey{key.Public()}, Reader: w})
	if err != nil {
		t.Fatal(err)
	}
	return issuer, verifier
}

func ecKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func tokenFor(kind, name string) *authenticationv1.TokenRequest {
	req := &authenticationv1.TokenRequest{}
	if kind != "" {
		req.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: kind, APIVersion: "v1", Name: name}
	}
	return req
}

func TestTokensDieWithWhatTheyAreBoundTo(t *testing.T) {
	rsaKey, err := pki.NewRSAKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key        crypto.Signer
		kind, bind string
		extra      map[string]string
		gone       string
	}{
		"account": {ecKey(t), "", "", nil, "serviceaccounts/ns/app"},
		"pod": {rsaKey, "Pod", "web", map[string]string{
			ExtraPodName: "web", ExtraPodUID: "pod-uid", ExtraNodeName: "n1", ExtraNodeUID: "node-uid"}, "pods/ns/web"},
		"secret": {ecKey(t), "Secret", "s", nil, "secrets/ns/s"},
		"node":   {ecKey(t), "Node", "n1", map[string]string{ExtraNodeName: "n1"}, "nodes//n1"},
	} {
		t.Run(name, func(t *testing.T) {
			w := world()
			issuer, verifier := issuerAndVerifier(t, c.key, w)
			answer, err := issuer.Request(t.Context(), "ns", "app", tokenFor(c.kind, c.bind))
			if err != nil {
				t.Fatal(err)
			}
			v, ok, err := verifier.VerifyToken(t.Context(), answer.Status.Token, []string{testIssuer})
			if !ok || v.User.Name != "system:serviceaccount:ns:app" || v.User.UID != "sa-uid" ||
				!slices.Equal(v.User.Groups, []string{"system:serviceaccounts", "system:serviceaccounts:ns"}) {
				t.Fatalf("user %+v, %v, %v", v.User, ok, err)
			}
			for key, want := range c.extra {
				if !slices.Equal(v.User.Extra[key], []string{want}) {
					t.Errorf("%s: %v, want %s", key, v.User.Extra[key], want)
				}
			}
			if id := v.User.Extra[ExtraCredentialID]; len(id) != 1 || !strings.HasPrefix(id[0], "JTI=") {
				t.Errorf("credential id %v", id)
			}
			if _, ok, err := verifier.VerifyToken(t.Context(), answer.Status.Token, []string{"vault"}); ok || err == nil {
				t.Error("accepted for another audience")
			}
			delete(w, c.gone)
			if _, ok, err := verifier.VerifyToken(t.Context(), answer.Status.Token, []string{testIssuer}); ok || err == nil || !strings.Contains(err.Error(), "gone") {
				t.Errorf("after deletion: %v, %v", ok, err)
			}
		})
	}
}

func TestTokenOfARecreatedPod(t *testing.T) {
	w := world()
	issuer, verifier := issuerAndVerifier(t, ecKey(t), w)
	answer, err := issuer.Request(t.Context(), "ns", "app", tokenFor("Pod", "web"))
	if err != nil {
		t.Fatal(err)
	}
	pod := w["pods/ns/web"].(*corev1.Pod)
	pod.DeletionTimestamp = ptr.To(metav1.NewTime(time.Now().Add(10 * time.Second)))
	if _, ok, _ := verifier.VerifyToken(t.Context(), answer.Status.Token, []string{testIssuer}); !ok {
		t.Error("a pod that is stopping still needs its token")
	}
	pod.DeletionTimestamp = ptr.To(metav1.NewTime(time.Now().Add(-2 * time.Minute)))
	if _, ok, _ := verifier.VerifyToken(t.Context(), answer.Status.Token, []string{testIssuer}); ok {
		t.Error("a pod long deleted needs no token")
	}
	pod.DeletionTimestamp, pod.UID = nil, "another"
	if _, ok, _ := verifier.VerifyToken(t.Context(), answer.Status.Token, []string{testIssuer}); ok {
		t.Error("another pod of that name must not inherit the token")
	}
}

func TestRefusedTokenRequests(t *testing.T) {
	issuer, _ := issuerAndVerifier(t, ecKey(t), world())
	withSeconds := func(n int64) *authenticationv1.TokenRequest {
		return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &n}}
	}
	wrongUID := tokenFor("Pod", "web")
	wrongUID.Spec.BoundObjectRef.UID = "other"
	for name, c := range map[string]struct {
		account string
		req     *authenticationv1.TokenRequest
		is      func(error) bool
	}{
		"no account":    {"none", tokenFor("", ""), apierrors.IsNotFound},
		"no pod":        {"app", tokenFor("Pod", "none"), apierrors.IsNotFound},
		"foreign pod":   {"app", tokenFor("Pod", "foreign"), apierrors.IsBadRequest},
		"other kind":    {"app", tokenFor("ConfigMap", "x"), apierrors.IsBadRequest},
		"recreated pod": {"app", wrongUID, apierrors.IsConflict},
		"too short":     {"app", withSeconds(599), apierrors.IsInvalid},
		"too long":      {"app", withSeconds(1<<32 + 1), apierrors.IsInvalid},
		"other path":    {"app", &authenticationv1.TokenRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "else"}}, apierrors.IsBadRequest},
	} {
		if _, err := issuer.Request(t.Context(), "ns", c.account, c.req); !c.is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTokenLifetimes(t *testing.T) {
	w := world()
	key := ecKey(t)
	issuer, _ := issuerAndVerifier(t, key, w)
	expiry := func(i *TokenIssuer, req *authenticationv1.TokenRequest, seconds int64) (asked, real time.Duration) {
		t.Helper()
		req.Spec.ExpirationSeconds = &seconds
		answer, err := i.Request(t.Context(), "ns", "app", req)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := jwt.ParseSigned(answer.Status.Token, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		var c claims
		if err := parsed.Claims(key.Public(), &c); err != nil {
			t.Fatal(err)
		}
		return answer.Status.ExpirationTimestamp.Sub(answer.CreationTimestamp.Time).Round(time.Second), c.Expiry.Time().Sub(c.IssuedAt.Time())
	}
	if asked, real := expiry(issuer, tokenFor("Pod", "web"), 3600); asked != time.Hour || real != time.Hour {
		t.Errorf("an hour: %v, %v", asked, real)
	}
	if asked, real := expiry(issuer, tokenFor("Pod", "web"), extendSeconds); asked != extendSeconds*time.Second || real != extendedLife {
		t.Errorf("projected: %v, %v", asked, real)
	}
	other := tokenFor("Pod", "web")
	other.Spec.Audiences = []string{"vault"}
	if _, real := expiry(issuer, other, extendSeconds); real != extendSeconds*time.Second {
		t.Errorf("for others: %v", real)
	}
	limited, err := NewTokenIssuer(IssuerConfig{Issuer: testIssuer, Key: key, Reader: w, MaxExpiration: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if asked, real := expiry(limited, tokenFor("", ""), 86400); asked != time.Hour || real != time.Hour {
		t.Errorf("limited: %v, %v", asked, real)
	}
}

func TestForgedTokens(t *testing.T) {
	w := world()
	_, verifier := issuerAndVerifier(t, ecKey(t), w)
	forger, _ := issuerAndVerifier(t, ecKey(t), w)
	forged, err := forger.Request(t.Context(), "ns", "app", tokenFor("", ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := verifier.VerifyToken(t.Context(), forged.Status.Token, []string{testIssuer}); ok || err == nil {
		t.Errorf("another key: %v, %v", ok, err)
	}
	parts := strings.Split(forged.Status.Token, ".")
	for name, token := range map[string]string{
		"alg none":     "eyJhbGciOiJub25lIn0." + parts[1] + ".",
		"not a jwt":    "abc",
		"three parts":  "a.b.c",
		"foreign":      "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL290aGVyIn0.AAAA",
		"no signature": parts[0] + "." + parts[1] + ".",
	} {
		if _, ok, _ := verifier.VerifyToken(t.Context(), token, []string{testIssuer}); ok {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestLegacyTokens(t *testing.T) {
	w := world()
	key := ecKey(t)
	issuer, verifier := issuerAndVerifier(t, key, w)
	token, err := jwt.Signed(issuer.signer).Claims(claims{
		Claims:          jwt.Claims{Issuer: legacyIssuer, Subject: "system:serviceaccount:ns:app"},
		LegacyNamespace: "ns", LegacySecretName: "old", LegacyName: "app", LegacyUID: "sa-uid",
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := verifier.VerifyToken(t.Context(), token, []string{testIssuer}); ok {
		t.Error("accepted without its secret")
	}
	w["secrets/ns/old"] = &corev1.Secret{ObjectMeta: meta("ns", "old", "1"), Type: corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{"token": []byte(token)}}
	if v, ok, err := verifier.VerifyToken(t.Context(), token, []string{testIssuer}); !ok || v.User.Name != "system:serviceaccount:ns:app" {
		t.Errorf("%+v, %v, %v", v, ok, err)
	}
	if _, ok, _ := verifier.VerifyToken(t.Context(), token, []string{"vault"}); ok {
		t.Error("accepted for another audience")
	}
}

func TestDocuments(t *testing.T) {
	key := ecKey(t)
	d, err := NewDocuments(testIssuer, "", []crypto.PublicKey{key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	get := func(h http.Handler, method string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(method, "/", nil))
		return rec
	}
	var configuration map[string]any
	if err := json.Unmarshal(get(d.Configuration(), http.MethodGet).Body.Bytes(), &configuration); err != nil || configuration["jwks_uri"] != testIssuer+JWKSPath || configuration["issuer"] != testIssuer {
		t.Errorf("configuration %v, %v", configuration, err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(get(d.Keys(), http.MethodGet).Body.Bytes(), &set); err != nil || len(set.Keys) != 1 || !set.Keys[0].IsPublic() {
		t.Errorf("keys %v, %v", set, err)
	}
	id, err := keyID(key.Public())
	if err != nil || len(set.Key(id)) != 1 {
		t.Errorf("key id %s: %v", id, err)
	}
	if rec := get(d.Keys(), http.MethodPost); rec.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", rec.Code)
	}
}

package component

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/skeg-dev/skeg/internal/pki"
)

// reviewer is an API server that knows one token and lets one user read.
func reviewer(ca *pki.Pair, reviews *int) *fake.Clientset {
	client := fake.NewClientset(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: authConfigNamespace, Name: authConfigName},
		Data:       map[string]string{authConfigKey: string(pki.EncodeCerts(ca.Cert))},
	})
	client.PrependReactor("create", "tokenreviews", func(a k8stesting.Action) (bool, runtime.Object, error) {
		*reviews++
		review := a.(k8stesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		if review.Spec.Token == "good" {
			review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "prometheus"}}
		}
		return true, review, nil
	})
	client.PrependReactor("create", "subjectaccessreviews", func(a k8stesting.Action) (bool, runtime.Object, error) {
		*reviews++
		review := a.(k8stesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		review.Status.Allowed = review.Spec.User == "prometheus" && review.Spec.NonResourceAttributes != nil && review.Spec.NonResourceAttributes.Path == "/metrics"
		return true, review, nil
	})
	return client
}

func TestServerDelegates(t *testing.T) {
	ca, err := pki.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := ca.Issue(pki.Request{CommonName: "admin", Organizations: []string{"system:masters"}, Client: true})
	if err != nil {
		t.Fatal(err)
	}
	other, err := pki.NewCA("other")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := other.Issue(pki.Request{CommonName: "admin", Organizations: []string{"system:masters"}, Client: true})
	if err != nil {
		t.Fatal(err)
	}
	reviews := 0
	auth, err := NewDelegation(DelegationConfig{Client: reviewer(ca, &reviews), AlwaysAllowPaths: DefaultDelegationOptions().AlwaysAllowPaths})
	if err != nil {
		t.Fatal(err)
	}
	serving := ServingOptions{BindAddress: "127.0.0.1", CertDir: t.TempDir(), PairName: "test"}
	tlsConfig, source, err := serving.TLS(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(ServerConfig{
		Name: "test", Address: serving.BindAddress, TLS: tlsConfig, Health: NewHealth(), Metrics: true, Auth: auth,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			user, _ := IdentityFrom(r.Context())
			fmt.Fprint(w, user.Username)
		}),
	})
	group := &Group{Parts: []Part{{"certificate", source}, {"server", server}}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- group.Run(ctx) }()
	waitReady(t, group)

	get := func(path, token string, pair *pki.Pair) (int, string) {
		t.Helper()
		config := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the certificate is self-signed
		if pair != nil {
			config.Certificates = []tls.Certificate{*pair.TLS()}
		}
		transport := &http.Transport{TLSClientConfig: config}
		defer transport.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+server.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	for _, c := range []struct {
		name, path, token string
		pair              *pki.Pair
		code              int
		body              string
	}{
		{"anybody reads health", "/healthz", "", nil, 200, "ok"},
		{"nobody reads metrics", "/metrics", "", nil, 403, "system:anonymous"},
		{"a token is reviewed", "/metrics", "good", nil, 200, "kubernetes_build_info"},
		{"a bad token is refused", "/metrics", "bad", nil, 401, "Unauthorized"},
		{"a user without rights", "/secret", "good", nil, 403, "prometheus"},
		{"masters may everything", "/secret", "", admin, 200, "admin"},
		{"another authority's certificate", "/secret", "", stranger, 401, "Unauthorized"},
	} {
		if code, body := get(c.path, c.token, c.pair); code != c.code || !strings.Contains(body, c.body) {
			t.Errorf("%s: %d %.100q, want %d %q", c.name, code, body, c.code, c.body)
		}
	}
	before := reviews
	if code, _ := get("/metrics", "good", nil); code != 200 || reviews != before {
		t.Errorf("second time: %d, %d reviews more", code, reviews-before)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := pki.Load(serving.CertDir+"/test.crt", serving.CertDir+"/test.key"); err != nil {
		t.Errorf("certificate was not kept: %v", err)
	}
}

func TestServerPortInUse(t *testing.T) {
	first := NewServer(ServerConfig{Name: "first", Address: "127.0.0.1"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- first.Run(ctx) }()
	waitReady(t, first)
	second := NewServer(ServerConfig{Name: "second", Address: "127.0.0.1", Port: portOf(first)})
	if err := second.Run(ctx); err == nil || !strings.Contains(err.Error(), "listen for second") {
		t.Errorf("Run: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func portOf(s *Server) int {
	var port int
	_, text, _ := strings.Cut(s.Addr().String(), ":")
	_, _ = fmt.Sscan(text, &port)
	return port
}

func TestLeaderElection(t *testing.T) {
	client := fake.NewClientset()
	options := DefaultLeaderOptions("test")
	if faults := options.Validate(); len(faults) > 0 {
		t.Fatal(faults)
	}
	options.RetryPeriod = 20 * time.Millisecond
	elect := func(id string, j *journal) (*LeaderElection, *part) {
		p := newPart(id, j)
		return NewLeaderElection(LeaderConfig{Options: options, Client: client, Identity: id, Parts: []Part{{id, p}}}), p
	}
	j := &journal{}
	one, onePart := elect("one", j)
	two, twoPart := elect("two", j)
	firstCtx, stopFirst := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- one.Run(firstCtx) }()
	waitReady(t, onePart)
	secondCtx, stopSecond := context.WithCancel(t.Context())
	go func() { second <- two.Run(secondCtx) }()
	stopFirst()
	if err := <-first; err != nil {
		t.Fatalf("first: %v", err)
	}
	waitReady(t, twoPart) // the lease was released: no wait for its end
	if err := two.Check().Probe(t.Context()); err != nil {
		t.Errorf("health: %v", err)
	}
	boom := errors.New("boom")
	twoPart.fail <- boom
	if err := <-second; !errors.Is(err, boom) {
		t.Errorf("second: %v", err)
	}
	stopSecond()
	if got := strings.Join(j.all(), ","); got != "start one,stop one,start two,stop two" {
		t.Errorf("order: %s", got)
	}
}

func TestLeaderElectionOff(t *testing.T) {
	p := newPart("p", &journal{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- NewLeaderElection(LeaderConfig{Parts: []Part{{"p", p}}}).Run(ctx) }()
	waitReady(t, p)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

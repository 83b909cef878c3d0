package filter_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/authz"
	"github.com/skeg-dev/skeg/apiserver/filter"
)

type byToken struct{}

func (byToken) Authenticate(r *http.Request) (authn.User, bool, error) {
	switch token := r.Header.Get("Authorization"); token {
	case "":
		return authn.User{}, false, nil
	case "bad":
		return authn.User{}, false, errors.New("expired")
	default:
		return authn.User{Name: token, Groups: []string{authn.GroupAuthenticated}}, true, nil
	}
}

type rules func(a authz.Attributes) authz.Decision

func (f rules) Authorize(_ context.Context, a authz.Attributes) (authz.Decision, string, error) {
	return f(a), "", nil
}

func chain(max int, allow rules, next http.HandlerFunc) http.Handler {
	return filter.Chain(filter.Config{
		Authenticator: byToken{}, Authorizer: allow, RequestTimeout: time.Minute,
		MaxInFlight: max, MaxMutatingInFlight: max, Metrics: filter.RegisterMetrics(), Logger: slog.New(slog.DiscardHandler),
	}, next)
}

func status(t *testing.T, rec *httptest.ResponseRecorder) metav1.Status {
	t.Helper()
	var s metav1.Status
	if err := json.Unmarshal(rec.Body.Bytes(), &s); err != nil {
		t.Fatalf("%v in %s", err, rec.Body)
	}
	return s
}

func TestChain(t *testing.T) {
	allow := rules(func(a authz.Attributes) authz.Decision {
		if a.User.Name == "admin" || a.User.Name == "alice" && a.Verb == "list" {
			return authz.Allow
		}
		return authz.NoOpinion
	})
	h := chain(10, allow, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic("boom")
		}
		user, _ := authn.UserFrom(r.Context())
		w.Write([]byte(user.Name + " " + strings.Join(user.Groups, ","))) //nolint:errcheck // a recorder
	})
	tests := []struct {
		name, method, url, token string
		header                   http.Header
		code                     int
		want                     string
	}{
		{name: "nobody", method: "GET", url: "/api/v1/pods", code: 401, want: "Unauthorized"},
		{name: "bad token", method: "GET", url: "/api/v1/pods", token: "bad", code: 401, want: "Unauthorized"},
		{name: "allowed", method: "GET", url: "/api/v1/pods", token: "alice", code: 200, want: "alice system:authenticated"},
		{
			name: "refused", method: "POST", url: "/apis/apps/v1/namespaces/x/deployments", token: "alice", code: 403,
			want: `deployments.apps is forbidden: User "alice" cannot create resource "deployments" in API group "apps" in the namespace "x"`,
		},
		{
			name: "refused by name", method: "GET", url: "/api/v1/nodes/n/status", token: "alice", code: 403,
			want: `nodes "n" is forbidden: User "alice" cannot get resource "nodes/status" in API group "" at the cluster scope`,
		},
		{name: "refused path", method: "GET", url: "/metrics", token: "alice", code: 403, want: `forbidden: User "alice" cannot get path "/metrics"`},
		{
			name: "impersonation", method: "GET", url: "/api/v1/pods", token: "admin", header: http.Header{"Impersonate-User": {"alice"}},
			code: 200, want: "alice system:authenticated",
		},
		{
			name: "impersonation refused", method: "GET", url: "/api/v1/pods", token: "alice", header: http.Header{"Impersonate-User": {"admin"}},
			code: 403, want: `users "admin" is forbidden: User "alice" cannot impersonate resource "users" in API group "" at the cluster scope`,
		},
		{
			name: "impersonating groups only", method: "GET", url: "/api/v1/pods", token: "admin", header: http.Header{"Impersonate-Group": {"g"}},
			code: 400, want: "requested impersonation without impersonating a user",
		},
		{name: "panic", method: "GET", url: "/panic", token: "admin", code: 500, want: "Internal error occurred: the request could not be served"},
		{name: "bad timeout", method: "GET", url: "/api/v1/pods?timeout=x", token: "admin", code: 400, want: "invalid timeout"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, test.url, nil)
			for k, v := range test.header {
				r.Header[k] = v
			}
			if test.token != "" {
				r.Header.Set("Authorization", test.token)
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			text := rec.Body.String()
			if rec.Code >= 400 {
				text = status(t, rec).Message
			}
			if rec.Code != test.code || !strings.Contains(text, test.want) {
				t.Errorf("%d %s, want %d %s", rec.Code, text, test.code, test.want)
			}
			if rec.Header().Get("Audit-Id") == "" {
				t.Error("no audit id")
			}
		})
	}
}

func TestInFlight(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	h := chain(1, func(authz.Attributes) authz.Decision { return authz.Allow }, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("block") != "" {
			entered <- struct{}{}
			<-release
		}
	})
	do := func(method, url string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, url, nil)
		r.Header.Set("Authorization", "alice")
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec
	}
	done := make(chan int)
	go func() { done <- do("GET", "/api/v1/pods?block=1").Code }()
	<-entered
	if rec := do("GET", "/api/v1/pods"); rec.Code != http.StatusTooManyRequests || rec.Header().Get("Retry-After") != "1" {
		t.Errorf("second reader: %d", rec.Code)
	}
	if rec := do("GET", "/api/v1/pods?watch=1"); rec.Code != http.StatusOK {
		t.Errorf("a watch was counted: %d", rec.Code)
	}
	if rec := do("POST", "/api/v1/namespaces/x/pods"); rec.Code != http.StatusOK {
		t.Errorf("a writer was counted as reader: %d", rec.Code)
	}
	close(release)
	if code := <-done; code != http.StatusOK {
		t.Errorf("first reader: %d", code)
	}
}

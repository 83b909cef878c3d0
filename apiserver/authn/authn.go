// Package authn finds out who sends a request: a file per method
// (certificate, token, serviceaccount, bootstrap). It is called by the filter
// pipeline and calls nothing but verifiers handed in by app/. It starts no
// goroutines.
package authn

import "context"

// Well-known names and groups (API reference, "Authenticating").
const (
	Anonymous             = "system:anonymous"
	GroupUnauthenticated  = "system:unauthenticated"
	GroupAuthenticated    = "system:authenticated"
	GroupMasters          = "system:masters"
	GroupNodes            = "system:nodes"
	GroupServiceAccounts  = "system:serviceaccounts"
	GroupMonitoring       = "system:monitoring"
	ServiceAccountPrefix  = "system:serviceaccount:"
	NodeUserPrefix        = "system:node:"
	GroupBootstrappers    = "system:bootstrappers"
	UserAPIServer         = "system:apiserver"
	UserScheduler         = "system:kube-scheduler"
	UserControllerManager = "system:kube-controller-manager"
	UserProxy             = "system:kube-proxy"
	ExtraPodName          = "authentication.kubernetes.io/pod-name"
	ExtraPodUID           = "authentication.kubernetes.io/pod-uid"
	ExtraNodeName         = "authentication.kubernetes.io/node-name"
	ExtraNodeUID          = "authentication.kubernetes.io/node-uid"
	ExtraCredentialID     = "authentication.kubernetes.io/credential-id"
)

// User is an authenticated identity. The zero value is nobody. Values are
// read-only once in a context.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// InGroup reports membership.
func (u User) InGroup(group string) bool {
	for _, g := range u.Groups {
		if g == group {
			return true
		}
	}
	return false
}

type userKey struct{}

// WithUser returns a context that carries u.
func WithUser(ctx context.Context, u User) context.Context {
	return context.WithValue(ctx, userKey{}, u)
}

// UserFrom returns the user put in by WithUser; ok is false when there is none.
func UserFrom(ctx context.Context) (u User, ok bool) {
	u, ok = ctx.Value(userKey{}).(User)
	return u, ok
}

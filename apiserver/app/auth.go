package app

import (
	"crypto"
	"crypto/x509"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/authz"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/internal/component"
)

// keys are the secrets and authorities that authentication works with.
type keys struct {
	clientCA     func() *x509.CertPool
	frontProxyCA func() *x509.CertPool // nil: no front proxy
	signing      crypto.Signer
	verifying    []crypto.PublicKey
	// loopback is the token of the server's own client; "" for none.
	loopback string
}

// authentication is everything that knows who somebody is.
type authentication struct {
	authn.Authenticator
	tokens    *authn.Tokens
	issuer    *authn.TokenIssuer
	documents *authn.Documents
}

// newAuthentication builds the methods in order; anonymous comes last.
func newAuthentication(o *Options, k keys, r *reader) (*authentication, error) {
	audiences := o.APIAudiences
	if len(audiences) == 0 {
		audiences = []string{o.ServiceAccountIssuer}
	}
	accounts, err := authn.NewServiceAccountTokens(authn.ServiceAccountConfig{
		Issuers: []string{o.ServiceAccountIssuer}, Audiences: audiences, Keys: k.verifying, Reader: r,
	})
	if err != nil {
		return nil, fmt.Errorf("prepare service-account authentication: %w", err)
	}
	verifiers := []authn.TokenVerifier{accounts}
	if k.loopback != "" {
		self := authn.User{Name: authn.UserAPIServer, Groups: []string{authn.GroupMasters}}
		verifiers = append([]authn.TokenVerifier{authn.NewStaticToken(k.loopback, self)}, verifiers...)
	}
	if o.BootstrapTokenAuth {
		verifiers = append(verifiers, authn.NewBootstrapTokens(r))
	}
	a := &authentication{tokens: authn.NewTokens(audiences, verifiers...)}
	var methods []authn.Authenticator
	if k.frontProxyCA != nil {
		methods = append(methods, authn.NewFrontProxy(authn.FrontProxyConfig{
			Pool: k.frontProxyCA, AllowedNames: []string{"front-proxy-client"},
		}))
	}
	methods = append(methods, authn.NewCertificates(k.clientCA), a.tokens)
	if o.AnonymousAuth {
		methods = append(methods, authn.NewAnonymous(authn.AnonymousPaths))
	}
	a.Authenticator = authn.NewUnion(methods...)
	a.issuer, err = authn.NewTokenIssuer(authn.IssuerConfig{
		Issuer: o.ServiceAccountIssuer, Key: k.signing, Audiences: audiences,
		MaxExpiration: o.ServiceAccountMaxExpiration, ExtendExpiration: o.ServiceAccountExtend, Reader: r,
	})
	if err != nil {
		return nil, fmt.Errorf("prepare token issuer: %w", err)
	}
	a.documents, err = authn.NewDocuments(o.ServiceAccountIssuer, "", k.verifying)
	if err != nil {
		return nil, fmt.Errorf("prepare issuer documents: %w", err)
	}
	return a, nil
}

// authorization is everything that knows what somebody may do.
type authorization struct {
	authz.Authorizer
	rbac  *authz.RBAC
	parts []component.Part
	ready []component.Check
}

func newAuthorization(o *Options, stores map[schema.GroupResource]store.Store, r *reader) *authorization {
	rbacStore := func(resource string) store.Store {
		return stores[schema.GroupResource{Group: rbacv1.GroupName, Resource: resource}]
	}
	a := &authorization{rbac: authz.NewRBAC(authz.RBACStores{
		Roles: rbacStore("roles"), RoleBindings: rbacStore("rolebindings"),
		ClusterRoles: rbacStore("clusterroles"), ClusterRoleBindings: rbacStore("clusterrolebindings"),
	})}
	a.parts = a.rbac.Parts() // the rules are also what reviews and escalation checks ask
	var members []authz.Authorizer
	for _, mode := range o.AuthorizationModes {
		switch mode {
		case "Node":
			node := authz.NewNode(stores[corev1.Resource("pods")], r)
			a.parts = append(a.parts, node.Parts()...)
			members = append(members, node)
		case "RBAC":
			members = append(members, a.rbac)
		case "AlwaysAllow":
			members = append(members, authz.AlwaysAllow())
		case "AlwaysDeny": // nobody allows: refused
		}
	}
	a.Authorizer = authz.NewUnion(members...)
	return a
}

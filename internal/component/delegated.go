package component

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/client-go/kubernetes"

	"github.com/skeg-dev/skeg/internal/pki"
)

// The ConfigMap in which the API server publishes its client authorities.
const (
	authConfigNamespace = "kube-system"
	authConfigName      = "extension-apiserver-authentication"
	authConfigKey       = "client-ca-file"
)

const (
	// reviewCacheSize bounds the answers kept of each kind of review.
	reviewCacheSize = 4096
	// reviewTTL is how long an answer counts, as upstream's
	// --authentication-token-webhook-cache-ttl and the authorization ones.
	reviewTTL = 10 * time.Second
	// caTTL is how long the authorities from the ConfigMap count.
	caTTL = time.Minute
)

// DelegationOptions are upstream's flags for letting the API server decide who
// may read what from a component.
type DelegationOptions struct {
	// ClientCAFile names the authorities of client certificates; "" means those
	// that the API server publishes.
	ClientCAFile string
	// AlwaysAllowPaths need no authorization.
	AlwaysAllowPaths []string
	// AuthenticationKubeconfig and AuthorizationKubeconfig name client
	// configurations for the reviews; "" means the component's own.
	AuthenticationKubeconfig, AuthorizationKubeconfig string
}

// DefaultDelegationOptions allows the health paths.
func DefaultDelegationOptions() DelegationOptions {
	return DelegationOptions{AlwaysAllowPaths: []string{"/healthz", "/readyz", "/livez"}}
}

// AddFlags registers the flags.
func (o *DelegationOptions) AddFlags(fs *pflag.FlagSet) {
	InFlagGroup(fs, "Authentication and authorization", func(fs *pflag.FlagSet) {
		fs.StringVar(&o.ClientCAFile, "client-ca-file", o.ClientCAFile, "PEM file with authorities of client certificates; those of the API server if not given")
		fs.StringVar(&o.AuthenticationKubeconfig, "authentication-kubeconfig", o.AuthenticationKubeconfig, "Kubeconfig for TokenReviews; --kubeconfig if not given")
		fs.StringVar(&o.AuthorizationKubeconfig, "authorization-kubeconfig", o.AuthorizationKubeconfig, "Kubeconfig for SubjectAccessReviews; --kubeconfig if not given")
		fs.StringSliceVar(&o.AlwaysAllowPaths, "authorization-always-allow-paths", o.AlwaysAllowPaths, "Paths that anybody may read; a trailing * matches what follows")
	})
}

// DelegationConfig is what NewDelegation needs.
type DelegationConfig struct {
	// Client sends the reviews; required.
	Client kubernetes.Interface
	// ClientCAFile and AlwaysAllowPaths are as in DelegationOptions.
	ClientCAFile     string
	AlwaysAllowPaths []string
	// DenyAnonymous refuses requests without credentials (401) instead of
	// asking what system:anonymous may do.
	DenyAnonymous bool
	// Resources names what a request asks for in API terms: any one of them
	// being allowed is enough. nil, or no answer, means the path itself with
	// the HTTP method as verb.
	Resources func(r *http.Request) []authorizationv1.ResourceAttributes
	Logger    *slog.Logger
}

// Delegation authenticates requests by client certificate or by TokenReview
// and authorizes them by SubjectAccessReview, each answer kept for a moment.
// It is safe for concurrent use and starts no goroutines.
type Delegation struct {
	config DelegationConfig
	bundle *pki.Bundle // nil: the ConfigMap is read
	tokens *cache.LRUExpireCache
	access *cache.LRUExpireCache

	mu      sync.Mutex // guards pool, fetched
	pool    *x509.CertPool
	fetched time.Time
}

// Identity is who sent a request, after Wrap.
type Identity = authenticationv1.UserInfo

type identityKey struct{}

// IdentityFrom returns the user that Wrap put into a request's context.
func IdentityFrom(ctx context.Context) (Identity, bool) {
	user, ok := ctx.Value(identityKey{}).(Identity)
	return user, ok
}

// NewDelegation returns the guard; it reads ClientCAFile but asks nobody yet.
func NewDelegation(config DelegationConfig) (*Delegation, error) {
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	d := &Delegation{config: config, tokens: cache.NewLRUExpireCache(reviewCacheSize), access: cache.NewLRUExpireCache(reviewCacheSize)}
	if config.ClientCAFile != "" {
		bundle, err := pki.NewBundle(config.ClientCAFile)
		if err != nil {
			return nil, fmt.Errorf("--client-ca-file: %w", err)
		}
		d.bundle = bundle
	}
	return d, nil
}

// Wrap lets only those through to next who may.
func (d *Delegation) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.alwaysAllowed(r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		user, err := d.authenticate(r)
		if err != nil {
			d.config.Logger.Debug("request not authenticated", "path", r.URL.Path, "remote", r.RemoteAddr, "err", err)
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		allowed, reason, err := d.authorize(r, user)
		if err != nil {
			d.config.Logger.Error("cannot authorize request", "user", user.Username, "path", r.URL.Path, "err", err)
			http.Error(w, fmt.Sprintf("Authorization error (user=%s, path=%s)", user.Username, r.URL.Path), http.StatusInternalServerError)
			return
		}
		if !allowed {
			http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, path=%s) %s", user.Username, strings.ToLower(r.Method), r.URL.Path, reason), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, user)))
	})
}

func (d *Delegation) alwaysAllowed(path string) bool {
	return slices.ContainsFunc(d.config.AlwaysAllowPaths, func(allowed string) bool {
		if prefix, ok := strings.CutSuffix(allowed, "*"); ok {
			return strings.HasPrefix(path, prefix)
		}
		return path == allowed || strings.HasPrefix(path, allowed+"/")
	})
}

func (d *Delegation) authenticate(r *http.Request) (Identity, error) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		return d.byCertificate(r)
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return d.byToken(r.Context(), strings.TrimSpace(token))
	}
	if d.config.DenyAnonymous {
		return Identity{}, errors.New("no credentials")
	}
	return Identity{Username: "system:anonymous", Groups: []string{"system:unauthenticated"}}, nil
}

func (d *Delegation) byCertificate(r *http.Request) (Identity, error) {
	pool, err := d.clientCAs(r.Context())
	if err != nil {
		return Identity{}, err
	}
	leaf := r.TLS.PeerCertificates[0]
	intermediates := x509.NewCertPool()
	for _, cert := range r.TLS.PeerCertificates[1:] {
		intermediates.AddCert(cert)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return Identity{}, fmt.Errorf("verify client certificate: %w", err)
	}
	if leaf.Subject.CommonName == "" {
		return Identity{}, errors.New("client certificate names nobody")
	}
	return Identity{Username: leaf.Subject.CommonName, Groups: append(slices.Clone(leaf.Subject.Organization), "system:authenticated")}, nil
}

// clientCAs returns the authorities from the file, or from the ConfigMap,
// where a failure to read it again leaves the last ones in force.
func (d *Delegation) clientCAs(ctx context.Context) (*x509.CertPool, error) {
	if d.bundle != nil {
		return d.bundle.Pool(), nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pool != nil && time.Since(d.fetched) < caTTL {
		return d.pool, nil
	}
	pool, err := d.fetchClientCAs(ctx)
	if err != nil {
		if d.pool == nil {
			return nil, err
		}
		d.config.Logger.Warn("cannot read client authorities, keeping the last ones", "err", err)
		pool = d.pool
	}
	d.pool, d.fetched = pool, time.Now()
	return pool, nil
}

func (d *Delegation) fetchClientCAs(ctx context.Context) (*x509.CertPool, error) {
	config, err := d.config.Client.CoreV1().ConfigMaps(authConfigNamespace).Get(ctx, authConfigName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read client authorities: %w", err)
	}
	certs, err := pki.ParseCerts([]byte(config.Data[authConfigKey]))
	if err != nil {
		return nil, fmt.Errorf("read client authorities: %w", err)
	}
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	return pool, nil
}

func (d *Delegation) byToken(ctx context.Context, token string) (Identity, error) {
	sum := sha256.Sum256([]byte(token))
	key := hex.EncodeToString(sum[:]) // the token itself stays out of memory that lives long
	if known, ok := d.tokens.Get(key); ok {
		return known.(Identity), nil
	}
	review, err := d.config.Client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token},
	}, metav1.CreateOptions{})
	if err != nil {
		return Identity{}, fmt.Errorf("review token: %w", err)
	}
	if !review.Status.Authenticated {
		return Identity{}, fmt.Errorf("token refused: %s", review.Status.Error)
	}
	d.tokens.Add(key, review.Status.User, reviewTTL)
	return review.Status.User, nil
}

func (d *Delegation) authorize(r *http.Request, user Identity) (allowed bool, reason string, err error) {
	if slices.Contains(user.Groups, "system:masters") {
		return true, "", nil
	}
	var resources []authorizationv1.ResourceAttributes
	if d.config.Resources != nil {
		resources = d.config.Resources(r)
	}
	if len(resources) == 0 {
		return d.review(r.Context(), user, authorizationv1.SubjectAccessReviewSpec{
			NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: r.URL.Path, Verb: strings.ToLower(r.Method)},
		})
	}
	for i := range resources {
		allowed, reason, err = d.review(r.Context(), user, authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: &resources[i]})
		if allowed || err != nil {
			return allowed, reason, err
		}
	}
	return allowed, reason, err
}

type verdict struct {
	allowed bool
	reason  string
}

func (d *Delegation) review(ctx context.Context, user Identity, spec authorizationv1.SubjectAccessReviewSpec) (bool, string, error) {
	spec.User, spec.UID, spec.Groups = user.Username, user.UID, user.Groups
	for name, values := range user.Extra {
		if spec.Extra == nil {
			spec.Extra = map[string]authorizationv1.ExtraValue{}
		}
		spec.Extra[name] = authorizationv1.ExtraValue(values)
	}
	question, err := json.Marshal(spec)
	if err != nil {
		return false, "", fmt.Errorf("encode access review: %w", err)
	}
	if known, ok := d.access.Get(string(question)); ok {
		answer := known.(verdict)
		return answer.allowed, answer.reason, nil
	}
	review, err := d.config.Client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		return false, "", fmt.Errorf("review access: %w", err)
	}
	answer := verdict{review.Status.Allowed, review.Status.Reason}
	d.access.Add(string(question), answer, reviewTTL)
	return answer.allowed, answer.reason, nil
}

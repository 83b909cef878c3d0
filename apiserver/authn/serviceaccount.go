package authn

import (
	"context"
	"crypto"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skeg-dev/skeg/apiserver/resource"
)

const (
	// legacyIssuer is that of tokens kept in Secrets, without expiry.
	legacyIssuer = "kubernetes/serviceaccount"
	// clockLeeway is how far clocks may differ.
	clockLeeway = time.Minute
	// deletionLeeway is how long the token of something being deleted counts
	// on after its grace period, so that it can finish.
	deletionLeeway = time.Minute
)

var (
	serviceAccounts = schema.GroupResource{Resource: "serviceaccounts"}
	pods            = schema.GroupResource{Resource: "pods"}
	nodes           = schema.GroupResource{Resource: "nodes"}
)

// tokenAlgorithms are those that service-account keys can have.
var tokenAlgorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.ES384, jose.ES512}

// claims are those of a service-account token: the private ones under
// "kubernetes.io", and the flat ones of tokens kept in Secrets.
type claims struct {
	jwt.Claims
	Bound *boundClaims `json:"kubernetes.io,omitempty"`

	LegacyNamespace  string `json:"kubernetes.io/serviceaccount/namespace,omitempty"`
	LegacySecretName string `json:"kubernetes.io/serviceaccount/secret.name,omitempty"`
	LegacyName       string `json:"kubernetes.io/serviceaccount/service-account.name,omitempty"`
	LegacyUID        string `json:"kubernetes.io/serviceaccount/service-account.uid,omitempty"`
}

type boundClaims struct {
	Namespace      string           `json:"namespace,omitempty"`
	Node           *ref             `json:"node,omitempty"`
	Pod            *ref             `json:"pod,omitempty"`
	Secret         *ref             `json:"secret,omitempty"`
	ServiceAccount ref              `json:"serviceaccount,omitempty"`
	WarnAfter      *jwt.NumericDate `json:"warnafter,omitempty"`
}

type ref struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
}

// ServiceAccountConfig is what checking service-account tokens needs.
type ServiceAccountConfig struct {
	// Issuers are accepted values of the claim iss; the first is that of new
	// tokens. Required.
	Issuers []string
	// Audiences are those of this API server; nil means Issuers[:1].
	Audiences []string
	// Keys verify signatures; required.
	Keys []crypto.PublicKey
	// Reader finds what tokens are bound to; required.
	Reader Reader
}

type serviceAccountTokens struct {
	config ServiceAccountConfig
	keys   map[string]crypto.PublicKey // by key id
}

// NewServiceAccountTokens accepts tokens signed by one of the keys, as long as
// the ServiceAccount, and the Pod, Secret or Node a token is bound to, exist
// with the same UID.
func NewServiceAccountTokens(config ServiceAccountConfig) (TokenVerifier, error) {
	s := &serviceAccountTokens{config: config, keys: map[string]crypto.PublicKey{}}
	for _, key := range config.Keys {
		id, err := keyID(key)
		if err != nil {
			return nil, err
		}
		s.keys[id] = key
	}
	return s, nil
}

// VerifyToken checks signature, times, audience and what the token is bound to.
func (s *serviceAccountTokens) VerifyToken(ctx context.Context, token string, audiences []string) (Verified, bool, error) {
	if !s.mayBeOurs(token) {
		return Verified{}, false, nil
	}
	parsed, err := jwt.ParseSigned(token, tokenAlgorithms)
	if err != nil {
		return Verified{}, false, nil // not a JWT of a kind we make
	}
	c, err := s.open(parsed)
	if err != nil {
		return Verified{}, false, err
	}
	if err := c.Validate(jwt.Expected{Time: time.Now()}); err != nil {
		return Verified{}, false, fmt.Errorf("service account token: %w", err)
	}
	if c.Issuer == legacyIssuer {
		return s.checkLegacy(ctx, token, c, audiences)
	}
	return s.checkBound(ctx, c, audiences)
}

// mayBeOurs looks at the issuer before anything is verified.
func (s *serviceAccountTokens) mayBeOurs(token string) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return false
	}
	var said struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(payload, &said) != nil {
		return false
	}
	if said.Issuer == legacyIssuer {
		return true
	}
	for _, issuer := range s.config.Issuers {
		if said.Issuer == issuer {
			return true
		}
	}
	return false
}

// open verifies the signature with the key the token names, or with each.
func (s *serviceAccountTokens) open(parsed *jwt.JSONWebToken) (*claims, error) {
	keys := s.keys
	if len(parsed.Headers) > 0 {
		if key, ok := s.keys[parsed.Headers[0].KeyID]; ok {
			keys = map[string]crypto.PublicKey{parsed.Headers[0].KeyID: key}
		}
	}
	for _, key := range keys {
		var c claims
		if parsed.Claims(key, &c) == nil {
			return &c, nil
		}
	}
	return nil, errors.New("service account token: no key verifies its signature")
}

func (s *serviceAccountTokens) checkBound(ctx context.Context, c *claims, audiences []string) (Verified, bool, error) {
	matching := intersect(audiences, c.Audience)
	if len(matching) == 0 {
		return Verified{}, false, fmt.Errorf("service account token: audiences %q are none of %q", []string(c.Audience), audiences)
	}
	b := c.Bound
	if b == nil || b.Namespace == "" || b.ServiceAccount.Name == "" {
		return Verified{}, false, errors.New("service account token: it names no service account")
	}
	if c.Subject != ServiceAccountPrefix+b.Namespace+":"+b.ServiceAccount.Name {
		return Verified{}, false, errors.New("service account token: subject and service account differ")
	}
	if err := s.exists(ctx, serviceAccounts, b.Namespace, b.ServiceAccount); err != nil {
		return Verified{}, false, err
	}
	if err := s.boundObjectExists(ctx, b); err != nil {
		return Verified{}, false, err
	}
	v := Verified{User: serviceAccountUser(b.Namespace, b.ServiceAccount.Name, b.ServiceAccount.UID), Audiences: matching, Expires: c.Expiry.Time()}
	v.User.Extra = extraOf(c)
	return v, true, nil
}

// boundObjectExists checks the object a token dies with. A node beside a pod
// is only information.
func (s *serviceAccountTokens) boundObjectExists(ctx context.Context, b *boundClaims) error {
	switch {
	case b.Secret != nil:
		return s.exists(ctx, secrets, b.Namespace, *b.Secret)
	case b.Pod != nil:
		return s.exists(ctx, pods, b.Namespace, *b.Pod)
	case b.Node != nil:
		return s.exists(ctx, nodes, "", *b.Node)
	}
	return nil
}

// exists looks in the cache first, and then at the truth before it refuses.
func (s *serviceAccountTokens) exists(ctx context.Context, res schema.GroupResource, namespace string, r ref) error {
	obj, err := s.config.Reader.Get(ctx, res, namespace, r.Name)
	if err == nil && alive(obj, r.UID) {
		return nil
	}
	obj, err = s.config.Reader.GetLatest(ctx, res, namespace, r.Name)
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("service account token: %s %q is gone", res.Resource, r.Name)
	case err != nil:
		return fmt.Errorf("service account token: look up %s %q: %w", res.Resource, r.Name, err)
	case !alive(obj, r.UID):
		return fmt.Errorf("service account token: %s %q has been deleted", res.Resource, r.Name)
	}
	return nil
}

// alive reports whether obj is the one meant and not deleted for long.
func alive(obj resource.Object, uid string) bool {
	if obj.GetUID() != types.UID(uid) {
		return false
	}
	deleted := obj.GetDeletionTimestamp()
	return deleted == nil || time.Now().Before(deleted.Add(deletionLeeway))
}

// checkLegacy accepts a token kept in a Secret while it stands there.
func (s *serviceAccountTokens) checkLegacy(ctx context.Context, token string, c *claims, audiences []string) (Verified, bool, error) {
	own := s.audiences()
	if len(intersect(audiences, own)) == 0 {
		return Verified{}, false, errors.New("service account token: it is for this API server only")
	}
	obj, err := s.config.Reader.GetLatest(ctx, secrets, c.LegacyNamespace, c.LegacySecretName)
	if err != nil {
		return Verified{}, false, fmt.Errorf("service account token: look up secret %q: %w", c.LegacySecretName, err)
	}
	secret, ok := obj.(*corev1.Secret)
	if !ok || secret.Type != corev1.SecretTypeServiceAccountToken || secret.DeletionTimestamp != nil ||
		subtle.ConstantTimeCompare(secret.Data[corev1.ServiceAccountTokenKey], []byte(token)) != 1 {
		return Verified{}, false, fmt.Errorf("service account token: secret %q does not hold it", c.LegacySecretName)
	}
	if err := s.exists(ctx, serviceAccounts, c.LegacyNamespace, ref{c.LegacyName, c.LegacyUID}); err != nil {
		return Verified{}, false, err
	}
	return Verified{User: serviceAccountUser(c.LegacyNamespace, c.LegacyName, c.LegacyUID), Audiences: intersect(audiences, own)}, true, nil
}

func (s *serviceAccountTokens) audiences() []string {
	if len(s.config.Audiences) > 0 {
		return s.config.Audiences
	}
	return s.config.Issuers[:1]
}

func serviceAccountUser(namespace, name, uid string) User {
	return User{
		Name: ServiceAccountPrefix + namespace + ":" + name, UID: uid,
		Groups: []string{GroupServiceAccounts, GroupServiceAccounts + ":" + namespace},
	}
}

func extraOf(c *claims) map[string][]string {
	extra := map[string][]string{}
	if c.ID != "" {
		extra[ExtraCredentialID] = []string{"JTI=" + c.ID}
	}
	if c.Bound.Pod != nil {
		extra[ExtraPodName], extra[ExtraPodUID] = []string{c.Bound.Pod.Name}, []string{c.Bound.Pod.UID}
	}
	if c.Bound.Node != nil {
		extra[ExtraNodeName], extra[ExtraNodeUID] = []string{c.Bound.Node.Name}, []string{c.Bound.Node.UID}
	}
	if len(extra) == 0 {
		return nil
	}
	return extra
}

// SplitServiceAccount takes "system:serviceaccount:<namespace>:<name>" apart.
func SplitServiceAccount(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, ServiceAccountPrefix)
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok && namespace != "" && name != "" && !strings.Contains(name, ":")
}

func decodeBase64URL(text string) string {
	decoded, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return ""
	}
	return string(decoded)
}

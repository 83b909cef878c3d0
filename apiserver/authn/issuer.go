package authn

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/apiserver/resource"
)

// Lifetimes of tokens (API reference, TokenRequestSpec.expirationSeconds).
const (
	defaultTokenSeconds = 60 * 60
	minTokenSeconds     = 10 * 60
	maxTokenSeconds     = 1 << 32
	// extendSeconds is what clients of projected volumes ask for; such tokens
	// live a year and only warn after this time, for programs that read their
	// token once (KEP-1205).
	extendSeconds = 60*60 + 7
	extendedLife  = 365 * 24 * time.Hour
)

// IssuerConfig is what making service-account tokens needs.
type IssuerConfig struct {
	// Issuer is the claim iss, an https URL; required.
	Issuer string
	// Key signs: RSA (RS256) or ECDSA; required.
	Key crypto.Signer
	// Audiences are used when a request names none; nil means Issuer.
	Audiences []string
	// MaxExpiration cuts longer requests; 0 means no limit.
	MaxExpiration time.Duration
	// ExtendExpiration lets tokens of projected volumes live a year
	// (upstream's --service-account-extend-token-expiration, on by default).
	ExtendExpiration bool
	// Reader finds ServiceAccounts and what tokens shall be bound to; required.
	Reader Reader
}

// TokenIssuer makes service-account tokens: the subresource token of
// ServiceAccount. It is safe for concurrent use.
type TokenIssuer struct {
	config IssuerConfig
	signer jose.Signer
}

// NewTokenIssuer prepares the signer.
func NewTokenIssuer(config IssuerConfig) (*TokenIssuer, error) {
	algorithm, err := algorithmOf(config.Key.Public())
	if err != nil {
		return nil, err
	}
	id, err := keyID(config.Key.Public())
	if err != nil {
		return nil, err
	}
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: algorithm,
		Key:       jose.JSONWebKey{Algorithm: string(algorithm), Key: config.Key, KeyID: id, Use: "sig"},
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("prepare token signer: %w", err)
	}
	if len(config.Audiences) == 0 {
		config.Audiences = []string{config.Issuer}
	}
	return &TokenIssuer{config: config, signer: signer}, nil
}

// Request answers a TokenRequest for a ServiceAccount: it returns a copy of req
// with the status filled, or an API status error.
func (i *TokenIssuer) Request(ctx context.Context, namespace, name string, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	obj, err := i.config.Reader.GetLatest(ctx, serviceAccounts, namespace, name)
	if err != nil {
		return nil, err
	}
	account, ok := obj.(*corev1.ServiceAccount)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("look up service account: found %T", obj))
	}
	out := req.DeepCopy()
	i.setDefaults(out)
	if out.Namespace == "" {
		out.Namespace, out.Name = namespace, name
	}
	if err := checkTokenRequest(out, namespace, name); err != nil {
		return nil, err
	}
	bound := &boundClaims{Namespace: namespace, ServiceAccount: ref{account.Name, string(account.UID)}}
	if out.Spec.BoundObjectRef != nil {
		if err := i.bind(ctx, bound, account, out.Spec.BoundObjectRef); err != nil {
			return nil, err
		}
	}
	now := time.Now()
	life := i.lifetime(out, bound, now)
	token, err := i.sign(bound, out.Spec.Audiences, now, life)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	out.CreationTimestamp = metav1.NewTime(now)
	out.Status = authenticationv1.TokenRequestStatus{
		Token:               token,
		ExpirationTimestamp: metav1.NewTime(now.Add(time.Duration(*out.Spec.ExpirationSeconds) * time.Second)),
	}
	return out, nil
}

// RequestObject is Request for a caller that has runtime.Objects.
func (i *TokenIssuer) RequestObject(ctx context.Context, namespace, name string, obj runtime.Object) (runtime.Object, error) {
	req, ok := obj.(*authenticationv1.TokenRequest)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a TokenRequest: %T", obj))
	}
	return i.Request(ctx, namespace, name, req)
}

func (i *TokenIssuer) setDefaults(req *authenticationv1.TokenRequest) {
	if req.Spec.ExpirationSeconds == nil {
		req.Spec.ExpirationSeconds = ptr.To[int64](defaultTokenSeconds)
	}
	if len(req.Spec.Audiences) == 0 {
		req.Spec.Audiences = i.config.Audiences
	}
}

func checkTokenRequest(req *authenticationv1.TokenRequest, namespace, name string) error {
	if req.Namespace != namespace || (req.Name != "" && req.Name != name) {
		return apierrors.NewBadRequest("metadata names another service account than the request's path")
	}
	path := field.NewPath("spec", "expirationSeconds")
	var faults field.ErrorList
	if *req.Spec.ExpirationSeconds < minTokenSeconds {
		faults = append(faults, field.Invalid(path, *req.Spec.ExpirationSeconds, "may not specify a duration less than 10 minutes"))
	}
	if *req.Spec.ExpirationSeconds > maxTokenSeconds {
		faults = append(faults, field.Invalid(path, *req.Spec.ExpirationSeconds, "may not specify a duration larger than 2^32 seconds"))
	}
	if len(faults) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: authenticationv1.GroupName, Kind: "TokenRequest"}, name, faults)
	}
	return nil
}

// bind fills what the token shall die with.
func (i *TokenIssuer) bind(ctx context.Context, b *boundClaims, account *corev1.ServiceAccount, to *authenticationv1.BoundObjectReference) error {
	switch {
	case to.Kind == "Pod" && to.APIVersion == "v1":
		obj, err := i.lookup(ctx, pods, b.Namespace, to)
		if err != nil {
			return err
		}
		pod, ok := obj.(*corev1.Pod)
		if !ok {
			return apierrors.NewInternalError(fmt.Errorf("look up pod: found %T", obj))
		}
		if pod.Spec.ServiceAccountName != account.Name {
			return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", account.Name))
		}
		b.Pod = &ref{pod.Name, string(pod.UID)}
		return i.bindNodeOf(ctx, b, pod.Spec.NodeName)
	case to.Kind == "Secret" && to.APIVersion == "v1":
		obj, err := i.lookup(ctx, secrets, b.Namespace, to)
		if err != nil {
			return err
		}
		b.Secret = &ref{obj.GetName(), string(obj.GetUID())}
	case to.Kind == "Node" && to.APIVersion == "v1":
		obj, err := i.lookup(ctx, nodes, "", to)
		if err != nil {
			return err
		}
		b.Node = &ref{obj.GetName(), string(obj.GetUID())}
	default:
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s", schema.FromAPIVersionAndKind(to.APIVersion, to.Kind)))
	}
	return nil
}

// bindNodeOf records the node of a pod, for information. A node that is not
// there any more is named without UID.
func (i *TokenIssuer) bindNodeOf(ctx context.Context, b *boundClaims, node string) error {
	if node == "" {
		return nil
	}
	obj, err := i.config.Reader.Get(ctx, nodes, "", node)
	switch {
	case apierrors.IsNotFound(err):
		b.Node = &ref{Name: node}
	case err != nil:
		return err
	default:
		b.Node = &ref{node, string(obj.GetUID())}
	}
	return nil
}

func (i *TokenIssuer) lookup(ctx context.Context, res schema.GroupResource, namespace string, to *authenticationv1.BoundObjectReference) (resource.Object, error) {
	obj, err := i.config.Reader.GetLatest(ctx, res, namespace, to.Name)
	if err != nil {
		return nil, err
	}
	if to.UID != "" && to.UID != obj.GetUID() {
		return nil, apierrors.NewConflict(res, to.Name, fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", to.UID))
	}
	return obj, nil
}

// lifetime decides how long the token lives, which may be longer than asked
// for, and sets from when on its use is to be warned about.
func (i *TokenIssuer) lifetime(req *authenticationv1.TokenRequest, b *boundClaims, now time.Time) time.Duration {
	life := time.Duration(*req.Spec.ExpirationSeconds) * time.Second
	if limit := i.config.MaxExpiration; limit > 0 && life > limit {
		life = limit
		req.Spec.ExpirationSeconds = ptr.To(int64(limit / time.Second))
	}
	if i.config.ExtendExpiration && b.Pod != nil && *req.Spec.ExpirationSeconds == extendSeconds &&
		len(intersect(req.Spec.Audiences, i.config.Audiences)) == len(req.Spec.Audiences) {
		b.WarnAfter = jwt.NewNumericDate(now.Add(life))
		life = extendedLife
	}
	return life
}

func (i *TokenIssuer) sign(b *boundClaims, audiences []string, now time.Time, life time.Duration) (string, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return "", fmt.Errorf("choose token id: %w", err)
	}
	token, err := jwt.Signed(i.signer).Claims(claims{
		Claims: jwt.Claims{
			Issuer: i.config.Issuer, Subject: ServiceAccountPrefix + b.Namespace + ":" + b.ServiceAccount.Name,
			Audience: audiences, ID: id.String(),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(life)),
		},
		Bound: b,
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}

func algorithmOf(key crypto.PublicKey) (jose.SignatureAlgorithm, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return jose.RS256, nil
	case *ecdsa.PublicKey:
		switch k.Curve.Params().BitSize {
		case 256:
			return jose.ES256, nil
		case 384:
			return jose.ES384, nil
		case 521:
			return jose.ES512, nil
		}
	}
	return "", errors.New("service-account keys must be RSA or ECDSA (P-256, P-384, P-521)")
}

// keyID is upstream's: SHA-256 of the PKIX form, so that both find each
// other's keys.
func keyID(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("name public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

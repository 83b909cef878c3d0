package authn

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Facts about bootstrap tokens (kubernetes.io, "Authenticating with Bootstrap
// Tokens").
const (
	BootstrapTokenNamespace    = "kube-system"
	BootstrapTokenSecretPrefix = "bootstrap-token-"
	BootstrapTokenSecretType   = corev1.SecretType("bootstrap.kubernetes.io/token")
	BootstrapTokenUserPrefix   = "system:bootstrap:"
	BootstrapTokenIDKey        = "token-id"
	BootstrapTokenSecretKey    = "token-secret"
	BootstrapTokenExpiryKey    = "expiration"
	BootstrapTokenUsageKey     = "usage-bootstrap-authentication"
	BootstrapTokenSigningKey   = "usage-bootstrap-signing"
	BootstrapTokenGroupsKey    = "auth-extra-groups"
)

var (
	bootstrapToken = regexp.MustCompile(`\A([a-z0-9]{6})\.([a-z0-9]{16})\z`)
	bootstrapGroup = regexp.MustCompile(`\Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\z`)
	secrets        = schema.GroupResource{Resource: "secrets"}
)

type bootstrapTokens struct{ reader Reader }

// NewBootstrapTokens accepts "<id>.<secret>" tokens kept in Secrets of type
// bootstrap.kubernetes.io/token in kube-system.
func NewBootstrapTokens(reader Reader) TokenVerifier { return &bootstrapTokens{reader} }

// VerifyToken looks the Secret up and compares.
func (b *bootstrapTokens) VerifyToken(ctx context.Context, token string, _ []string) (Verified, bool, error) {
	parts := bootstrapToken.FindStringSubmatch(token)
	if parts == nil {
		return Verified{}, false, nil
	}
	obj, err := b.reader.GetLatest(ctx, secrets, BootstrapTokenNamespace, BootstrapTokenSecretPrefix+parts[1])
	if apierrors.IsNotFound(err) {
		return Verified{}, false, errors.New("bootstrap token is unknown")
	}
	if err != nil {
		return Verified{}, false, fmt.Errorf("look up bootstrap token: %w", err)
	}
	secret, ok := obj.(*corev1.Secret)
	if !ok {
		return Verified{}, false, fmt.Errorf("look up bootstrap token: found %T", obj)
	}
	groups, expires, err := checkBootstrapSecret(secret, parts[1], parts[2], time.Now())
	if err != nil {
		return Verified{}, false, err
	}
	return Verified{User: User{Name: BootstrapTokenUserPrefix + parts[1], Groups: groups}, Expires: expires}, true, nil
}

func checkBootstrapSecret(s *corev1.Secret, id, key string, now time.Time) (groups []string, expires time.Time, err error) {
	switch {
	case s.DeletionTimestamp != nil:
		return nil, expires, errors.New("bootstrap token is being deleted")
	case s.Type != BootstrapTokenSecretType:
		return nil, expires, fmt.Errorf("bootstrap token: secret %s has another type", s.Name)
	case subtle.ConstantTimeCompare(s.Data[BootstrapTokenSecretKey], []byte(key)) != 1:
		return nil, expires, errors.New("bootstrap token is wrong")
	case string(s.Data[BootstrapTokenIDKey]) != id:
		return nil, expires, fmt.Errorf("bootstrap token: secret %s names another id", s.Name)
	case string(s.Data[BootstrapTokenUsageKey]) != "true":
		return nil, expires, errors.New("bootstrap token is not for authentication")
	}
	if text := string(s.Data[BootstrapTokenExpiryKey]); text != "" {
		if expires, err = time.Parse(time.RFC3339, text); err != nil {
			return nil, expires, fmt.Errorf("bootstrap token: expiration: %w", err)
		}
		if !now.Before(expires) {
			return nil, expires, errors.New("bootstrap token has expired")
		}
	}
	groups = []string{GroupBootstrappers}
	if text := string(s.Data[BootstrapTokenGroupsKey]); text != "" {
		for group := range strings.SplitSeq(text, ",") {
			if !bootstrapGroup.MatchString(group) {
				return nil, expires, fmt.Errorf("bootstrap token: group %q is not of the form system:bootstrappers:<name>", group)
			}
			groups = append(groups, group)
		}
	}
	return groups, expires, nil
}

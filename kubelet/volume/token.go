//go:build linux

package volume

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// A token is replaced when it has lived 80 % of its life, or 24 hours: the
// documented times ("Launch a Pod using service account token projection").
const (
	tokenShare  = 0.8
	tokenMaxAge = 24 * time.Hour
	// tokenRetry is when to ask again while an old token is still good.
	tokenRetry = time.Minute
	// defaultTokenSeconds is the API's default of expirationSeconds.
	defaultTokenSeconds = 3600
)

// tokens requests and remembers service account tokens bound to Pods.
type tokens struct {
	config Config

	mu   sync.Mutex // guards held
	held map[tokenKey]heldToken
}

type tokenKey struct {
	uid, audience string
	seconds       int64
}

type heldToken struct {
	text            string
	replace, expire time.Time
}

func newTokens(config Config) *tokens {
	return &tokens{config: config, held: map[tokenKey]heldToken{}}
}

// token returns a good token, and when to call again. If a new one cannot be
// had the old one serves until it expires.
func (t *tokens) token(ctx context.Context, pod *corev1.Pod, p *corev1.ServiceAccountTokenProjection) (string, time.Time, error) {
	k := tokenKey{string(pod.UID), p.Audience, ptr.Deref(p.ExpirationSeconds, defaultTokenSeconds)}
	now := t.config.Now()
	t.mu.Lock()
	old, ok := t.held[k]
	t.mu.Unlock()
	if ok && now.Before(old.replace) {
		return old.text, old.replace, nil
	}
	fresh, err := t.request(ctx, pod, k)
	if err == nil {
		t.mu.Lock()
		t.held[k] = fresh
		t.mu.Unlock()
		return fresh.text, fresh.replace, nil
	}
	if ok && now.Before(old.expire) {
		t.config.Log.Warn("could not renew service account token; the old one is still good",
			"pod", pod.Namespace+"/"+pod.Name, "expires", old.expire, "err", err)
		return old.text, now.Add(tokenRetry), nil
	}
	return "", time.Time{}, err
}

func (t *tokens) request(ctx context.Context, pod *corev1.Pod, k tokenKey) (heldToken, error) {
	if t.config.Client == nil {
		return heldToken{}, errors.New("service account tokens need an API server")
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &k.seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if k.audience != "" {
		request.Spec.Audiences = []string{k.audience}
	}
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	start := t.config.Now()
	answer, err := t.config.Client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return heldToken{}, fmt.Errorf("failed to fetch token: %w", err)
	}
	expire := answer.Status.ExpirationTimestamp.Time
	life := min(time.Duration(float64(expire.Sub(start))*tokenShare), tokenMaxAge)
	return heldToken{text: answer.Status.Token, replace: start.Add(life), expire: expire}, nil
}

// forget drops the tokens of a Pod.
func (t *tokens) forget(uid string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range t.held {
		if k.uid == uid {
			delete(t.held, k)
		}
	}
}

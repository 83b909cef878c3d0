package authn

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/cache"
)

const (
	tokenCacheSize = 16384
	// tokenTTL is how long a verified token is not verified again, and so how
	// long a deleted Pod's token may live on; upstream's value.
	tokenTTL = 10 * time.Second
	// maxTokenBytes refuses what cannot be a token before it costs anything.
	maxTokenBytes = 64 << 10
)

// Verified is what a token says.
type Verified struct {
	User User
	// Audiences are those asked for that the token is meant for; nil when the
	// token knows no audiences.
	Audiences []string
	// Expires is the end of the token's life; zero means unknown.
	Expires time.Time
}

// TokenVerifier checks one kind of token. ok is false when it is not of this
// kind (err nil) or refused (err says why).
type TokenVerifier interface {
	VerifyToken(ctx context.Context, token string, audiences []string) (v Verified, ok bool, err error)
}

// Tokens authenticates by bearer token: in the Authorization header, or in a
// WebSocket subprotocol as browsers send it. Answers are kept for a moment.
type Tokens struct {
	audiences []string
	verifiers []TokenVerifier
	cache     *cache.LRUExpireCache
}

// NewTokens asks verifiers in order; audiences are those of this API server.
func NewTokens(audiences []string, verifiers ...TokenVerifier) *Tokens {
	return &Tokens{audiences: audiences, verifiers: verifiers, cache: cache.NewLRUExpireCache(tokenCacheSize)}
}

// ErrUnknownToken is returned for a token that is of no known kind.
var ErrUnknownToken = errors.New("invalid bearer token")

// Authenticate checks the request's token and removes it from the request, so
// that it is not passed on or logged.
func (t *Tokens) Authenticate(r *http.Request) (User, bool, error) {
	token := takeToken(r)
	if token == "" {
		return User{}, false, nil
	}
	v, ok, err := t.VerifyToken(r.Context(), token, t.audiences)
	if !ok && err == nil {
		err = ErrUnknownToken
	}
	return v.User, ok, err
}

// VerifyToken asks the verifiers, or remembers their last answer.
func (t *Tokens) VerifyToken(ctx context.Context, token string, audiences []string) (Verified, bool, error) {
	if len(token) > maxTokenBytes {
		return Verified{}, false, errors.New("bearer token is too long")
	}
	key := sha256.Sum256([]byte(strings.Join(audiences, "\x00") + "\x00\x00" + token))
	if known, ok := t.cache.Get(key); ok {
		return known.(Verified), true, nil
	}
	var refused []error
	for _, verifier := range t.verifiers {
		v, ok, err := verifier.VerifyToken(ctx, token, audiences)
		if ok {
			t.remember(key, v)
			return v, true, nil
		}
		if err != nil {
			refused = append(refused, err)
		}
	}
	return Verified{}, false, errors.Join(refused...)
}

func (t *Tokens) remember(key [sha256.Size]byte, v Verified) {
	ttl := tokenTTL
	if !v.Expires.IsZero() {
		ttl = min(ttl, time.Until(v.Expires))
	}
	t.cache.Add(key, v, ttl)
}

// webSocketToken is the subprotocol in which a browser sends a token.
const webSocketToken = "base64url.bearer.authorization.k8s.io."

func takeToken(r *http.Request) string {
	if scheme, token, ok := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " "); ok && strings.EqualFold(scheme, "bearer") {
		if token = strings.TrimSpace(token); token != "" {
			r.Header.Del("Authorization")
			return token
		}
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return ""
	}
	return takeWebSocketToken(r)
}

func takeWebSocketToken(r *http.Request) string {
	token := ""
	var rest []string
	for _, header := range r.Header.Values("Sec-WebSocket-Protocol") {
		for protocol := range strings.SplitSeq(header, ",") {
			protocol = strings.TrimSpace(protocol)
			if encoded, ok := strings.CutPrefix(protocol, webSocketToken); ok && token == "" {
				token = decodeBase64URL(encoded)
				continue
			}
			rest = append(rest, protocol)
		}
	}
	if token == "" || len(rest) == 0 {
		return "" // without another subprotocol the token would be echoed as the one chosen
	}
	r.Header.Set("Sec-WebSocket-Protocol", strings.Join(rest, ","))
	return token
}

type staticToken struct {
	token string
	user  User
}

// NewStaticToken accepts one token, which the process gives to itself for its
// loopback client. It is compared in constant time.
func NewStaticToken(token string, user User) TokenVerifier { return &staticToken{token, user} }

// VerifyToken compares.
func (s *staticToken) VerifyToken(_ context.Context, token string, _ []string) (Verified, bool, error) {
	if s.token == "" || subtle.ConstantTimeCompare([]byte(s.token), []byte(token)) != 1 {
		return Verified{}, false, nil
	}
	return Verified{User: s.user}, true, nil
}

// intersect returns those of wanted that are in has, in wanted's order.
func intersect(wanted, has []string) []string {
	var both []string
	for _, audience := range wanted {
		if slices.Contains(has, audience) {
			both = append(both, audience)
		}
	}
	return both
}

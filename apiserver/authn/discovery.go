package authn

import (
	"crypto"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// Paths of the documents by which others check service-account tokens
// (OpenID Connect Discovery 1.0).
const (
	OpenIDConfigurationPath = "/.well-known/openid-configuration"
	JWKSPath                = "/openid/v1/jwks"
)

// Documents serves the OpenID documents of a token issuer.
type Documents struct {
	configuration, keys []byte
}

// NewDocuments encodes both documents. jwksURI "" means the issuer's URL with
// JWKSPath.
func NewDocuments(issuer, jwksURI string, keys []crypto.PublicKey) (*Documents, error) {
	var set jose.JSONWebKeySet
	var algorithms []string
	for _, key := range keys {
		algorithm, err := algorithmOf(key)
		if err != nil {
			return nil, err
		}
		id, err := keyID(key)
		if err != nil {
			return nil, err
		}
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key, KeyID: id, Algorithm: string(algorithm), Use: "sig"})
		if !slices.Contains(algorithms, string(algorithm)) {
			algorithms = append(algorithms, string(algorithm))
		}
	}
	slices.Sort(algorithms)
	if jwksURI == "" {
		jwksURI = strings.TrimSuffix(issuer, "/") + JWKSPath
	}
	d := &Documents{}
	var err error
	if d.keys, err = json.Marshal(set); err != nil {
		return nil, fmt.Errorf("encode key set: %w", err)
	}
	d.configuration, err = json.Marshal(struct {
		Issuer        string   `json:"issuer"`
		JWKSURI       string   `json:"jwks_uri"`
		ResponseTypes []string `json:"response_types_supported"`
		SubjectTypes  []string `json:"subject_types_supported"`
		SigningAlgs   []string `json:"id_token_signing_alg_values_supported"`
	}{issuer, jwksURI, []string{"id_token"}, []string{"public"}, algorithms})
	if err != nil {
		return nil, fmt.Errorf("encode OpenID configuration: %w", err)
	}
	return d, nil
}

// Configuration serves OpenIDConfigurationPath.
func (d *Documents) Configuration() http.Handler {
	return document("application/json", d.configuration)
}

// Keys serves JWKSPath.
func (d *Documents) Keys() http.Handler { return document("application/jwk-set+json", d.keys) }

func document(contentType string, content []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "public, max-age=3600")
		_, _ = w.Write(content) // the client went away: nobody is left to tell
	})
}

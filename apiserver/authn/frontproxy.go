package authn

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// FrontProxyConfig is upstream's --requestheader-* flags.
type FrontProxyConfig struct {
	// Pool returns the authorities of proxies; required.
	Pool func() *x509.CertPool
	// AllowedNames are the proxies' common names; empty means any.
	AllowedNames []string
	// Header names; nil means X-Remote-User, X-Remote-Uid, X-Remote-Group and
	// X-Remote-Extra-.
	UserHeaders, UIDHeaders, GroupHeaders, ExtraPrefixes []string
}

type frontProxy struct{ config FrontProxyConfig }

// NewFrontProxy believes the user headers of a proxy that shows a certificate
// of the front-proxy authority (aggregated API servers are reached so).
func NewFrontProxy(config FrontProxyConfig) Authenticator {
	setDefault := func(headers *[]string, name string) {
		if len(*headers) == 0 {
			*headers = []string{name}
		}
	}
	setDefault(&config.UserHeaders, "X-Remote-User")
	setDefault(&config.UIDHeaders, "X-Remote-Uid")
	setDefault(&config.GroupHeaders, "X-Remote-Group")
	setDefault(&config.ExtraPrefixes, "X-Remote-Extra-")
	return &frontProxy{config: config}
}

// Authenticate returns the user in the headers. Whatever the outcome, it
// removes them, so that nobody behind believes a stranger's.
func (p *frontProxy) Authenticate(r *http.Request) (User, bool, error) {
	user := p.take(r.Header)
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || user.Name == "" {
		return User{}, false, nil
	}
	leaf := r.TLS.PeerCertificates[0]
	if err := verify(r.TLS.PeerCertificates, p.config.Pool()); err != nil {
		var unknown x509.UnknownAuthorityError
		if errors.As(err, &unknown) {
			return User{}, false, nil // an ordinary client certificate: another method's business
		}
		return User{}, false, err
	}
	if len(p.config.AllowedNames) > 0 && !slices.Contains(p.config.AllowedNames, leaf.Subject.CommonName) {
		return User{}, false, fmt.Errorf("proxy %q is not among the allowed names", leaf.Subject.CommonName)
	}
	return user, true, nil
}

func (p *frontProxy) take(h http.Header) User {
	user := User{Name: first(h, p.config.UserHeaders), UID: first(h, p.config.UIDHeaders)}
	for _, name := range p.config.GroupHeaders {
		user.Groups = append(user.Groups, h.Values(name)...)
	}
	for key, values := range h {
		for _, prefix := range p.config.ExtraPrefixes {
			if len(key) > len(prefix) && strings.EqualFold(key[:len(prefix)], prefix) {
				if user.Extra == nil {
					user.Extra = map[string][]string{}
				}
				name := extraName(key[len(prefix):])
				user.Extra[name] = append(user.Extra[name], values...)
				h.Del(key)
			}
		}
	}
	for _, names := range [][]string{p.config.UserHeaders, p.config.UIDHeaders, p.config.GroupHeaders} {
		for _, name := range names {
			h.Del(name)
		}
	}
	return user
}

// extraName undoes the percent-encoding of keys that headers cannot carry.
func extraName(encoded string) string {
	lower := strings.ToLower(encoded)
	if decoded, err := url.PathUnescape(lower); err == nil {
		return decoded
	}
	return lower
}

func first(h http.Header, names []string) string {
	for _, name := range names {
		if value := h.Get(name); value != "" {
			return value
		}
	}
	return ""
}

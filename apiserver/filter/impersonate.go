package filter

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/authz"
	"github.com/skeg-dev/skeg/apiserver/codec"
)

// Impersonate replaces the caller by the one named in Impersonate-* headers,
// if the caller may (API reference, "User impersonation").
func Impersonate(c Config, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target, wanted, err := impersonated(r.Header)
		if err != nil {
			codec.WriteError(w, r, err)
			return
		}
		if !wanted {
			next.ServeHTTP(w, r)
			return
		}
		caller, _ := authn.UserFrom(r.Context())
		for _, question := range impersonationQuestions(caller, target) {
			decision, reason, _ := c.Authorizer.Authorize(r.Context(), question) // no Allow is a no, with or without error
			if decision != authz.Allow {
				c.Logger.Debug("impersonation refused", "user", caller.Name, "as", target.Name, "reason", reason)
				codec.WriteError(w, r, Forbidden(question, reason))
				return
			}
		}
		for name := range r.Header {
			if strings.HasPrefix(name, "Impersonate-") {
				r.Header.Del(name)
			}
		}
		next.ServeHTTP(w, r.WithContext(authn.WithUser(r.Context(), implied(target))))
	})
}

// impersonated reads the headers.
func impersonated(h http.Header) (target authn.User, wanted bool, err error) {
	target.Name = h.Get(authenticationv1.ImpersonateUserHeader)
	target.UID = h.Get(authenticationv1.ImpersonateUIDHeader)
	target.Groups = slices.Clone(h.Values(authenticationv1.ImpersonateGroupHeader))
	for name, values := range h {
		key, ok := strings.CutPrefix(name, authenticationv1.ImpersonateUserExtraHeaderPrefix)
		if !ok {
			continue
		}
		key, unescapeErr := url.PathUnescape(strings.ToLower(key))
		if unescapeErr != nil {
			return target, false, apierrors.NewBadRequest("impersonation extra key is not valid: " + unescapeErr.Error())
		}
		if target.Extra == nil {
			target.Extra = map[string][]string{}
		}
		target.Extra[key] = append(target.Extra[key], values...)
	}
	if target.Name == "" && (target.UID != "" || len(target.Groups) > 0 || len(target.Extra) > 0) {
		return target, false, apierrors.NewBadRequest("requested impersonation without impersonating a user")
	}
	return target, target.Name != "", nil
}

// impersonationQuestions are the rights the caller needs.
func impersonationQuestions(caller, target authn.User) []authz.Attributes {
	ask := func(group, resource, namespace, name, sub string) authz.Attributes {
		return authz.Attributes{
			User: caller, Verb: "impersonate", Group: group, Version: "v1",
			Resource: resource, Namespace: namespace, Name: name, Subresource: sub,
		}
	}
	var out []authz.Attributes
	if namespace, name, ok := serviceAccount(target.Name); ok {
		out = append(out, ask("", "serviceaccounts", namespace, name, ""))
	} else {
		out = append(out, ask("", "users", "", target.Name, ""))
	}
	for _, g := range target.Groups {
		out = append(out, ask("", "groups", "", g, ""))
	}
	if target.UID != "" {
		out = append(out, ask(authenticationv1.SchemeGroupVersion.Group, "uids", "", target.UID, ""))
	}
	for key, values := range target.Extra {
		for _, v := range values {
			out = append(out, ask(authenticationv1.SchemeGroupVersion.Group, "userextras", "", v, key))
		}
	}
	return out
}

func serviceAccount(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, authn.ServiceAccountPrefix)
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok
}

// implied adds the groups that authentication would have added.
func implied(u authn.User) authn.User {
	if namespace, _, ok := serviceAccount(u.Name); ok && len(u.Groups) == 0 {
		u.Groups = []string{authn.GroupServiceAccounts, authn.GroupServiceAccounts + ":" + namespace}
	}
	if u.Name == authn.Anonymous {
		if !u.InGroup(authn.GroupUnauthenticated) {
			u.Groups = append(u.Groups, authn.GroupUnauthenticated)
		}
	} else if !u.InGroup(authn.GroupAuthenticated) && !u.InGroup(authn.GroupUnauthenticated) {
		u.Groups = append(u.Groups, authn.GroupAuthenticated)
	}
	return u
}

package filter

import (
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/codec"
)

// Authenticate puts the caller into the context, or answers 401. Credentials
// do not travel further than this.
func Authenticate(c Config, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, ok, err := c.Authenticator.Authenticate(r)
		if err != nil {
			c.Logger.Debug("credentials refused", "path", r.URL.Path, "client", r.RemoteAddr, "err", err)
		}
		if !ok || err != nil {
			codec.WriteError(w, r, apierrors.NewUnauthorized("Unauthorized"))
			return
		}
		r.Header.Del("Authorization")
		next.ServeHTTP(w, r.WithContext(authn.WithUser(r.Context(), user)))
	})
}

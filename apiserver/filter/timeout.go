package filter

import (
	"context"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/request"
)

// Timeout gives requests that are not long-running a deadline: the client's
// ?timeout= when shorter, else the server's.
func Timeout(c Config, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if request.InfoFrom(r.Context()).LongRunning() {
			next.ServeHTTP(w, r)
			return
		}
		limit := c.RequestTimeout
		if text := r.URL.Query().Get("timeout"); text != "" {
			asked, err := time.ParseDuration(text)
			if err != nil {
				codec.WriteError(w, r, apierrors.NewBadRequest("invalid timeout specified in the request URL: "+err.Error()))
				return
			}
			if asked > 0 && asked < limit {
				limit = asked
			}
		}
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

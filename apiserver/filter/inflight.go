package filter

import (
	"net/http"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/request"
)

// InFlight refuses requests beyond the limits with 429. Long-running ones and
// those of system:masters are not counted.
func InFlight(c Config, next http.Handler) http.Handler {
	readers, writers := slots(c.MaxInFlight), slots(c.MaxMutatingInFlight)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := request.InfoFrom(r.Context())
		kind, tokens := "readOnly", readers
		if info.Mutating() {
			kind, tokens = "mutating", writers
		}
		user, _ := authn.UserFrom(r.Context())
		if tokens == nil || info.LongRunning() || user.InGroup(authn.GroupMasters) {
			next.ServeHTTP(w, r)
			return
		}
		select {
		case tokens <- struct{}{}:
		default:
			c.Metrics.dropped(info, kind)
			w.Header().Set("Retry-After", "1")
			http.Error(w, "Too many requests, please try again later.", http.StatusTooManyRequests)
			return
		}
		c.Metrics.inFlight.WithLabelValues(kind).Inc()
		defer func() {
			<-tokens
			c.Metrics.inFlight.WithLabelValues(kind).Dec()
		}()
		next.ServeHTTP(w, r)
	})
}

func slots(n int) chan struct{} {
	if n <= 0 {
		return nil
	}
	return make(chan struct{}, n)
}

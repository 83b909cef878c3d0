package filter

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skeg-dev/skeg/apiserver/codec"
)

// Recover turns a panic into a 500 and a log line; http.ErrAbortHandler is
// passed on, it ends the connection on purpose.
func Recover(c Config, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(cause)
			}
			c.Logger.Error("request panicked", "method", r.Method, "path", r.URL.Path,
				"panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
			if rec, ok := w.(*recorder); ok && (rec.code != 0 || rec.hijacked) {
				panic(http.ErrAbortHandler) // half an answer must not look whole
			}
			codec.WriteError(w, r, apierrors.NewInternalError(errors.New("the request could not be served")))
		}()
		next.ServeHTTP(w, r)
	})
}

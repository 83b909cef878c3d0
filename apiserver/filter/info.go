package filter

import (
	"net/http"

	"github.com/google/uuid"

	"github.com/skeg-dev/skeg/apiserver/request"
)

// auditHeader carries a request's audit id in both directions.
const auditHeader = "Audit-Id"

// maxAuditID bounds an id taken from a client.
const maxAuditID = 64

// Info puts the request's meaning, audit id and warning collector into its
// context.
func Info(_ Config, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(auditHeader)
		if id == "" || len(id) > maxAuditID {
			id = uuid.NewString()
		}
		w.Header().Set(auditHeader, id)
		info := request.Parse(r)
		ctx := request.WithInfo(r.Context(), &info)
		ctx = request.WithAuditID(ctx, id)
		ctx = request.WithWarnings(ctx, request.NewWarnings(w.Header()))
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

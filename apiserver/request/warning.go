package request

import (
	"context"
	"net/http"
	"sync"
	"unicode/utf8"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// Limits on Warning headers, so that a response's headers stay acceptable to
// proxies: each text to 256 bytes and all of them to 4 KiB.
const (
	maxWarningBytes  = 256
	maxWarningsBytes = 4096
)

// Warnings collects the Warning headers of one answer. Safe for concurrent
// use; what arrives after the headers are sent has no effect.
type Warnings struct {
	mu     sync.Mutex // guards header writes, seen and total
	header http.Header
	seen   map[string]bool
	total  int
}

// NewWarnings returns a collector that writes to an answer's headers.
func NewWarnings(header http.Header) *Warnings {
	return &Warnings{header: header, seen: map[string]bool{}}
}

// Add adds one warning; repeated and empty texts are dropped.
func (w *Warnings) Add(text string) {
	if text == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen[text] {
		return
	}
	w.seen[text] = true
	if len(text) > maxWarningBytes {
		text = truncate(text, maxWarningBytes)
	}
	value, err := utilnet.NewWarningHeader(299, "-", text)
	if err != nil || w.total+len(value) > maxWarningsBytes {
		return
	}
	w.total += len(value)
	w.header.Add("Warning", value)
}

func truncate(text string, limit int) string {
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

type warningsKey struct{}

// WithWarnings returns a context that carries w.
func WithWarnings(ctx context.Context, w *Warnings) context.Context {
	return context.WithValue(ctx, warningsKey{}, w)
}

// Warn adds a warning to the answer of the request that ctx belongs to; it
// does nothing without one.
func Warn(ctx context.Context, text string) {
	if w, ok := ctx.Value(warningsKey{}).(*Warnings); ok {
		w.Add(text)
	}
}

type auditKey struct{}

// WithAuditID returns a context that carries a request's audit id.
func WithAuditID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, auditKey{}, id)
}

// AuditID returns the audit id put in by WithAuditID, or "".
func AuditID(ctx context.Context) string {
	id, _ := ctx.Value(auditKey{}).(string)
	return id
}

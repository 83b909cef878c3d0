package codec

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NewNotAcceptable is the 406 for an Accept header nothing here satisfies.
func NewNotAcceptable(accepted ...string) *apierrors.StatusError {
	return failure(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable,
		"only the following media types are accepted: "+strings.Join(accepted, ", "))
}

// NewUnsupportedMediaType is the 415 for a body in an unknown format.
func NewUnsupportedMediaType(accepted ...string) *apierrors.StatusError {
	return failure(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType,
		"the body of the request was in an unknown format - accepted media types include: "+strings.Join(accepted, ", "))
}

func failure(code int32, reason metav1.StatusReason, message string) *apierrors.StatusError {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message,
	}}
}

// StatusOf returns the Status an error is answered with. Errors that are not
// API status errors become an internal error (500), a context's end a timeout.
func StatusOf(err error) *metav1.Status {
	var api apierrors.APIStatus
	if errors.As(err, &api) {
		status := api.Status()
		if status.Status == "" {
			status.Status = metav1.StatusFailure
		}
		if status.Code == 0 {
			status.Code = http.StatusInternalServerError
		}
		return &status
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		status := apierrors.NewTimeoutError("request did not complete within requested timeout - "+err.Error(), 0).Status()
		return &status
	}
	return &metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusInternalServerError,
		Reason:  metav1.StatusReasonUnknown,
		Message: err.Error(),
	}
}

// WriteError answers with err's Status in the negotiated format, or in JSON
// when negotiation itself fails.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	status := StatusOf(err)
	accepted, negotiationErr := Negotiate(r, false)
	if negotiationErr != nil {
		accepted = Accepted{}
	}
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", strconv.Itoa(int(status.Details.RetryAfterSeconds)))
	}
	body, err := Encode(accepted.Format, status, StatusKind)
	if err != nil {
		http.Error(w, fmt.Sprintf("encode status: %v", err), http.StatusInternalServerError)
		return
	}
	WriteBody(w, r, int(status.Code), accepted, body)
}

package authn

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Reviewer answers the posted kinds of authentication.k8s.io.
type Reviewer struct {
	tokens *Tokens
}

// NewReviewer reviews tokens with the same verifiers that requests go through.
func NewReviewer(tokens *Tokens) *Reviewer { return &Reviewer{tokens} }

// TokenReview answers a TokenReview: a copy of obj with its status filled, or
// an API status error.
func (v *Reviewer) TokenReview(ctx context.Context, _ User, obj runtime.Object) (runtime.Object, error) {
	review, ok := obj.(*authenticationv1.TokenReview)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a TokenReview: %T", obj))
	}
	if review.Spec.Token == "" {
		return nil, apierrors.NewBadRequest("token is required for TokenReview in authentication")
	}
	out := review.DeepCopy()
	asked := out.Spec.Audiences
	if len(asked) == 0 {
		asked = v.tokens.audiences
	}
	found, ok, err := v.tokens.VerifyToken(ctx, out.Spec.Token, asked)
	out.Status = authenticationv1.TokenReviewStatus{}
	if !ok {
		if err == nil {
			err = ErrUnknownToken
		}
		out.Status.Error = err.Error()
		return out, nil
	}
	if len(out.Spec.Audiences) > 0 && len(found.Audiences) == 0 && len(intersect(asked, v.tokens.audiences)) == 0 {
		out.Status.Error = "token is for this API server only"
		return out, nil
	}
	out.Status.Authenticated = true
	out.Status.User = UserInfo(authenticated(found.User))
	out.Status.Audiences = found.Audiences
	return out, nil
}

// SelfSubjectReview tells the user who they are.
func (v *Reviewer) SelfSubjectReview(_ context.Context, user User, obj runtime.Object) (runtime.Object, error) {
	review, ok := obj.(*authenticationv1.SelfSubjectReview)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a SelfSubjectReview: %T", obj))
	}
	out := review.DeepCopy()
	out.CreationTimestamp = metav1.Now()
	out.Status = authenticationv1.SelfSubjectReviewStatus{UserInfo: UserInfo(user)}
	return out, nil
}

// UserInfo converts a User to the API's form.
func UserInfo(u User) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for name, values := range u.Extra {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[name] = authenticationv1.ExtraValue(values)
	}
	return info
}

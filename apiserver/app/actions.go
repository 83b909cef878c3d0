package app

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/admission"
	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/authz"
	"github.com/skeg-dev/skeg/apiserver/eviction"
	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// direct reaches the handlers from an Action; it is set once they exist.
type direct struct{ set *handler.Set }

// Delete implements eviction.Deleter.
func (d *direct) Delete(ctx context.Context, user authn.User, gvr schema.GroupVersionResource, namespace, name string, opts *metav1.DeleteOptions) error {
	return d.set.Delete(ctx, user, gvr, namespace, name, opts) //nolint:wrapcheck // a Status
}

// newActions lists what is posted and not stored, by registry key.
func newActions(a *authentication, z *authorization, stores map[schema.GroupResource]store.Store, d *direct) map[string]handler.Action {
	tokens, access := authn.NewReviewer(a.tokens), authz.NewReviewer(z.Authorizer, z.rbac)
	return map[string]handler.Action{
		"selfsubjectreviews.authentication.k8s.io":       review(tokens.SelfSubjectReview),
		"tokenreviews.authentication.k8s.io":             review(tokens.TokenReview),
		"localsubjectaccessreviews.authorization.k8s.io": review(access.LocalSubjectAccessReview),
		"selfsubjectaccessreviews.authorization.k8s.io":  review(access.SelfSubjectAccessReview),
		"selfsubjectrulesreviews.authorization.k8s.io":   review(access.SelfSubjectRulesReview),
		"subjectaccessreviews.authorization.k8s.io":      review(access.SubjectAccessReview),
		"serviceaccounts/token": handler.ActionFunc(func(ctx context.Context, req handler.ActionRequest) (runtime.Object, error) {
			return a.issuer.RequestObject(ctx, req.Namespace, req.Name, req.Object) //nolint:wrapcheck // a Status
		}),
		"pods/eviction": &eviction.Action{
			Pods:    stores[corev1.Resource("pods")],
			Budgets: stores[schema.GroupResource{Group: policyv1.GroupName, Resource: "poddisruptionbudgets"}], Deleter: d,
		},
		"bindings": handler.ActionFunc(d.bind),
	}
}

// review makes a review function an Action.
func review(f func(ctx context.Context, user authn.User, obj runtime.Object) (runtime.Object, error)) handler.Action {
	return handler.ActionFunc(func(ctx context.Context, req handler.ActionRequest) (runtime.Object, error) {
		return f(ctx, req.User, req.Object)
	})
}

// bind serves the old way of binding a Pod, POST bindings, by pods/binding.
func (d *direct) bind(ctx context.Context, req handler.ActionRequest) (runtime.Object, error) {
	binding, ok := req.Object.(*corev1.Binding)
	if !ok {
		return nil, fmt.Errorf("bind pod: body is a %T", req.Object)
	}
	if binding.Namespace != "" && binding.Namespace != req.Namespace {
		return nil, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	err := d.set.PostSubresource(ctx, req.User, corev1.SchemeGroupVersion.WithResource("pods"), req.Namespace, binding.Name, "binding", binding, req.DryRun)
	if err != nil {
		return nil, err //nolint:wrapcheck // a Status
	}
	return &metav1.Status{Status: metav1.StatusSuccess}, nil
}

// escalationHook keeps users from granting what they do not have.
type escalationHook struct{ check *authz.Escalation }

// Begin implements handler.Hook.
func (h escalationHook) Begin(ctx context.Context, req handler.HookRequest) (func(bool), error) {
	if req.Operation == admission.Delete {
		return nil, nil //nolint:nilnil // nothing to finish
	}
	var old runtime.Object
	if req.Old != nil {
		old = req.Old
	}
	return nil, h.check.Check(ctx, req.User, req.New, old) //nolint:wrapcheck // a Status
}

// escalationHooks guards the kinds of rbac.authorization.k8s.io.
func escalationHooks(z *authorization) map[string]handler.Hook {
	hook := escalationHook{check: authz.NewEscalation(z.rbac, z.Authorizer)}
	out := map[string]handler.Hook{}
	for _, resource := range []string{"roles", "rolebindings", "clusterroles", "clusterrolebindings"} {
		out[resource+"."+rbacv1.GroupName] = hook
	}
	return out
}

package handler

import (
	"context"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/request"
)

// direct makes a call that no HTTP request stands behind: an Action that works
// on another resource on behalf of its caller. Authorization is the Action's.
func (s *Set) direct(ctx context.Context, user authn.User, gvr schema.GroupVersionResource, info request.Info) (*call, error) {
	k, ok := s.kinds[gvr]
	if !ok {
		return nil, apierrors.NewNotFound(gvr.GroupResource(), info.Name)
	}
	info.IsResource, info.Group, info.Version, info.Resource = true, gvr.Group, gvr.Version, gvr.Resource
	return &call{Kind: k, r: &http.Request{Header: http.Header{}}, ctx: ctx, info: &info, user: user}, nil
}

// Delete deletes an object as a user, through admission and hooks.
func (s *Set) Delete(ctx context.Context, user authn.User, gvr schema.GroupVersionResource, namespace, name string, opts *metav1.DeleteOptions) error {
	c, err := s.direct(ctx, user, gvr, request.Info{Verb: "delete", Namespace: namespace, Name: name})
	if err != nil {
		return err
	}
	_, _, err = c.deleteObject(namespace, name, opts)
	return err
}

// PostSubresource posts a body to a subresource that changes its parent
// (pods/binding), as a user.
func (s *Set) PostSubresource(ctx context.Context, user authn.User, gvr schema.GroupVersionResource, namespace, name, subresource string, body runtime.Object, dryRun bool) error {
	c, err := s.direct(ctx, user, gvr, request.Info{Verb: "create", Namespace: namespace, Name: name, Subresource: subresource})
	if err != nil {
		return err
	}
	sub := c.subs[subresource]
	if sub == nil {
		return c.notAllowed()
	}
	opts := &metav1.CreateOptions{}
	if dryRun {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	_, _, err = c.postBody(sub, body, opts)
	return c.statusErrorOrNil(err)
}

func (c *call) statusErrorOrNil(err error) error {
	if err == nil {
		return nil
	}
	return c.statusError(err)
}

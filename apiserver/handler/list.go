package handler

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/selection"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// expiredContinue is upstream's text for a continue token whose revision is
// compacted; clients read the new token from the Status.
const expiredContinue = "The provided continue parameter is too old " +
	"to display a consistent list result. You can start a new list without " +
	"the continue parameter, or use the continue token in this response to " +
	"retrieve the remainder of the results. Continuing with the provided " +
	"token results in an inconsistent list - objects that were created, " +
	"modified, or deleted between the time the first chunk was returned " +
	"and now may show up in the list."

// list answers a page of objects.
func (c *call) list() error {
	opts, err := selection.ParseOptions(c.r.URL.Query())
	if err != nil {
		return err //nolint:wrapcheck // a Status
	}
	include, err := c.tablePolicy()
	if err != nil {
		return err
	}
	page, meta, err := c.page(opts)
	if err != nil {
		return err
	}
	parts, err := c.source.EncodeList(c.accepted, page.Items, meta, include)
	if err != nil {
		return fmt.Errorf("encode list: %w", err)
	}
	codec.WriteParts(c.w, c.r, http.StatusOK, c.accepted, parts)
	return nil
}

// page reads what opts select, with the list's metadata.
func (c *call) page(opts *selection.Options) (*store.Page, metav1.ListMeta, error) {
	predicate, err := selection.NewPredicate(c.def, opts, "")
	if err != nil {
		return nil, metav1.ListMeta{}, err //nolint:wrapcheck // a Status
	}
	prefix := c.prefix()
	read, err := selection.ListRead(opts, prefix)
	if err != nil {
		return nil, metav1.ListMeta{}, err //nolint:wrapcheck // a Status
	}
	query := store.Query{
		Prefix: prefix, After: read.After, Limit: int(opts.Limit),
		Match: c.match(predicate), Consistency: read.Consistency,
	}
	page, err := c.store.List(c.ctx, query)
	if errors.Is(err, store.ErrExpired) && opts.Continue != "" {
		return nil, metav1.ListMeta{}, expired(prefix, read.After)
	}
	if err != nil {
		return nil, metav1.ListMeta{}, err //nolint:wrapcheck // mapped by statusError
	}
	meta := metav1.ListMeta{ResourceVersion: strconv.FormatInt(page.Revision, 10)}
	if page.More && len(page.Items) > 0 {
		next := page.Revision
		if opts.Continue != "" && read.Exactly == 0 {
			next = -1 // an inconsistent list stays one
		}
		last := page.Items[len(page.Items)-1].Key
		if meta.Continue, err = selection.EncodeContinue(prefix, last, next); err != nil {
			return nil, meta, err //nolint:wrapcheck // already says what
		}
		if remaining := page.Remaining; remaining >= 0 && predicate.Everything() {
			meta.RemainingItemCount = &remaining
		}
	}
	return page, meta, nil
}

// match is the predicate on stored objects; nil for everything.
func (k *Kind) match(p selection.Predicate) func(resource.Object) bool {
	switch {
	case p.Everything():
		return nil
	case k.def.Stored == nil:
		return p.Matches
	}
	return func(stored resource.Object) bool {
		obj, ok := k.def.Stored.From(stored).(resource.Object)
		return ok && p.Matches(obj)
	}
}

func expired(prefix, after string) error {
	token, err := selection.EncodeContinue(prefix, after, -1)
	if err != nil {
		return err //nolint:wrapcheck // already says what
	}
	out := apierrors.NewResourceExpired(expiredContinue)
	out.ErrStatus.ListMeta.Continue = token
	return out
}

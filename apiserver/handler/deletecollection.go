package handler

import (
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/selection"
)

// deleteWorkers is how many objects of a collection are deleted at a time.
const deleteWorkers = 4

// deleteCollection deletes what the selectors match and answers with the list
// of it.
func (c *call) deleteCollection() error {
	opts, err := c.deleteOptions()
	if err != nil {
		return err
	}
	listOpts, err := selection.ParseOptions(c.r.URL.Query())
	if err != nil {
		return err //nolint:wrapcheck // a Status
	}
	page, meta, err := c.page(listOpts)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(c.ctx)
	group.SetLimit(deleteWorkers)
	worker := *c
	worker.ctx = ctx
	for _, item := range page.Items {
		group.Go(func() error {
			_, _, err := worker.deleteObject(item.Object.GetNamespace(), item.Object.GetName(), opts)
			return ignoreNotFound(err)
		})
	}
	if err := group.Wait(); err != nil {
		return err //nolint:wrapcheck // a Status
	}
	parts, err := c.source.EncodeList(c.accepted, page.Items, meta, "")
	if err != nil {
		return err //nolint:wrapcheck // already says what
	}
	codec.WriteParts(c.w, c.r, http.StatusOK, c.accepted, parts)
	return nil
}

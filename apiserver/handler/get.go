package handler

import (
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skeg-dev/skeg/apiserver/selection"
	"github.com/skeg-dev/skeg/apiserver/store"
)

// get answers one object: no older than the call without a resourceVersion,
// no older than that with one.
func (c *call) get() error {
	item, err := c.read()
	if err != nil {
		return err
	}
	return c.respond(http.StatusOK, item)
}

func (c *call) read() (*store.Item, error) {
	var opts metav1.GetOptions
	if err := c.parameters(&opts); err != nil {
		return nil, err
	}
	at := store.Consistency{AtLeast: store.Latest}
	if opts.ResourceVersion != "" {
		revision, err := selection.ParseRevision(opts.ResourceVersion)
		if err != nil {
			return nil, err //nolint:wrapcheck // a Status
		}
		at.AtLeast = revision
	}
	return c.store.Get(c.ctx, c.key(), at) //nolint:wrapcheck // mapped by statusError
}

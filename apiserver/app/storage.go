package app

import (
	"log/slog"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/apiserver/store/memory"
	"github.com/skeg-dev/skeg/internal/component"
)

// storage is where objects are kept.
type storage struct {
	stores map[schema.GroupResource]store.Store
	parts  []component.Part
	checks []component.Check
}

func newStorage(o *Options, definitions []*resource.Definition, logger *slog.Logger) (*storage, error) {
	s := &storage{stores: map[schema.GroupResource]store.Store{}}
	rev := &memory.Revisions{}
	for _, d := range definitions {
		if d.NewList != nil && d.Stored == nil {
			s.stores[d.GroupVersionResource().GroupResource()] = memory.New(memory.Config{Revisions: rev})
		}
	}
	return s, nil
}

func newHooks(o *Options, s *storage, logger *slog.Logger) (map[string]handler.Hook, []component.Part, error) {
	return nil, nil, nil
}

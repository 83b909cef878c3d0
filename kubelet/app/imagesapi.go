package app

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/skeg-dev/skeg/kubelet/image"
)

// imagesAPI adds the node's images to the kubelet's API, for "ctl image":
//
//	GET  /images        [{"id", "names", "sizeBytes"}]
//	POST /images/load   an archive; {"names"}
//
// Both need nodes/proxy, as all paths without a resource of their own.
type imagesAPI struct {
	store  *image.Store
	next   http.Handler
	logger *slog.Logger
}

// listedImage is an image in the list.
type listedImage struct {
	ID        string   `json:"id"`
	Names     []string `json:"names"`
	SizeBytes int64    `json:"sizeBytes"`
}

// ServeHTTP answers the paths above and passes on all others.
func (a imagesAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/images":
		a.list(w, r)
	case "/images/load":
		a.load(w, r)
	default:
		a.next.ServeHTTP(w, r)
	}
}

func (a imagesAPI) list(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	images, err := a.store.List(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	out := []listedImage{}
	for _, i := range images {
		out = append(out, listedImage{ID: i.ID, Names: i.Names, SizeBytes: i.SizeBytes})
	}
	a.answer(w, out)
}

func (a imagesAPI) load(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		http.Error(w, "only POST", http.StatusMethodNotAllowed)
		return
	}
	images, err := a.store.Import(r.Context(), r.Body, r.URL.Query()["name"])
	switch {
	case errors.Is(err, image.ErrArchive), errors.Is(err, image.ErrInvalidReference), errors.Is(err, image.ErrUnpack),
		errors.Is(err, image.ErrDigestMismatch), errors.Is(err, image.ErrPlatform):
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	names := []string{}
	for _, i := range images {
		names = append(names, i.Names...)
		a.logger.Info("image loaded", "image", i.ID, "names", i.Names)
	}
	a.answer(w, map[string][]string{"names": names})
}

func (a imagesAPI) answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(body); err != nil {
		a.logger.Debug("answering", "error", err)
	}
}

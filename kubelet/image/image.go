// Package image is the node's image store: it pulls images from registries and
// imports archives, unpacks each layer once, mounts root directories from them
// with overlayfs, and collects what is not used. The kubelet's containers hook
// calls it; it calls its packages registry and unpack. This tree is its
// definition of what is on disk:
//
//	<root>/images/
//	  records/<config digest>.json  Record: an image, its layers and names
//	  layers/<diff id>/fs/          a layer, unpacked; complete if it is here
//	  layers/<diff id>/size         bytes of its files
//	  mounts/<key>/                 a container's root directory
//	    image                       the image's ID
//	    upper/ work/ rootfs/        overlayfs; rootfs is the mount point
//	  tmp/                          unfinished things, removed when the store opens
//
// What is complete is moved into its place by rename after it was synced, so a
// crash leaves nothing half done but in tmp. One process uses a store at a time.
// Starts goroutines only for the time of a pull, one for each layer.
package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skeg-dev/skeg/kubelet/image/registry"
	"github.com/skeg-dev/skeg/kubelet/image/unpack"
)

// Errors of a Store; test with errors.Is. Their texts are for users.
var (
	ErrInvalidReference = errors.New("invalid image reference")
	ErrNotFound         = errors.New("image not found")
	ErrUnauthorized     = errors.New("pull access denied")
	ErrDigestMismatch   = errors.New("digest mismatch")
	ErrUnpack           = errors.New("cannot unpack layer")
	ErrPlatform         = errors.New("no image for this platform")
	ErrInUse            = errors.New("image is in use")
)

// Credential is one way to log in to a registry. Empty fields are unused.
type Credential struct {
	Username, Password string
	IdentityToken      string
	RegistryToken      string
}

// Image is an image in the store.
type Image struct {
	// ID is "sha256:<config digest>"; Digest is "<repository>@sha256:<manifest
	// digest>" by which it was pulled last, "" if it was imported.
	ID, Digest string
	// Names are all tags and digests by which it is known.
	Names []string
	// SizeBytes is what was downloaded or imported.
	SizeBytes  int64
	Entrypoint []string
	Cmd        []string
	Env        []string
	WorkingDir string
	User       string
	StopSignal string
}

// Config of a Store.
type Config struct {
	Root string // the kubelet's directory; the store is in its images/. Required.
	// RegistryConfigDir holds <registry>/hosts.toml; "" is none.
	RegistryConfigDir string
	// ParallelLayers is how many layers are downloaded and unpacked at once in
	// all pulls together; 0 is 3, as containerd has it.
	ParallelLayers int
	// Limits of a layer; zero values are 64 GiB and 4 million entries.
	Limits unpack.Limits
}

// Store is the image store; it may be used concurrently.
type Store struct {
	root     string
	limits   unpack.Limits
	registry *registry.Client
	slots    chan struct{} // one for each layer in work

	mu       sync.Mutex
	records  map[string]*Record       // by ID; guarded by mu, as are the records
	flights  map[string]chan struct{} // layers in work, by diff ID; closed when done; guarded by mu
	pins     map[string]int           // layers of pulls under way, by diff ID; guarded by mu
	lastUsed map[string]time.Time     // by ID; guarded by mu
	mounting sync.Mutex               // one change of mounts at a time
}

// Record is an image on disk.
type Record struct {
	ID     string
	Config json.RawMessage
	Layers []Layer
	// Names and when each was given: a name found twice belongs to the later one.
	Names     map[string]time.Time
	Digest    string
	SizeBytes int64
	AddedAt   time.Time
}

// Layer is a layer of a Record, the lowest first.
type Layer struct {
	DiffID string // "sha256:..."
	Size   int64  // compressed
}

const (
	defaultParallelLayers = 3
	defaultLayerBytes     = 64 << 30
	defaultLayerEntries   = 4_000_000
)

// Open opens or makes the store and clears what a crash left unfinished.
func Open(cfg Config) (*Store, error) {
	if cfg.Root == "" {
		return nil, errors.New("image store: Root is required")
	}
	s := &Store{
		root: filepath.Join(cfg.Root, "images"), limits: cfg.Limits, registry: registry.New(cfg.RegistryConfigDir),
		records: map[string]*Record{}, flights: map[string]chan struct{}{}, pins: map[string]int{}, lastUsed: map[string]time.Time{},
	}
	if s.limits.Bytes == 0 {
		s.limits.Bytes = defaultLayerBytes
	}
	if s.limits.Entries == 0 {
		s.limits.Entries = defaultLayerEntries
	}
	parallel := cfg.ParallelLayers
	if parallel == 0 {
		parallel = defaultParallelLayers
	}
	s.slots = make(chan struct{}, parallel)
	if err := os.RemoveAll(s.path("tmp")); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	for _, dir := range []string{"records", "layers", "mounts", "tmp"} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	return s, nil
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.root}, parts...)...)
}

// Resolve finds an image by reference or ID; false when it is not here.
func (s *Store) Resolve(_ context.Context, ref string) (Image, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.records[ref]; r != nil {
		img, err := r.image()
		return img, err == nil, err
	}
	parsed, err := Parse(ref)
	if err != nil {
		return Image{}, false, err
	}
	for _, r := range s.records {
		if _, named := r.Names[canonical(parsed)]; named {
			img, err := r.image()
			return img, err == nil, err
		}
	}
	return Image{}, false, nil
}

// Exists reports whether a reference is in the store.
func (s *Store) Exists(ctx context.Context, ref string) bool {
	_, there, err := s.Resolve(ctx, ref)
	return there && err == nil
}

// List returns all images, by ID.
func (s *Store) List(context.Context) ([]Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []Image{}
	for _, id := range s.ids() {
		img, err := s.records[id].image()
		if err != nil {
			return nil, err
		}
		all = append(all, img)
	}
	return all, nil
}

// ids of all records, sorted. Called with mu held.
func (s *Store) ids() []string {
	ids := make([]string, 0, len(s.records))
	for id := range s.records {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// image is the record for others to see.
func (r *Record) image() (Image, error) {
	var file v1.ConfigFile
	if err := json.Unmarshal(r.Config, &file); err != nil {
		return Image{}, fmt.Errorf("read configuration of image %s: %w", r.ID, err)
	}
	names := make([]string, 0, len(r.Names))
	for n := range r.Names {
		names = append(names, n)
	}
	slices.Sort(names)
	c := file.Config
	return Image{
		ID: r.ID, Digest: r.Digest, Names: names, SizeBytes: r.SizeBytes,
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env,
		WorkingDir: c.WorkingDir, User: c.User, StopSignal: c.StopSignal,
	}, nil
}

// load reads the records. One that cannot be read, or whose layers are not all
// there, is dropped: the image can be pulled again.
func (s *Store) load() error {
	entries, err := os.ReadDir(s.path("records"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		r, err := s.read(e.Name())
		if err != nil {
			slog.Warn("dropping image record", "file", e.Name(), "error", err)
			if err := os.Remove(s.path("records", e.Name())); err != nil {
				return err
			}
			continue
		}
		s.records[r.ID] = r
	}
	for _, r := range s.records {
		for n, at := range r.Names {
			s.unname(n, at, r.ID)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sweep()
}

func (s *Store) read(file string) (*Record, error) {
	b, err := os.ReadFile(s.path("records", file))
	if err != nil {
		return nil, err
	}
	r := &Record{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, err
	}
	if r.ID != recordID(file) {
		return nil, fmt.Errorf("it is of image %q", r.ID)
	}
	for _, l := range r.Layers {
		if _, err := os.Stat(s.layer(l.DiffID)); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// unname takes a name away from all other images that have had it for longer.
// Called with mu held, or before anybody else has the store.
func (s *Store) unname(name string, since time.Time, owner string) (changed []*Record) {
	for id, r := range s.records {
		if at, has := r.Names[name]; has && id != owner && !at.After(since) {
			delete(r.Names, name)
			changed = append(changed, r)
		}
	}
	return changed
}

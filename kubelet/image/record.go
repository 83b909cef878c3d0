package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/sys/unix"
)

// Parse reads a reference as users write it: Docker's registry, its library and
// the tag "latest" may be left out. ErrInvalidReference.
func Parse(ref string) (name.Reference, error) {
	parsed, err := name.ParseReference(ref, name.WeakValidation)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidReference, err)
	}
	return parsed, nil
}

// canonical is a reference in full, with Docker's registry by its usual name.
func canonical(ref name.Reference) string {
	full := ref.Name()
	if rest, is := strings.CutPrefix(full, name.DefaultRegistry+"/"); is {
		return "docker.io/" + rest
	}
	return full
}

// repository is a reference's, likewise.
func repository(ref name.Reference) string {
	full := ref.Context().Name()
	if rest, is := strings.CutPrefix(full, name.DefaultRegistry+"/"); is {
		return "docker.io/" + rest
	}
	return full
}

func recordFile(id string) string { return strings.TrimPrefix(id, "sha256:") + ".json" }
func recordID(file string) string { return "sha256:" + strings.TrimSuffix(file, ".json") }

// layer is a layer's directory.
func (s *Store) layer(diffID string) string {
	return s.path("layers", strings.TrimPrefix(diffID, "sha256:"))
}

// add records an image, or further names of one. Its layers are in place.
func (s *Store) add(r Record, names []string) (Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	r.AddedAt, r.Names = now, map[string]time.Time{}
	if old := s.records[r.ID]; old != nil {
		r.AddedAt, r.Names = old.AddedAt, old.Names
		if r.Digest == "" {
			r.Digest = old.Digest
		}
	}
	for _, n := range names {
		r.Names[n] = now
	}
	// The new owner of a name is written first: after a crash between the two,
	// the later time decides.
	if err := s.write(&r); err != nil {
		return Image{}, err
	}
	s.records[r.ID] = &r
	s.lastUsed[r.ID] = now
	for _, n := range names {
		for _, other := range s.unname(n, now, r.ID) {
			if err := s.write(other); err != nil {
				return Image{}, err
			}
		}
	}
	return r.image()
}

func (s *Store) write(r *Record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("record image: %w", err)
	}
	if err := s.writeFile(s.path("records", recordFile(r.ID)), b); err != nil {
		return fmt.Errorf("record image %s: %w", r.ID, err)
	}
	return nil
}

// writeFile replaces a file; it is on the disk when this returns.
func (s *Store) writeFile(path string, content []byte) error {
	f, err := os.CreateTemp(s.path("tmp"), "file-")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// syncTree puts all that was written to a directory's file system on the disk.
func syncTree(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

// Remove takes a name away from its image, or, given an ID, all of them; an
// image without names goes, with the layers no other has. ErrInUse while a
// container's root directory is made of it. Removing what is gone is success.
func (s *Store) Remove(ref string) error {
	used, err := s.mounted()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, err := s.drop(ref)
	if err != nil || id == "" {
		return err
	}
	r := s.records[id]
	if len(r.Names) > 0 {
		return s.write(r)
	}
	if used[id] {
		return fmt.Errorf("remove image %q: %w", ref, ErrInUse)
	}
	return s.delete(id)
}

// drop finds the image and takes the name away. Called with mu held.
func (s *Store) drop(ref string) (id string, err error) {
	if r := s.records[ref]; r != nil {
		r.Names = map[string]time.Time{}
		return ref, nil
	}
	parsed, err := Parse(ref)
	if err != nil {
		return "", err
	}
	n := canonical(parsed)
	for id, r := range s.records {
		if _, has := r.Names[n]; has {
			delete(r.Names, n)
			return id, nil
		}
	}
	return "", nil
}

// delete removes an image and unused layers. Called with mu held.
func (s *Store) delete(id string) error {
	if err := os.Remove(s.path("records", recordFile(id))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	delete(s.records, id)
	delete(s.lastUsed, id)
	return s.sweep()
}

// sweep removes layers that no image has and no pull wants. Called with mu held.
func (s *Store) sweep() error {
	wanted := map[string]bool{}
	for _, r := range s.records {
		for _, l := range r.Layers {
			wanted[l.DiffID] = true
		}
	}
	for diffID := range s.pins {
		wanted[diffID] = true
	}
	entries, err := os.ReadDir(s.path("layers"))
	if err != nil {
		return fmt.Errorf("sweep layers: %w", err)
	}
	for _, e := range entries {
		if wanted["sha256:"+e.Name()] {
			continue
		}
		// Out of its place in one step: a layer that is there must be whole.
		trash := s.path("tmp", "layer-"+e.Name())
		if err := os.RemoveAll(trash); err != nil {
			return fmt.Errorf("sweep layers: %w", err)
		}
		if err := os.Rename(s.path("layers", e.Name()), trash); err != nil {
			return fmt.Errorf("sweep layers: %w", err)
		}
		if err := os.RemoveAll(trash); err != nil {
			return fmt.Errorf("sweep layers: %w", err)
		}
	}
	return nil
}

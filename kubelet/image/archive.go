package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skeg-dev/skeg/kubelet/image/registry"
	"github.com/skeg-dev/skeg/kubelet/image/unpack"
)

// ErrArchive marks a file that is not an image archive, or a broken one.
var ErrArchive = errors.New("bad image archive")

// Import adds the images of an archive: an OCI image layout or what "docker
// save" writes, as a tar that may be compressed. names are references to give
// an archive's only image besides those the archive has itself.
func (s *Store) Import(ctx context.Context, r io.Reader, names []string) ([]Image, error) {
	var given []string
	for _, n := range names {
		ref, err := Parse(n)
		if err != nil {
			return nil, err
		}
		given = append(given, canonical(ref))
	}
	dir, err := os.MkdirTemp(s.path("tmp"), "import-")
	if err != nil {
		return nil, fmt.Errorf("import image: %w", err)
	}
	imgs, err := s.importInto(ctx, dir, r, given)
	if rerr := os.RemoveAll(dir); rerr != nil {
		err = errors.Join(err, rerr)
	}
	if err != nil {
		return nil, fmt.Errorf("import image: %w", err)
	}
	return imgs, nil
}

func (s *Store) importInto(ctx context.Context, dir string, r io.Reader, names []string) ([]Image, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := s.extract(ctx, root, r); err != nil {
		return nil, err
	}
	a := archive{store: s, root: root}
	contents, err := a.contents()
	if err != nil {
		return nil, err
	}
	if len(names) > 0 && len(contents) != 1 {
		return nil, fmt.Errorf("%w: it holds %d images, and the names given can be of one only", ErrArchive, len(contents))
	}
	var imgs []Image
	for _, c := range contents {
		c.names = append(c.names, names...)
		img, err := s.install(ctx, c)
		if err != nil {
			return nil, err
		}
		imgs = append(imgs, img)
	}
	return imgs, nil
}

// extract writes the archive's files below root; links are kept, since older
// versions of docker save share layers by them, and lead nowhere else.
func (s *Store) extract(ctx context.Context, root *os.Root, r io.Reader) error {
	plain, err := unpack.Decompress(r)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	defer plain.Close()
	var bytes, entries int64
	t := tar.NewReader(plain)
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrArchive, err)
		}
		entries++
		bytes += h.Size
		if bytes > s.limits.Bytes || entries > s.limits.Entries {
			return fmt.Errorf("%w: it is larger than %d bytes or %d entries", ErrArchive, s.limits.Bytes, s.limits.Entries)
		}
		if err := extractEntry(root, h, t); err != nil {
			return fmt.Errorf("%w: entry %q: %w", ErrArchive, h.Name, err)
		}
	}
	if entries == 0 {
		return fmt.Errorf("%w: it is empty", ErrArchive)
	}
	return nil
}

func extractEntry(root *os.Root, h *tar.Header, content io.Reader) error {
	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	if name == "." {
		return nil
	}
	if h.Typeflag == tar.TypeDir {
		return root.MkdirAll(name, 0o700)
	}
	if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Close())
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return root.Link(path.Clean(strings.TrimLeft(h.Linkname, "/")), name)
	}
	return nil // nothing else means anything in an image archive
}

// archive is an extracted archive.
type archive struct {
	store *Store
	root  *os.Root
}

func (a archive) contents() ([]content, error) {
	index, err := a.read("index.json")
	if err == nil {
		return a.layout(index)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	manifest, err := a.read("manifest.json")
	if err == nil {
		return a.docker(manifest)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return nil, fmt.Errorf("%w: it has neither index.json (OCI) nor manifest.json (docker)", ErrArchive)
}

// read reads a document of the archive.
func (a archive) read(name string) ([]byte, error) {
	f, err := a.root.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(b) > maxConfig {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrArchive, name, maxConfig)
	}
	return b, nil
}

// docker is what manifest.json lists.
func (a archive) docker(raw []byte) ([]content, error) {
	var list []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("%w: manifest.json: %w", ErrArchive, err)
	}
	var all []content
	for _, m := range list {
		config, err := a.read(path.Clean(m.Config))
		if err != nil {
			return nil, fmt.Errorf("%w: image configuration: %w", ErrArchive, err)
		}
		c := content{config: config}
		for _, tag := range m.RepoTags {
			ref, err := Parse(tag)
			if err != nil {
				return nil, err
			}
			c.names = append(c.names, canonical(ref))
		}
		for _, l := range m.Layers {
			info, err := a.root.Stat(path.Clean(l))
			if err != nil {
				return nil, fmt.Errorf("%w: layer: %w", ErrArchive, err)
			}
			c.layers = append(c.layers, v1.Descriptor{Size: info.Size()})
		}
		c.open = func(_ context.Context, i int) (io.ReadCloser, error) { return a.root.Open(path.Clean(m.Layers[i])) }
		all = append(all, c)
	}
	return all, nil
}

// Annotations by which layouts name their images: the OCI one, which may be a
// mere tag, and containerd's, which is a full reference.
const (
	annotationRefName   = "org.opencontainers.image.ref.name"
	annotationImageName = "io.containerd.image.name"
)

// layout is what an OCI layout's index.json lists.
func (a archive) layout(raw []byte) ([]content, error) {
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("%w: index.json: %w", ErrArchive, err)
	}
	var all []content
	for _, d := range index.Manifests {
		if d.Platform != nil && d.Platform.OS == "unknown" {
			continue
		}
		top, err := a.blob(d)
		if err != nil {
			return nil, err
		}
		manifest, err := a.store.manifest(registry.Manifest{MediaType: string(d.MediaType), Raw: top},
			func(d v1.Descriptor) (registry.Manifest, error) {
				b, err := a.blob(d)
				return registry.Manifest{MediaType: string(d.MediaType), Raw: b}, err
			})
		if err != nil {
			return nil, err
		}
		config, err := a.blob(manifest.Config)
		if err != nil {
			return nil, err
		}
		c := content{config: config, layers: manifest.Layers, names: layoutNames(d)}
		c.open = func(_ context.Context, i int) (io.ReadCloser, error) {
			return a.root.Open(blobPath(manifest.Layers[i]))
		}
		all = append(all, c)
	}
	return all, nil
}

// layoutNames are the references a layout gives an image; a mere tag is none.
func layoutNames(d v1.Descriptor) []string {
	for _, key := range []string{annotationImageName, annotationRefName} {
		text := d.Annotations[key]
		if !strings.ContainsAny(text, "/:") {
			continue
		}
		ref, err := Parse(text)
		if err != nil {
			continue // free text is allowed there
		}
		return []string{canonical(ref), repository(ref) + "@" + d.Digest.String()}
	}
	return nil
}

func blobPath(d v1.Descriptor) string {
	return path.Join("blobs", path.Base(d.Digest.Algorithm), path.Base(d.Digest.Hex))
}

func (a archive) blob(d v1.Descriptor) ([]byte, error) {
	b, err := a.read(blobPath(d))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if got := sum(b); got != d.Digest.String() {
		return nil, fmt.Errorf("%w: blob %s has digest %s", ErrDigestMismatch, d.Digest, got)
	}
	return b, nil
}

package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/kubelet/image/registry"
	"github.com/skeg-dev/skeg/kubelet/image/unpack"
)

// content is an image that is about to be in the store.
type content struct {
	config []byte
	layers []v1.Descriptor // compressed; a zero digest is not verified (docker archives have none)
	open   func(ctx context.Context, i int) (io.ReadCloser, error)
	digest string   // "<repository>@<manifest digest>" or ""
	names  []string // canonical
}

// install unpacks the layers that are missing and records the image.
func (s *Store) install(ctx context.Context, c content) (Image, error) {
	var file v1.ConfigFile
	if err := json.Unmarshal(c.config, &file); err != nil {
		return Image{}, fmt.Errorf("read image configuration: %w", err)
	}
	if file.RootFS.Type != "layers" || len(file.RootFS.DiffIDs) != len(c.layers) {
		return Image{}, fmt.Errorf("%w: the configuration lists %d layers, the manifest %d", ErrUnpack, len(file.RootFS.DiffIDs), len(c.layers))
	}
	r := Record{ID: sum(c.config), Config: c.config, Digest: c.digest, SizeBytes: int64(len(c.config))}
	for i, d := range file.RootFS.DiffIDs {
		if d.Algorithm != "sha256" || len(d.Hex) != 2*sha256.Size {
			return Image{}, fmt.Errorf("%w: layer %d has identity %q", ErrUnpack, i, d)
		}
		r.Layers = append(r.Layers, Layer{DiffID: d.String(), Size: c.layers[i].Size})
		r.SizeBytes += c.layers[i].Size
	}
	defer s.pin(r.Layers)()
	group, ctx := errgroup.WithContext(ctx)
	for i, l := range r.Layers {
		group.Go(func() error {
			if err := s.ensureLayer(ctx, l.DiffID, c, i); err != nil {
				return fmt.Errorf("layer %d (%s): %w", i, l.DiffID, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Image{}, err
	}
	return s.add(r, c.names)
}

// pin keeps layers from being swept until the image that has them is recorded.
func (s *Store) pin(layers []Layer) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range layers {
		s.pins[l.DiffID]++
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, l := range layers {
			if s.pins[l.DiffID]--; s.pins[l.DiffID] == 0 {
				delete(s.pins, l.DiffID)
			}
		}
	}
}

// ensureLayer makes a layer be there: it is, or somebody is at it, or we are.
func (s *Store) ensureLayer(ctx context.Context, diffID string, c content, i int) error {
	for {
		if _, err := os.Stat(s.layer(diffID)); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.mu.Lock()
		other := s.flights[diffID]
		mine := make(chan struct{})
		if other == nil {
			s.flights[diffID] = mine
		}
		s.mu.Unlock()
		if other == nil {
			err := s.fetchPatiently(ctx, diffID, c, i)
			s.mu.Lock()
			delete(s.flights, diffID)
			s.mu.Unlock()
			close(mine)
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-other: // done, or failed for its own reasons; look again
		}
	}
}

// downloads is how often a layer's download may break off.
const downloads = 3

// fetchPatiently repeats a download that broke off; not one that is wrong.
func (s *Store) fetchPatiently(ctx context.Context, diffID string, c content, i int) error {
	for attempt := 1; ; attempt++ {
		err := s.fetchLayer(ctx, diffID, c, i)
		if err == nil || attempt == downloads || ctx.Err() != nil || final(err) {
			return err
		}
		slog.Warn("downloading layer again", "layer", diffID, "error", err)
	}
}

func final(err error) bool {
	for _, class := range []error{ErrDigestMismatch, ErrUnpack, registry.ErrNotFound, registry.ErrUnauthorized, fs.ErrNotExist, unix.ENOSPC} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// fetchLayer streams a layer into a temporary directory and, when both its
// digests are right and all is on the disk, into its place.
func (s *Store) fetchLayer(ctx context.Context, diffID string, c content, i int) error {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if _, err := os.Stat(s.layer(diffID)); err == nil {
		return nil // done between our look and our turn
	}
	tmp, err := os.MkdirTemp(s.path("tmp"), "layer-")
	if err != nil {
		return fmt.Errorf("create layer directory: %w", err)
	}
	err = s.unpackInto(ctx, tmp, diffID, c, i)
	if err == nil {
		err = os.Rename(tmp, s.layer(diffID))
	}
	if err == nil {
		return syncDir(s.path("layers"))
	}
	return errors.Join(err, os.RemoveAll(tmp))
}

func (s *Store) unpackInto(ctx context.Context, tmp, diffID string, c content, i int) error {
	body, err := c.open(ctx, i)
	if err != nil {
		return err
	}
	defer body.Close()
	d := c.layers[i]
	compressed := &verifier{r: body, left: d.Size, hash: sha256.New()}
	plain, err := unpack.Decompress(compressed)
	if err != nil {
		return classifyUnpack(err, compressed, d)
	}
	defer plain.Close()
	root := filepath.Join(tmp, "fs")
	if err := os.Mkdir(root, 0o755); err != nil {
		return fmt.Errorf("create layer directory: %w", err)
	}
	uncompressed := sha256.New()
	done, err := unpack.Tar(ctx, io.TeeReader(plain, uncompressed), root, s.limits)
	if err != nil {
		return classifyUnpack(err, compressed, d)
	}
	if err := compressed.finish(d); err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(uncompressed.Sum(nil)); got != diffID {
		return fmt.Errorf("%w: uncompressed layer has digest %s, the image configuration says %s", ErrDigestMismatch, got, diffID)
	}
	if err := os.WriteFile(filepath.Join(tmp, "size"), strconv.AppendInt(nil, done.Bytes, 10), 0o600); err != nil {
		return fmt.Errorf("record layer size: %w", err)
	}
	if err := syncTree(tmp); err != nil {
		return fmt.Errorf("sync layer: %w", err)
	}
	return nil
}

// classifyUnpack finds the reason behind a layer that cannot be unpacked: an
// entry that climbs out is named whatever else is wrong; then bytes that are
// not those the manifest promised; then a download that broke off.
func classifyUnpack(err error, compressed *verifier, d v1.Descriptor) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, unpack.ErrBad) && strings.Contains(err.Error(), "climbs out") {
		return fmt.Errorf("%w: %w", ErrUnpack, err)
	}
	rest := compressed.finish(d)
	switch {
	case errors.Is(rest, ErrDigestMismatch):
		return rest
	case rest != nil:
		return err // not the layer's fault
	}
	return fmt.Errorf("%w: %w", ErrUnpack, err)
}

// verifier hashes what passes and lets no more pass than was announced.
type verifier struct {
	r    io.Reader
	left int64
	hash hash.Hash
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.left <= 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > v.left {
		p = p[:v.left]
	}
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	v.left -= int64(n)
	if errors.Is(err, io.EOF) && v.left > 0 {
		return n, fmt.Errorf("the layer ends %d bytes early: %w", v.left, io.ErrUnexpectedEOF)
	}
	return n, err
}

// finish reads the rest and compares.
func (v *verifier) finish(d v1.Descriptor) error {
	if _, err := io.Copy(io.Discard, v); err != nil {
		return fmt.Errorf("read layer: %w", err)
	}
	if d.Digest.Hex == "" {
		return nil
	}
	if got := "sha256:" + hex.EncodeToString(v.hash.Sum(nil)); got != d.Digest.String() {
		return fmt.Errorf("%w: layer has digest %s, the manifest says %s", ErrDigestMismatch, got, d.Digest)
	}
	return nil
}

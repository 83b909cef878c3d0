package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/skeg-dev/skeg/kubelet/image/registry"
)

// maxConfig bounds an image's configuration.
const maxConfig = 8 << 20

// Pull fetches an image, trying the credentials in order, then none. Layers
// that are here already, or that another pull is fetching, are not fetched
// again. Errors: ErrInvalidReference, ErrNotFound, ErrUnauthorized,
// ErrDigestMismatch, ErrUnpack, ErrPlatform, and those of the network.
func (s *Store) Pull(ctx context.Context, ref string, auth []Credential) (Image, error) {
	parsed, err := Parse(ref)
	if err != nil {
		return Image{}, err
	}
	began := time.Now()
	img, err := s.pull(ctx, parsed, logins(auth))
	if err != nil {
		return Image{}, describe(canonical(parsed), err)
	}
	slog.Info("image pulled", "image", canonical(parsed), "id", img.ID, "took", time.Since(began))
	return img, nil
}

func logins(auth []Credential) []authn.AuthConfig {
	var list []authn.AuthConfig
	for _, c := range auth {
		list = append(list, authn.AuthConfig{Username: c.Username, Password: c.Password,
			IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken})
	}
	return list
}

// describe words an error for who reads a Pod's status.
func describe(ref string, err error) error {
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return fmt.Errorf("%w: %s: %w", ErrNotFound, ref, err)
	case errors.Is(err, registry.ErrUnauthorized):
		return fmt.Errorf("%w: %s: repository does not exist or may require authorization: %w", ErrUnauthorized, ref, err)
	}
	return fmt.Errorf("pull image %s: %w", ref, err)
}

func (s *Store) pull(ctx context.Context, ref name.Reference, auth []authn.AuthConfig) (Image, error) {
	src, m, err := s.registry.Resolve(ctx, ref, auth)
	if err != nil {
		return Image{}, err
	}
	digest := sum(m.Raw)
	if want, is := ref.(name.Digest); is && want.DigestStr() != digest {
		return Image{}, fmt.Errorf("%w: manifest has digest %s, asked for was %s", ErrDigestMismatch, digest, want.DigestStr())
	}
	names := []string{repository(ref) + "@" + digest}
	if _, is := ref.(name.Tag); is {
		names = append(names, canonical(ref))
	}
	manifest, err := s.manifest(m, func(d v1.Descriptor) (registry.Manifest, error) { return src.Manifest(ctx, d.Digest.String()) })
	if err != nil {
		return Image{}, err
	}
	config, err := fetchConfig(ctx, src, manifest.Config)
	if err != nil {
		return Image{}, err
	}
	open := func(ctx context.Context, i int) (io.ReadCloser, error) {
		return src.Blob(ctx, manifest.Layers[i].Digest.String(), manifest.Layers[i].Size)
	}
	return s.install(ctx, content{config: config, layers: manifest.Layers, open: open, digest: names[0], names: names})
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
}

// maxIndexDepth is how deep indexes may hold indexes.
const maxIndexDepth = 3

// manifest is the image's for this platform: the given one, or one of an index,
// which get fetches.
func (s *Store) manifest(m registry.Manifest, get func(v1.Descriptor) (registry.Manifest, error)) (*v1.Manifest, error) {
	for range maxIndexDepth {
		if !isIndex(m) {
			manifest, err := v1.ParseManifest(bytes.NewReader(m.Raw))
			if err != nil {
				return nil, fmt.Errorf("read manifest: %w", err)
			}
			if manifest.SchemaVersion != 2 {
				return nil, fmt.Errorf("read manifest: schema version %d is not supported", manifest.SchemaVersion)
			}
			return manifest, nil
		}
		index, err := v1.ParseIndexManifest(bytes.NewReader(m.Raw))
		if err != nil {
			return nil, fmt.Errorf("read index: %w", err)
		}
		d, err := choose(index.Manifests)
		if err != nil {
			return nil, err
		}
		if m, err = get(d); err != nil {
			return nil, err
		}
		if got := sum(m.Raw); got != d.Digest.String() {
			return nil, fmt.Errorf("%w: manifest has digest %s, the index says %s", ErrDigestMismatch, got, d.Digest)
		}
	}
	return nil, errors.New("read index: indexes within indexes")
}

// isIndex goes by what the document says of itself before what the server says.
func isIndex(m registry.Manifest) bool {
	var head struct {
		MediaType types.MediaType   `json:"mediaType"`
		Manifests []json.RawMessage `json:"manifests"`
	}
	if json.Unmarshal(m.Raw, &head) == nil {
		return head.MediaType.IsIndex() || head.MediaType == "" && head.Manifests != nil
	}
	return types.MediaType(m.MediaType).IsIndex()
}

// choose picks the manifest for this node: its system and architecture, and
// the plainest variant, which runs on every machine of it.
func choose(list []v1.Descriptor) (v1.Descriptor, error) {
	var have []string
	best, found := v1.Descriptor{}, false
	for _, d := range list {
		p := d.Platform
		if p == nil && len(list) == 1 {
			return d, nil
		}
		if p == nil || p.OS == "unknown" {
			continue // attestations and the like
		}
		have = append(have, p.String())
		if p.OS != runtime.GOOS || p.Architecture != runtime.GOARCH {
			continue
		}
		if !found || variantRank(p.Variant) < variantRank(best.Platform.Variant) {
			best, found = d, true
		}
	}
	if !found {
		return best, fmt.Errorf("%w: want %s/%s, there is %s", ErrPlatform, runtime.GOOS, runtime.GOARCH, strings.Join(have, ", "))
	}
	return best, nil
}

// variantRank orders variants: none, then v1 (amd64) or v8 (arm64) which mean
// the same, then the ones that need newer machines.
func variantRank(v string) string {
	if v == "" || v == "v1" || v == "v8" {
		return ""
	}
	return v
}

func fetchConfig(ctx context.Context, src *registry.Source, d v1.Descriptor) ([]byte, error) {
	if d.Size > maxConfig {
		return nil, fmt.Errorf("read image configuration: %d bytes, at most %d", d.Size, maxConfig)
	}
	body, err := src.Blob(ctx, d.Digest.String(), d.Size)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	raw, err := io.ReadAll(io.LimitReader(body, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("read image configuration: %w", err)
	}
	if got := sum(raw); got != d.Digest.String() {
		return nil, fmt.Errorf("%w: image configuration has digest %s, the manifest says %s", ErrDigestMismatch, got, d.Digest)
	}
	return raw, nil
}

// Package registry fetches manifests and blobs from OCI registries: TLS, plain
// HTTP on loopback and where a hosts.toml says so, mirrors, basic and bearer
// authentication. It verifies nothing but what the registry answers; digests
// are the caller's. Package image calls it; it is a client of
// google/go-containerregistry's transport. Starts no goroutines.
package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Errors of a registry; test with errors.Is.
var (
	ErrNotFound     = errors.New("not found")
	ErrUnauthorized = errors.New("access denied")
)

// Client fetches; it may be used concurrently.
type Client struct {
	dir string // of <registry>/hosts.toml; "" has no configuration

	mu         sync.Mutex
	transports map[string]http.RoundTripper // by TLS settings, so that connections are shared; guarded by mu
}

// New makes a Client. configDir may be "" or a directory whose
// <registry>/hosts.toml files are as those in containerd's certs.d.
func New(configDir string) *Client {
	return &Client{dir: configDir, transports: map[string]http.RoundTripper{}}
}

// Source is a repository at the host that answered for it.
type Source struct {
	repo      name.Repository
	host      host
	transport http.RoundTripper
}

// manifestTypes are all that an image or index of images can be.
const manifestTypes = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, " +
	"application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"

// MaxManifest bounds a manifest or index, as the distribution specification suggests.
const MaxManifest = 4 << 20

// Manifest is a manifest as the registry sent it.
type Manifest struct {
	MediaType string
	Raw       []byte
}

// Resolve gets the manifest of a reference (a tag or digest) from the first
// host that has it: the mirrors in their order, then the registry itself, which
// alone sees the credentials. The Source is where the rest is to be fetched.
func (c *Client) Resolve(ctx context.Context, ref name.Reference, auth []authn.AuthConfig) (*Source, Manifest, error) {
	hosts, err := c.hosts(ref.Context().Registry)
	if err != nil {
		return nil, Manifest{}, err
	}
	var errs []error
	for _, h := range hosts {
		logins := auth
		if h.mirror {
			logins = nil
		}
		src, m, err := c.resolveAt(ctx, h, ref, logins)
		if err == nil {
			return src, m, nil
		}
		if ctx.Err() != nil {
			return nil, Manifest{}, ctx.Err()
		}
		if h.mirror {
			slog.Debug("mirror has no image", "host", h.name, "image", ref.String(), "error", err)
		}
		errs = append(errs, err)
	}
	// The registry's own word counts; mirrors were only tried.
	return nil, Manifest{}, errs[len(errs)-1]
}

// resolveAt tries the logins in order, then none.
func (c *Client) resolveAt(ctx context.Context, h host, ref name.Reference, auth []authn.AuthConfig) (*Source, Manifest, error) {
	var denied error
	for i := 0; i <= len(auth); i++ {
		login := authn.Anonymous
		if i < len(auth) {
			login = authn.FromConfig(auth[i])
		}
		src, m, err := c.try(ctx, h, ref, login)
		if err == nil {
			return src, m, nil
		}
		if !errors.Is(err, ErrUnauthorized) {
			return nil, Manifest{}, err
		}
		if denied == nil || i < len(auth) {
			denied = err // what became of the logins given says more
		}
	}
	return nil, Manifest{}, denied
}

func (c *Client) try(ctx context.Context, h host, ref name.Reference, login authn.Authenticator) (*Source, Manifest, error) {
	base, err := c.transport(h)
	if err != nil {
		return nil, Manifest{}, err
	}
	repo, err := h.repository(ref.Context())
	if err != nil {
		return nil, Manifest{}, err
	}
	rt, err := transport.NewWithContext(ctx, repo.Registry, login, h.rewrite(base), []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, Manifest{}, classify(err)
	}
	src := &Source{repo: repo, host: h, transport: rt}
	m, err := src.Manifest(ctx, ref.Identifier())
	return src, m, err
}

// classify gives an error of the transport its sentinel.
func classify(err error) error {
	var terr *transport.Error
	if !errors.As(err, &terr) {
		return err
	}
	text := strings.TrimSpace(err.Error())
	switch terr.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: %s", ErrUnauthorized, text)
	case http.StatusNotFound:
		return fmt.Errorf("%w: %s", ErrNotFound, text)
	}
	return err
}

// Manifest gets a manifest by tag or digest.
func (s *Source) Manifest(ctx context.Context, identifier string) (Manifest, error) {
	resp, err := s.get(ctx, "manifests/"+identifier, manifestTypes)
	if err != nil {
		return Manifest{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, MaxManifest+1))
	if err != nil {
		return Manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	if len(raw) > MaxManifest {
		return Manifest{}, fmt.Errorf("read manifest: larger than %d bytes", MaxManifest)
	}
	return Manifest{MediaType: resp.Header.Get("Content-Type"), Raw: raw}, nil
}

// Blob opens a blob; size is what the manifest says of it.
func (s *Source) Blob(ctx context.Context, digest string, size int64) (io.ReadCloser, error) {
	resp, err := s.get(ctx, "blobs/"+digest, "")
	if err != nil {
		return nil, err
	}
	if n := resp.Header.Get("Content-Length"); n != "" {
		if have, err := strconv.ParseInt(n, 10, 64); err == nil && have != size {
			return nil, errors.Join(fmt.Errorf("get blob %s: the registry has %d bytes, the manifest says %d", digest, have, size), resp.Body.Close())
		}
	}
	return resp.Body, nil
}

// Attempts at a request that failed for a passing reason, and the first wait.
const (
	attempts  = 4
	firstWait = 250 * time.Millisecond
)

func (s *Source) get(ctx context.Context, what, accept string) (*http.Response, error) {
	wait := firstWait
	for attempt := 1; ; attempt++ {
		resp, passing, err := s.getOnce(ctx, what, accept)
		if err == nil || !passing || attempt == attempts || ctx.Err() != nil {
			return resp, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
		wait *= 2
	}
}

func (s *Source) getOnce(ctx context.Context, what, accept string) (resp *http.Response, passing bool, err error) {
	url := fmt.Sprintf("%s://%s/v2/%s/%s", s.host.scheme, s.repo.RegistryStr(), s.repo.RepositoryStr(), what)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, false, fmt.Errorf("get %s: %w", what, err)
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	client := http.Client{Transport: s.transport}
	resp, err = client.Do(req)
	if err != nil {
		return nil, true, classify(err)
	}
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		passing := resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests
		return nil, passing, errors.Join(classify(err), resp.Body.Close())
	}
	return resp, false, nil
}

// Package registry is an image registry on loopback, in memory, for tests: with
// a password if one is set, and with a hook to misbehave. hack/e2e and the
// images command start it. Goroutines: the HTTP server's, until Close.
package registry

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Config of a Server; the zero value is a free port on 127.0.0.1 for everybody.
type Config struct {
	Listen         string
	User, Password string
}

// Server is a running registry.
type Server struct {
	cfg      Config
	listener net.Listener
	http     *http.Server

	mu    sync.Mutex
	spoil func(http.ResponseWriter, *http.Request) bool // guarded by mu
}

// Start listens and serves.
func Start(cfg Config) (*Server, error) {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("start registry: %w", err)
	}
	s := &Server{cfg: cfg, listener: l}
	store := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s.http = &http.Server{Handler: s.guard(store), ReadHeaderTimeout: 30 * time.Second}
	go func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Printf("registry: %v", err)
		}
	}()
	return s, nil
}

// Addr is where it listens: the host of its images' references.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close ends it.
func (s *Server) Close() error { return s.http.Close() }

// Spoil sets what sees each authorized request first and may answer it itself
// (true); nil takes it away.
func (s *Server) Spoil(f func(http.ResponseWriter, *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoil = f
}

func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if s.cfg.Password != "" && !(same(user, s.cfg.User) && same(password, s.cfg.Password)) {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintln(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
		s.mu.Lock()
		spoil := s.spoil
		s.mu.Unlock()
		if spoil != nil && spoil(w, r) {
			return
		}
		next.ServeHTTP(w, r)
	})
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// Push adds an image under a repository and tag ("skeg/web:1") and returns its
// full reference.
func (s *Server) Push(ctx context.Context, ref string, img v1.Image) (string, error) {
	parsed, err := name.ParseReference(s.Addr() + "/" + ref)
	if err != nil {
		return "", fmt.Errorf("push image: %w", err)
	}
	auth := &authn.Basic{Username: s.cfg.User, Password: s.cfg.Password}
	if err := remote.Write(parsed, img, remote.WithContext(ctx), remote.WithAuth(auth)); err != nil {
		return "", fmt.Errorf("push image %s: %w", parsed, err)
	}
	return parsed.Name(), nil
}

// Load pushes the images of a docker archive under the repositories and tags
// it has for them, and returns their full references.
func (s *Server) Load(ctx context.Context, archive string) ([]string, error) {
	manifest, err := tarball.LoadManifest(opener(archive))
	if err != nil {
		return nil, fmt.Errorf("read archive %s: %w", archive, err)
	}
	var refs []string
	for _, d := range manifest {
		for _, text := range d.RepoTags {
			tag, err := name.NewTag(text)
			if err != nil {
				return nil, fmt.Errorf("read archive %s: %w", archive, err)
			}
			img, err := tarball.ImageFromPath(archive, &tag)
			if err != nil {
				return nil, fmt.Errorf("read archive %s: %w", archive, err)
			}
			ref, err := s.Push(ctx, tag.RepositoryStr()+":"+tag.TagStr(), img)
			if err != nil {
				return nil, err
			}
			refs = append(refs, ref)
		}
	}
	return refs, nil
}

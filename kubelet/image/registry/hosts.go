package registry

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
)

// host is a server that may have a registry's images.
type host struct {
	name       string // host:port
	scheme     string
	prefix     string // before /v2 or, with override_path, instead of it
	override   bool
	mirror     bool
	skipVerify bool
	caFiles    []string
}

// hosts are the servers to ask, in order; the registry itself is the last.
func (c *Client) hosts(reg name.Registry) ([]host, error) {
	own := host{name: reg.RegistryStr(), scheme: "https"}
	if loopback(own.name) {
		own.scheme = "http"
	}
	if c.dir == "" {
		return []host{own}, nil
	}
	for _, dir := range []string{reg.RegistryStr(), alias(reg.RegistryStr()), "_default"} {
		if dir == "" || strings.ContainsAny(dir, "/\\") {
			continue
		}
		path := filepath.Join(c.dir, dir)
		b, err := os.ReadFile(filepath.Join(path, "hosts.toml"))
		if errors.Is(err, fs.ErrNotExist) {
			if ca := filepath.Join(path, "ca.crt"); exists(ca) {
				own.caFiles = []string{ca}
				return []host{own}, nil
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read registry configuration: %w", err)
		}
		hosts, err := parseHosts(string(b), path, own)
		if err != nil {
			return nil, fmt.Errorf("read registry configuration %s: %w", filepath.Join(path, "hosts.toml"), err)
		}
		return hosts, nil
	}
	return []host{own}, nil
}

// alias is the name users know Docker's registry by.
func alias(registry string) string {
	if registry == name.DefaultRegistry {
		return "docker.io"
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// loopback hosts speak plain HTTP, as in every container runtime.
func loopback(hostport string) bool {
	h, _, err := net.SplitHostPort(hostport)
	if err != nil {
		h = hostport
	}
	if h == "localhost" {
		return true
	}
	ip := net.ParseIP(strings.Trim(h, "[]"))
	return ip != nil && ip.IsLoopback()
}

// parseHosts reads a hosts.toml (containerd docs/hosts.md).
func parseHosts(text, dir string, own host) ([]host, error) {
	tables, err := parseTOML(text)
	if err != nil {
		return nil, err
	}
	var list []host
	for _, t := range tables {
		if t.name == "" {
			if server := t.strings["server"]; server != "" {
				if own, err = parseHost(server); err != nil {
					return nil, err
				}
			}
			apply(&own, t, dir)
			continue
		}
		h, err := parseHost(t.name)
		if err != nil {
			return nil, err
		}
		if caps, set := t.lists["capabilities"]; set && !contains(caps, "pull") {
			continue
		}
		apply(&h, t, dir)
		h.mirror = h.name != own.name
		list = append(list, h)
	}
	return append(list, own), nil
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

func apply(h *host, t table, dir string) {
	h.skipVerify = t.bools["skip_verify"]
	h.override = t.bools["override_path"]
	files := t.lists["ca"]
	if one := t.strings["ca"]; one != "" {
		files = append(files, one)
	}
	for _, f := range files {
		if !filepath.IsAbs(f) {
			f = filepath.Join(dir, f)
		}
		h.caFiles = append(h.caFiles, f)
	}
}

func parseHost(s string) (host, error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return host{}, fmt.Errorf("parse host %q: %w", s, err)
	}
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return host{}, fmt.Errorf("parse host %q: want http[s]://host[:port]", s)
	}
	return host{name: u.Host, scheme: u.Scheme, prefix: strings.TrimSuffix(u.Path, "/")}, nil
}

// repository is a repository as this host knows it.
func (h host) repository(repo name.Repository) (name.Repository, error) {
	opts := []name.Option{}
	if h.scheme == "http" {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(h.name, opts...)
	if err != nil {
		return repo, fmt.Errorf("registry host %q: %w", h.name, err)
	}
	return reg.Repo(repo.RepositoryStr()), nil
}

// rewrite puts the host's path and scheme into requests for it.
func (h host) rewrite(inner http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.URL.Host != h.name {
			return inner.RoundTrip(req)
		}
		if h.scheme == "https" && req.URL.Scheme != "https" {
			return nil, fmt.Errorf("registry %s: refused to fall back to plain HTTP", h.name)
		}
		if h.prefix == "" {
			return inner.RoundTrip(req)
		}
		moved := req.Clone(req.Context())
		moved.URL.Path = h.prefix + req.URL.Path
		if h.override {
			moved.URL.Path = h.prefix + strings.TrimPrefix(req.URL.Path, "/v2")
		}
		return inner.RoundTrip(moved)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// Times after which a registry that says nothing is given up; a download that
// makes progress may take as long as it takes.
const (
	connectTime  = 15 * time.Second
	responseTime = 60 * time.Second
)

// transport is shared by hosts of equal TLS settings.
func (c *Client) transport(h host) (http.RoundTripper, error) {
	pool, sum, err := authorities(h.caFiles)
	if err != nil {
		return nil, err
	}
	key := fmt.Sprintf("%t %s", h.skipVerify, sum)
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.transports[key]; t != nil {
		return t, nil
	}
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: connectTime, KeepAlive: connectTime}).DialContext,
		TLSHandshakeTimeout:   connectTime,
		ResponseHeaderTimeout: responseTime,
		IdleConnTimeout:       responseTime,
		MaxIdleConnsPerHost:   8,
		ForceAttemptHTTP2:     true,
		// A blob's bytes must be those its digest is of.
		DisableCompression: true,
		TLSClientConfig:    &tls.Config{RootCAs: pool, InsecureSkipVerify: h.skipVerify, MinVersion: tls.VersionTLS12}, //nolint:gosec // the operator's hosts.toml says so
	}
	c.transports[key] = t
	return t, nil
}

// authorities are the system's and the files' together; nil is the system's alone.
func authorities(files []string) (*x509.CertPool, string, error) {
	if len(files) == 0 {
		return nil, "", nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a node without any trusts the files alone
	}
	sum := sha256.New()
	for _, f := range files {
		pem, err := os.ReadFile(f)
		if err != nil {
			return nil, "", fmt.Errorf("read certificate authority: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, "", fmt.Errorf("read certificate authority %s: no certificate in it", f)
		}
		sum.Write(pem)
	}
	return pool, hex.EncodeToString(sum.Sum(nil)), nil
}

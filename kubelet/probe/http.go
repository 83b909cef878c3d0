package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// maxBody is how much of an answer is read (upstream's limit).
const maxBody = 10 << 10

// maxRedirects is the limit of net/http and upstream.
const maxRedirects = 10

// userAgent tells servers who asks; some answer probes without logging them.
const userAgent = "kube-probe/1.37"

// errElsewhere stops at a redirect to another host, which is not probed: the
// container answered, and that is all that was asked.
var errElsewhere = errors.New("redirect to another host")

// httpProber asks for a page; 200 to 399 is a success.
type httpProber struct {
	client *http.Client
}

func newHTTPProber() *httpProber {
	return &httpProber{client: &http.Client{
		Transport: &http.Transport{
			// The certificate is the user's business (API reference,
			// HTTPGetAction.scheme).
			TLSClientConfig:    &tls.Config{InsecureSkipVerify: true},
			DisableKeepAlives:  true,
			DisableCompression: true,
			Proxy:              nil,
		},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if next.URL.Hostname() != via[0].URL.Hostname() {
				return errElsewhere
			}
			if len(via) >= maxRedirects {
				return fmt.Errorf("stopped after %d redirects", maxRedirects)
			}
			return nil
		},
	}}
}

func (*httpProber) Match(h *corev1.ProbeHandler) bool { return h.HTTPGet != nil }

func (p *httpProber) Probe(ctx context.Context, target Target, h *corev1.ProbeHandler) (Result, error) {
	request, err := newRequest(ctx, target, h.HTTPGet)
	if err != nil {
		return Result{}, err
	}
	response, err := p.client.Do(request)
	if errors.Is(err, errElsewhere) {
		return Result{Warning, "Probe terminated redirects: " + err.Error()}, nil
	}
	if err != nil {
		return Result{Failure, err.Error()}, nil
	}
	defer func() { _ = response.Body.Close() }() // read as far as wanted
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return Result{Failure, err.Error()}, nil
	}
	if response.StatusCode >= http.StatusOK && response.StatusCode < http.StatusBadRequest {
		return Result{Success, string(body)}, nil
	}
	return Result{Failure, fmt.Sprintf("HTTP probe failed with statuscode: %d", response.StatusCode)}, nil
}

func newRequest(ctx context.Context, target Target, action *corev1.HTTPGetAction) (*http.Request, error) {
	port, err := portNumber(target.Container, action.Port)
	if err != nil {
		return nil, err
	}
	host := action.Host
	if host == "" {
		host = target.IP
	}
	// The path may have a query.
	address, err := url.Parse(action.Path)
	if err != nil {
		address = &url.URL{Path: action.Path}
	}
	address.Scheme = "http"
	if action.Scheme == corev1.URISchemeHTTPS {
		address.Scheme = "https"
	}
	address.Host = net.JoinHostPort(host, port)
	if !strings.HasPrefix(address.Path, "/") {
		address.Path = "/" + address.Path
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("build request: %w", err)
	}
	request.Header.Set("User-Agent", userAgent)
	request.Header.Set("Accept", "*/*")
	seen := map[string]bool{}
	for _, header := range action.HTTPHeaders {
		name := http.CanonicalHeaderKey(header.Name)
		switch {
		case name == "Host":
			request.Host = header.Value
		case header.Value == "" && (name == "Accept" || name == "User-Agent"):
			request.Header[name] = nil // not sent at all
		case seen[name]:
			request.Header.Add(name, header.Value)
		default:
			request.Header.Set(name, header.Value)
		}
		seen[name] = true
	}
	return request, nil
}

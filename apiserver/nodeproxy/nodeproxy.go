// Package nodeproxy reaches kubelets, Pods and Services on behalf of clients:
// logs, exec, attach, port-forward and the proxy subresources. Requests that
// switch protocols (SPDY, WebSocket) are passed through byte by byte. It is
// called by the handlers as Connectors; a proxied request runs on its own
// goroutine and one more per direction after a protocol switch.
package nodeproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// dialTimeout bounds connecting to a node or Pod; a node that is gone must
// not hold a client for minutes.
const dialTimeout = 30 * time.Second

// defaultKubeletPort is where kubelets serve that do not say (CONVENTIONS, ports).
const defaultKubeletPort = 10250

// Reader finds the objects that say where to go. Missing ones are an API
// NotFound error.
type Reader interface {
	Get(ctx context.Context, res schema.GroupResource, namespace, name string) (resource.Object, error)
	List(ctx context.Context, res schema.GroupResource, namespace string) ([]resource.Object, error)
}

// Config is what a Proxy needs.
type Config struct {
	// Reader is required.
	Reader Reader
	// KubeletTLS presents the API server's client certificate and verifies
	// kubelets; required.
	KubeletTLS *tls.Config
	// AddressTypes is the order in which node addresses are tried; nil means
	// InternalIP, ExternalIP, Hostname.
	AddressTypes []corev1.NodeAddressType
	// Dial connects to Pods and nodes; nil means the host's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Logger is required.
	Logger *slog.Logger
}

// Proxy is the set of Connectors. It is safe for concurrent use.
type Proxy struct {
	reader    Reader
	addresses []corev1.NodeAddressType
	kubelets  http.RoundTripper
	pods      http.RoundTripper
	logger    *slog.Logger
}

// New returns a Proxy.
func New(c Config) *Proxy {
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	addresses := c.AddressTypes
	if addresses == nil {
		addresses = []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeHostName}
	}
	// Protocol switches need HTTP/1.1, so HTTP/2 is not offered.
	transport := func(config *tls.Config) *http.Transport {
		return &http.Transport{
			DialContext: dial, TLSClientConfig: config, TLSHandshakeTimeout: dialTimeout,
			MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second, DisableCompression: true,
		}
	}
	return &Proxy{
		reader: c.Reader, addresses: addresses, logger: c.Logger,
		kubelets: transport(c.KubeletTLS),
		// What a Pod serves is its own affair: its certificate is not checked,
		// as the API reference says of proxy with scheme https.
		pods: transport(&tls.Config{InsecureSkipVerify: true}), //nolint:gosec // as above
	}
}

// Connectors returns the connectors by their registry keys.
func (p *Proxy) Connectors() map[string]handler.Connector {
	return map[string]handler.Connector{
		"pods/log":         connector(p.podLog),
		"pods/exec":        connector(p.podExec),
		"pods/attach":      connector(p.podAttach),
		"pods/portforward": connector(p.podPortForward),
		"pods/proxy":       connector(p.podProxy),
		"services/proxy":   connector(p.serviceProxy),
		"nodes/proxy":      connector(p.nodeProxy),
	}
}

type connector func(w http.ResponseWriter, r *http.Request, req handler.ConnectRequest) error

// Connect implements handler.Connector.
func (c connector) Connect(w http.ResponseWriter, r *http.Request, req handler.ConnectRequest) error {
	return c(w, r, req)
}

// kubelet returns the base URL of a node's kubelet.
func (p *Proxy) kubelet(ctx context.Context, nodeName string) (*url.URL, error) {
	obj, err := p.reader.Get(ctx, schema.GroupResource{Resource: "nodes"}, "", nodeName)
	if err != nil {
		return nil, err //nolint:wrapcheck // a Status
	}
	node, ok := obj.(*corev1.Node)
	if !ok {
		return nil, fmt.Errorf("read node %q: got a %T", nodeName, obj)
	}
	address, err := p.address(node)
	if err != nil {
		return nil, err
	}
	port := int(node.Status.DaemonEndpoints.KubeletEndpoint.Port)
	if port == 0 {
		port = defaultKubeletPort
	}
	return &url.URL{Scheme: "https", Host: net.JoinHostPort(address, strconv.Itoa(port))}, nil
}

func (p *Proxy) address(node *corev1.Node) (string, error) {
	for _, want := range p.addresses {
		for _, a := range node.Status.Addresses {
			if a.Type == want && a.Address != "" {
				return a.Address, nil
			}
		}
	}
	return "", fmt.Errorf("no preferred addresses found; known addresses: %v", node.Status.Addresses)
}

// forward sends the request to target and copies the answer back.
// check may turn an answer into an error; nil accepts all.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, transport http.RoundTripper, target *url.URL, check func(*http.Response) error) {
	proxy := &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1, // logs and watches are read as they are written
		Rewrite: func(out *httputil.ProxyRequest) {
			out.Out.URL = target
			out.Out.Host = target.Host
			out.SetXForwarded()
		},
		ModifyResponse: check,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			var api apierrors.APIStatus
			if !errors.As(err, &api) {
				p.logger.Debug("proxied request failed", "target", target.Redacted(), "err", err)
				err = apierrors.NewInternalError(fmt.Errorf("error dialing backend: %w", err))
			}
			codec.WriteError(w, r, err)
		},
	}
	proxy.ServeHTTP(w, r)
}

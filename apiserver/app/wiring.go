// Package app builds the API server from its parts and runs them: etcd,
// stores and caches, authentication and authorization, admission, handlers,
// routes, filters, the listener, and what keeps the first objects. It is the
// only importer of everything. Goroutines are those of the parts it runs, and a
// short one that reads the merge schema while etcd starts.
package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/managedfields"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	netutils "k8s.io/utils/net"

	"github.com/skeg-dev/skeg/apiserver/api"
	"github.com/skeg-dev/skeg/apiserver/bootstrap"
	"github.com/skeg-dev/skeg/apiserver/codec"
	"github.com/skeg-dev/skeg/apiserver/etcdserver"
	"github.com/skeg-dev/skeg/apiserver/openapi"
	"github.com/skeg-dev/skeg/internal/component"
	"github.com/skeg-dev/skeg/internal/pki"
)

// Server is an API server, built and not yet running. It consists of etcd (or
// the connection to one) and, built once that is ready, of all the rest.
type Server struct {
	options  *Options
	where    place
	group    *component.Group
	health   *component.Health
	loopback *loopback
	files    *bootstrap.Files
	// merging knows how fields are merged; reading that takes a while, so it
	// begins while etcd starts.
	merging func() managedfields.TypeConverter
	logger  *slog.Logger
}

// place is where the server is reached.
type place struct {
	advertised net.IP
	port       int
	serviceIPs []net.IP
	// serviceCIDRs in canonical form.
	serviceCIDRs []string
}

// address is "host:port".
func (p place) address() string { return net.JoinHostPort(p.advertised.String(), strconv.Itoa(p.port)) }

// New prepares a server. It makes what is missing on disk (certificates, keys,
// kubeconfigs) and opens nothing else.
func New(o *Options, logger *slog.Logger) (*Server, error) {
	where, err := o.place()
	if err != nil {
		return nil, err
	}
	s := &Server{options: o, where: where, health: component.NewHealth(), loopback: newLoopback(), logger: logger}
	s.merging = sync.OnceValue(func() managedfields.TypeConverter { return applyconfigurations.NewTypeConverter(codec.Scheme) })
	go s.merging() // ends by itself; build waits for it
	s.files, err = bootstrap.Ensure(bootstrap.Config{
		CertDir: o.PKIDir, KubeconfigDir: o.KubeconfigDir, Server: "https://" + where.address(),
		AdvertiseAddress: where.advertised, ServiceIPs: where.serviceIPs, ClusterDomain: o.ClusterDomain,
		ExtraSANs: o.ExternalHostnames, Logger: logger,
	})
	if err != nil {
		return nil, fmt.Errorf("prepare certificates: %w", err)
	}
	database := newDatabase(o, logger)
	s.group = &component.Group{Logger: logger, Parts: []component.Part{
		{Name: "etcd", Runnable: database},
		{Name: "server", Runnable: &late{build: func() (*component.Group, error) { return s.build(database.Client()) }}},
	}}
	return s, nil
}

// build makes everything that needs etcd, in start order.
func (s *Server) build(client *etcdserver.Client) (*component.Group, error) {
	o, logger, definitions := s.options, s.logger, api.Registry()
	kept, err := newStorage(o, client, definitions, logger)
	if err != nil {
		return nil, err
	}
	s.health.Add(kept.checks...)
	r := newReader(definitions, kept.stores)
	secrets, err := o.keys(s.files)
	if err != nil {
		return nil, err
	}
	secrets.loopback = s.loopback.token
	who, err := newAuthentication(o, secrets, r)
	if err != nil {
		return nil, err
	}
	may := newAuthorization(o, kept.stores, r)
	kubelets, kubeletParts, err := o.kubeletTLS(s.files, logger)
	if err != nil {
		return nil, err
	}
	hooks, hookParts, err := newHooks(o, kept, logger)
	if err != nil {
		return nil, err
	}
	stop := make(chan struct{})
	handler, err := (&assembly{
		options: o, definitions: definitions, stores: kept.stores, reader: r, authn: who, authz: may, hooks: hooks,
		kubelets: kubelets, address: s.where.address(), health: s.health, stop: stop, logger: logger, merging: s.merging(),
		openapi: openapi.New(openapi.Config{Definitions: definitions, Version: component.Version, Tag: documentsTag()}),
	}).build()
	if err != nil {
		return nil, err
	}
	serving, err := s.serving(handler, stop, secrets.clientCA)
	if err != nil {
		return nil, err
	}
	first, err := s.firstObjects()
	if err != nil {
		return nil, err
	}
	return &component.Group{Logger: logger, Parts: slices.Concat(
		kept.parts, hookParts, s.certificateParts(), kubeletParts, may.parts, serving, first,
	)}, nil
}

// place finds out under which address and port the cluster reaches the server.
func (o *Options) place() (place, error) {
	p := place{port: o.Serving.Port, advertised: net.ParseIP(o.AdvertiseAddress)}
	if o.Listener != nil {
		if addr, ok := o.Listener.Addr().(*net.TCPAddr); ok {
			p.port = addr.Port
		}
	}
	if p.advertised == nil {
		p.advertised = net.ParseIP(o.Serving.BindAddress)
	}
	if p.advertised == nil || p.advertised.IsUnspecified() {
		host, err := utilnet.ChooseHostInterface()
		if err != nil {
			host = net.IPv4(127, 0, 0, 1) // a host without a default route talks to itself
		}
		p.advertised = host
	}
	ranges, err := o.serviceRanges()
	if err != nil {
		return p, err
	}
	for _, cidr := range ranges {
		first, err := netutils.GetIndexedIP(cidr, 1)
		if err != nil {
			return p, fmt.Errorf("--service-cluster-ip-range: %w", err)
		}
		p.serviceIPs = append(p.serviceIPs, first)
		p.serviceCIDRs = append(p.serviceCIDRs, cidr.String())
	}
	return p, nil
}

// kubeletTLS is how kubelets are reached.
func (o *Options) kubeletTLS(files *bootstrap.Files, logger *slog.Logger) (*tls.Config, []component.Part, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: files.CA.Pool(), GetClientCertificate: files.KubeletClient.GetClientCertificate}
	if o.KubeletCertificateAuthority != "" {
		pool, err := pki.LoadPool(o.KubeletCertificateAuthority)
		if err != nil {
			return nil, nil, fmt.Errorf("--kubelet-certificate-authority: %w", err)
		}
		config.RootCAs = pool
	}
	if o.KubeletClientCertificate == "" {
		return config, nil, nil
	}
	source, err := pki.FileSource(o.KubeletClientCertificate, o.KubeletClientKey, logger)
	if err != nil {
		return nil, nil, fmt.Errorf("--kubelet-client-certificate: %w", err)
	}
	config.GetClientCertificate = source.GetClientCertificate
	return config, []component.Part{{Name: "kubelet-client-certificate", Runnable: source}}, nil
}

// certificateParts renew what bootstrap made.
func (s *Server) certificateParts() []component.Part {
	return []component.Part{
		{Name: "kubeconfigs", Runnable: s.files},
		{Name: "serving-certificate", Runnable: s.files.Serving},
		{Name: "kubelet-certificate", Runnable: s.files.KubeletClient},
		{Name: "front-proxy-certificate", Runnable: s.files.FrontProxyClient},
	}
}

// serving is the listener, the loopback, and what ends watches before them.
func (s *Server) serving(h http.Handler, stop chan struct{}, clientCA func() *x509.CertPool) ([]component.Part, error) {
	o, logger := s.options, s.logger
	options := o.Serving
	if options.CertFile == "" {
		options.CertFile, options.KeyFile = o.pki("", "apiserver.crt"), o.pki("", "apiserver.key")
	}
	config, source, err := options.TLS(nil, logger)
	if err != nil {
		return nil, fmt.Errorf("prepare TLS: %w", err)
	}
	// Certificates are asked for and checked by authentication, which then
	// answers with a Status instead of a broken handshake.
	config.ClientAuth = tls.RequestClientCert
	config.ClientCAs = clientCA()
	listener := component.NewServer(component.ServerConfig{
		Name: "apiserver", Address: options.BindAddress, Port: options.Port, Listener: o.Listener,
		TLS: config, Handler: h, Logger: logger,
	})
	return []component.Part{
		{Name: "tls-files", Runnable: source},
		{Name: "loopback", Runnable: s.loopback.serve(h, logger)},
		{Name: "listener", Runnable: listener},
		{Name: "draining", Runnable: draining{health: s.health, stop: stop, delay: o.ShutdownDelay}},
	}, nil
}

// firstObjects make what an empty cluster needs, through the API.
func (s *Server) firstObjects() ([]component.Part, error) {
	where, logger := s.where, s.logger
	client, err := kubernetes.NewForConfig(s.loopback.config())
	if err != nil {
		return nil, fmt.Errorf("make loopback client: %w", err)
	}
	objects := &bootstrap.Objects{Client: client, Files: s.files, Logger: logger}
	s.health.Add(component.Check{
		Name: "poststarthook/bootstrap-objects", Probe: func(context.Context) error { return objects.Ready() },
	})
	return []component.Part{
		{Name: "first-objects", Runnable: objects},
		{Name: "kubernetes-service", Runnable: &bootstrap.KubernetesService{
			Client: client, ServiceIP: where.serviceIPs[0], ServiceCIDRs: where.serviceCIDRs,
			Address: where.advertised, Port: int32(where.port), Logger: logger,
		}},
	}, nil
}

// Run runs the server until ctx ends or a part of it does.
func (s *Server) Run(ctx context.Context) error { return s.group.Run(ctx) } //nolint:wrapcheck // names the part

// Ready returns nil while everything runs and the first objects are there.
func (s *Server) Ready() error {
	if err := s.group.Ready(); err != nil {
		return err //nolint:wrapcheck // says what
	}
	return s.health.Ready(context.Background()) //nolint:wrapcheck // says what
}

// AdminKubeconfig is the path of admin.conf.
func (s *Server) AdminKubeconfig() string { return s.files.AdminKubeconfig }

// LoopbackConfig is a client of this server that needs no network.
func (s *Server) LoopbackConfig() *rest.Config { return s.loopback.config() }

// documentsTag tells clients when to fetch the OpenAPI documents again: with
// another build or, where builds are not told apart, with another process.
func documentsTag() string {
	tag := component.Version + "-" + component.Build
	if component.Build == "unknown" || strings.HasSuffix(component.Build, "-dirty") {
		tag += "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	}
	return tag
}

package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"github.com/skeg-dev/skeg/apiserver/admission"
	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/apiserver/filter"
	"github.com/skeg-dev/skeg/apiserver/handler"
	"github.com/skeg-dev/skeg/apiserver/nodeproxy"
	"github.com/skeg-dev/skeg/apiserver/resource"
	"github.com/skeg-dev/skeg/apiserver/route"
	"github.com/skeg-dev/skeg/apiserver/store"
	"github.com/skeg-dev/skeg/internal/component"
)

// assembly is what the HTTP half of the server is put together from.
type assembly struct {
	options     *Options
	definitions []*resource.Definition
	stores      map[schema.GroupResource]store.Store
	reader      *reader
	authn       *authentication
	authz       *authorization
	// hooks beside those that guard RBAC.
	hooks map[string]handler.Hook
	// kubelets is the TLS configuration towards kubelets.
	kubelets *tls.Config
	// address is "host:port" told to clients.
	address string
	health  *component.Health
	openapi http.Handler
	merging managedfields.TypeConverter
	stop    <-chan struct{}
	logger  *slog.Logger
}

// build returns the server's handler: filters around routes around handlers.
func (a *assembly) build() (http.Handler, error) {
	plugins, err := a.plugins()
	if err != nil {
		return nil, err
	}
	calls := &direct{}
	hooks := escalationHooks(a.authz)
	for key, hook := range a.hooks {
		hooks[key] = hook
	}
	proxy := nodeproxy.New(nodeproxy.Config{
		Reader: a.reader, KubeletTLS: a.kubelets, AddressTypes: addressTypes(a.options.KubeletAddressTypes), Logger: a.logger,
	})
	calls.set, err = handler.New(handler.Config{
		Definitions: a.definitions, Stores: a.stores, Plugins: plugins, Hooks: hooks,
		Actions: newActions(a.authn, a.authz, a.stores, calls), Connectors: proxy.Connectors(),
		TypeConverter: a.merging, Stop: a.stop, Logger: a.logger,
	})
	if err != nil {
		return nil, fmt.Errorf("build handlers: %w", err)
	}
	router, err := route.New(route.Config{
		Definitions: a.definitions, Kinds: calls.set, Version: component.VersionInfo(), ServerAddress: a.address,
		Health: healthHandler(a.health), Metrics: component.MetricsHandler(), OpenAPI: a.openapi,
		Debug: profiling(a.options.Profiling),
		Extra: map[string]http.Handler{
			authn.OpenIDConfigurationPath: a.authn.documents.Configuration(),
			authn.JWKSPath:                a.authn.documents.Keys(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("build routes: %w", err)
	}
	return filter.Chain(filter.Config{
		Authenticator: a.authn, Authorizer: a.authz, RequestTimeout: a.options.RequestTimeout,
		MaxInFlight: a.options.MaxInFlight, MaxMutatingInFlight: a.options.MaxMutatingInFlight,
		Metrics: filter.RegisterMetrics(), Logger: a.logger,
	}, router), nil
}

// plugins are the admission plugins that run, without the disabled ones.
func (a *assembly) plugins() ([]admission.Plugin, error) {
	all := admission.Registry(admission.Config{Reader: a.reader, Authorizer: a.authz})
	var names []string
	for _, p := range all {
		names = append(names, p.Name())
	}
	for _, name := range slices.Concat(a.options.EnableAdmission, a.options.DisableAdmission) {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("--enable-admission-plugins, --disable-admission-plugins: %q is not one of %s", name, strings.Join(names, ", "))
		}
	}
	return slices.DeleteFunc(all, func(p admission.Plugin) bool {
		return slices.Contains(a.options.DisableAdmission, p.Name())
	}), nil
}

func addressTypes(names []string) []corev1.NodeAddressType {
	out := make([]corev1.NodeAddressType, len(names))
	for i, name := range names {
		out[i] = corev1.NodeAddressType(name)
	}
	return out
}

func healthHandler(h *component.Health) http.Handler {
	mux := http.NewServeMux()
	h.Install(mux)
	return mux
}

func profiling(on bool) http.Handler {
	if !on {
		return nil
	}
	mux := http.NewServeMux()
	component.InstallProfiling(mux, false)
	return mux
}

// draining ends watches when its context ends, before the listener waits for
// running requests.
type draining struct {
	health *component.Health
	stop   chan struct{}
	// delay is how long to go on serving while /readyz already fails.
	delay time.Duration
}

// Run implements component.Runnable.
func (d draining) Run(ctx context.Context) error {
	<-ctx.Done()
	d.health.Drain()
	<-time.After(d.delay)
	close(d.stop)
	return nil
}
